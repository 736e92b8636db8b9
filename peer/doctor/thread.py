"""Blocking work that may hang for ever (a DNS, a network file system) and must hold up nothing.

The event loop's own threads would be waited for at the end of the program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T]) -> _T:
    """The result of `work`, or its exception; whoever stops waiting leaves it behind."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # an error is None: a result is one

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as failed:  # noqa: BLE001  # handed on to who waits
            error = failed
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="odonata-doctor", daemon=True).start()
    return await done
