"""The answering side of one AnnouncePeer stream: a bounded queue, and how the stream ends.

Answers come from the core at any time, also when another peer's message brought them about; they
leave in order, one by one, as fast as the client reads. Reading requests is the service's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from odonata.errors import CapacityError, OdonataError
from odonata.wire.message import SchedulerAnswer

# A stock client gets one answer for each register or reschedule and leaves after five; our own
# peers get a few more as others join. Whoever has 64 unread does not read (about 10 KiB each).
MAX_QUEUED_ANSWERS = 64

# The same as a stock client allows for one send. An answer that was not taken by then never will
# be.
WRITE_TIMEOUT_S = 10.0


class PeerStream:
    """Queue of answers of one stream. `close` decides how it ends; the first one counts."""

    def __init__(self) -> None:
        self.owner: tuple[str, str] = ("", "")
        """Host and task id of the peer, once it has registered."""
        self.on_answer: Callable[[SchedulerAnswer], None] | None = None
        """Told of each answer as it is queued."""
        self._answers: deque[SchedulerAnswer] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._error: OdonataError | None = None

    @property
    def closed(self) -> bool:
        """Whether it is decided how the stream ends (answers may still be on their way)."""
        return self._closed

    @property
    def failed(self) -> bool:
        """Whether it ends, or has ended, with an error."""
        return self._error is not None

    def answer(self, answer: SchedulerAnswer) -> bool:
        """Queue `answer`; False if the stream ends instead, because it is closed or never read."""
        if self._closed:
            return False
        if len(self._answers) >= MAX_QUEUED_ANSWERS:
            self._answers.clear()
            self.close(
                CapacityError(
                    f"{MAX_QUEUED_ANSWERS} answers wait to be read: read the stream as they come"
                )
            )
            return False
        self._answers.append(answer)
        self._news.set()
        if self.on_answer is not None:
            self.on_answer(answer)
        return True

    def close(self, error: OdonataError | None = None) -> None:
        """End the stream after the answers queued so far: OK, or with `error`."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._news.set()

    async def drain(
        self, write: Callable[[SchedulerAnswer], Awaitable[None]]
    ) -> OdonataError | None:
        """Write answers until the stream is closed; return the error it was closed with."""
        while True:
            while self._answers:
                try:
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await write(self._answers.popleft())
                except TimeoutError:
                    return CapacityError(
                        f"an answer was not read within {WRITE_TIMEOUT_S:g} s: read the stream as "
                        "they come"
                    )
            if self._closed:
                return self._error
            self._news.clear()
            await self._news.wait()
