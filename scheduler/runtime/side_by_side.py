"""The same work for many things, a bounded number at a time. What the work is, others say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def for_each(items: Sequence[T], limit: int, work: Callable[[T], Awaitable[object]]) -> None:
    """Run `work(item)` for each item, at most `limit` at a time, in their order.

    The first error ends it all. There are as many tasks as run at a time, not as there are items.
    """
    rest = iter(items)

    async def worker() -> None:
        for item in rest:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(limit, len(items))):
            tasks.create_task(worker())
