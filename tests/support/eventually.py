"""Wait for what a test can only see from outside, such as a counter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Return as soon as `condition()` is true; TimeoutError if that takes longer than it may."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


async def eventually_is(
    ask: Callable[[], Awaitable[object]], wanted: object, timeout_s: float = 20.0
) -> None:
    """Ask again and again until the answer is `wanted`; AssertionError with the last one if not."""
    answer: object = None
    try:
        async with asyncio.timeout(timeout_s):
            while (answer := await ask()) != wanted:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"wanted {wanted}, last saw {answer}") from None
