"""One announce stream: what a download says to its scheduler, and what it hears.

Opens the stream, keeps the order, translates. A scheduler that no longer knows this host (it was
restarted) is told of it at once and the download registers once more; every other failure is the
core's to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from odonata.errors import OdonataError, UnavailableError
from odonata.grpc_client import closing_is_unavailable
from odonata.grpc_status import code_of
from odonata.grpc_stub import scheduler_stub
from odonata.tracing.span import carried
from odonata.wire.dragonfly import PeerRequest
from odonata.wire.dragonfly.feature import FEATURES_KEY, RESUMES
from odonata.wire.message import PeerMessage, Register, SchedulerAnswer, TaskType
from peer.runtime.announce import announce_of

MAX_UNSENT: Final = 8192
"""Messages that wait for a scheduler that does not read. A task has at most a few thousand pieces;
a scheduler further behind than this is as good as lost."""

CLOSE_S: Final = 5.0
"""How long to wait for the scheduler to end the stream after our last word."""

_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
    }
)
"""What a scheduler says that is there: asking it once more would not change its mind. UNKNOWN is
also what gRPC calls a stream whose connection broke at a bad moment."""

Hear = Callable[[SchedulerAnswer], Awaitable[None]]


class SchedulerEnd(Protocol):
    """What a conversation needs of the scheduler it talks to."""

    @property
    def channel(self) -> grpc.aio.Channel: ...
    @property
    def features(self) -> tuple[str, ...]:
        """What it is told that this peer can do."""
        ...

    async def announce(self) -> None:
        """Say who this host is, now. Raises OdonataError."""
        ...

    def suspect(self, reason: str) -> None:
        """It did not answer: look after it soon."""
        ...


class Conversation:
    """Say things with `say`, nothing more with `finish`; `listen` runs it to the end."""

    def __init__(
        self,
        scheduler: SchedulerEnd,
        host_id: str,
        task_id: str,
        peer_id: str,
        kind: TaskType = TaskType.STANDARD,
    ) -> None:
        self._scheduler = scheduler
        self._announce = announce_of(kind)
        self._host_id = host_id
        self._task_id = task_id
        self._peer_id = peer_id
        self._unsent: asyncio.Queue[PeerMessage | None] = asyncio.Queue(MAX_UNSENT)
        self._unanswered: list[PeerMessage] = []  # said before the first answer: may be said again
        self._answered = False
        self._finished = False
        self._resumes = False
        self.refused = False
        """The scheduler is there, and does not want this."""

    def say(self, message: PeerMessage) -> None:
        """Send `message` after all earlier ones. Raises UnavailableError if too many wait."""
        if isinstance(message, Register):
            self._resumes = message.resumes
        try:
            self._unsent.put_nowait(message)
        except asyncio.QueueFull:
            raise UnavailableError(
                f"the scheduler does not read: {MAX_UNSENT} messages wait for it"
            ) from None

    def finish(self) -> None:
        """Nothing more will be said."""
        if not self._finished:
            self._finished = True
            if not self._unsent.full():
                self._unsent.put_nowait(None)

    @property
    def finished(self) -> bool:
        return self._finished

    async def listen(self, hear: Hear) -> None:
        """Hand each answer to `hear`; return when the scheduler ends the stream.

        Raises UnavailableError if the stream broke or was refused, ProtocolError for an answer that
        the API does not allow.
        """
        try:
            await self._attempt(hear)
        except grpc.aio.AioRpcError as error:
            if self._answered or error.code() is not grpc.StatusCode.NOT_FOUND:
                raise self._translated(error) from error
            await self._scheduler.announce()
            self._resumes = True  # it has lost its memory, and others like us are on their way
            try:
                await self._attempt(hear)
            except grpc.aio.AioRpcError as again:
                raise self._translated(again) from again

    async def _attempt(self, hear: Hear) -> None:
        stub = scheduler_stub(self._scheduler.channel)
        # A scheduler that does not know the key ignores it.
        able = (*self._scheduler.features, *((RESUMES,) if self._resumes else ()))
        call = self._announce.open(stub, ((FEATURES_KEY, ",".join(able)), *carried()))
        writer = asyncio.get_running_loop().create_task(self._write(call))
        try:
            with closing_is_unavailable("the scheduler"):  # it may be taken off the list
                async for response in call:
                    await hear(self._answer(response))
        finally:
            writer.cancel()
            call.cancel()
            await asyncio.wait([writer])

    def _answer(self, response: Any) -> SchedulerAnswer:
        self._answered = True
        self._unanswered.clear()
        return self._announce.read(response)

    async def _write(self, call: Any) -> None:  # the stubs carry no types
        try:
            for again in tuple(self._unanswered):
                await call.write(self._wire(again))
            while (message := await self._unsent.get()) is not None:
                if not self._answered:
                    self._unanswered.append(message)
                await call.write(self._wire(message))
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            return  # the stream is over: the reader knows why

    def _wire(self, message: PeerMessage) -> Any:
        request = PeerRequest(
            host_id=self._host_id, task_id=self._task_id, peer_id=self._peer_id, message=message
        )
        return self._announce.write(request)

    def _translated(self, error: grpc.aio.AioRpcError) -> OdonataError:
        code = code_of(error)
        reason = f"the scheduler's stream ended with {code.name}: {error.details()}"
        self.refused = code in _REFUSALS
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}:
            self._scheduler.suspect(reason)
        return UnavailableError(reason)
