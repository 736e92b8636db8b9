"""An event loop in a thread of its own, for what is asynchronous beside a test that is not.

with LoopThread() as thread:
    receiver = thread.enter(receiving_grpc())        # an asynchronous context
    ... thread.run(receiver.until(...)) ...
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0


class LoopThread:
    """The contexts that were entered end with it, the last one first."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """What the context yields."""
        return self.run(self._stack.enter_async_context(context))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, waited for. TimeoutError after PATIENCE_S."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)
