"""One announce stream: what a download says to its scheduler, and what it hears.

Opens the stream, keeps the order, translates. A scheduler that no longer knows this host (it was
restarted) is told of it at once and the download registers once more; every other failure is the
core's to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeGuard

import grpc
import grpc.aio

from odonata.errors import OdonataError, UnavailableError
from odonata.grpc_client import closing_is_unavailable
from odonata.grpc_status import code_of
from odonata.grpc_stub import scheduler_stub
from odonata.tracing.span import carried
from odonata.wire.dragonfly import PeerRequest
from odonata.wire.dragonfly.feature import FEATURES_KEY, RESUMES
from odonata.wire.dragonfly.piece_list import PIECES_MAX
from odonata.wire.message import (
    PeerMessage,
    PieceFinished,
    Register,
    SchedulerAnswer,
    TaskType,
    TrafficType,
)
from peer.runtime.announce import announce_of

MAX_UNSENT: Final = 8192
"""Messages that wait for a scheduler that does not read. A task has at most a few thousand pieces;
a scheduler further behind than this is as good as lost."""

GATHER_S: Final = 0.02
"""Pieces that parents bring are told so often at most, where they may be told together. A message
costs half a millisecond of CPU, both sides together, and a piece in it little. Rates are counted by
when a report comes, so it must not be much longer than a piece takes."""

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

    @property
    def takes_pieces_together(self) -> bool:
        """Pieces that parents brought may be told in one message."""
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
        self._is_standard = kind is TaskType.STANDARD
        self._host_id = host_id
        self._task_id = task_id
        self._peer_id = peer_id
        self._unsent: asyncio.Queue[PeerMessage | None] = asyncio.Queue(MAX_UNSENT)
        self._read_ahead: list[PeerMessage | None] = []
        self._told_pieces_at_s = 0.0
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
            while (message := await self._next()) is not None:
                if not self._answered:
                    self._unanswered.append(message)
                await call.write(self._wire(message, await self._others(message)))
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            return  # the stream is over: the reader knows why

    async def _next(self) -> PeerMessage | None:
        return self._read_ahead.pop() if self._read_ahead else await self._unsent.get()

    async def _others(self, message: PeerMessage) -> list[PieceFinished]:
        """What may be told together with `message`: pieces that came in the last GATHER_S.

        None before the first answer: what was said until then may have to be said again.
        """
        together = self._is_standard and self._scheduler.takes_pieces_together
        others: list[PieceFinished] = []
        if not (together and self._answered and _is_brought(message)):
            return others
        clock = asyncio.get_running_loop().time
        pause_s = self._told_pieces_at_s + GATHER_S - clock()
        if pause_s > 0.0:
            await asyncio.sleep(pause_s)
        self._told_pieces_at_s = clock()
        while len(others) < PIECES_MAX and not self._unsent.empty():
            following = self._unsent.get_nowait()
            if following is None or not _is_brought(following):
                self._read_ahead.append(following)
                break
            others.append(following)
        return others

    def _wire(self, message: PeerMessage, others: Sequence[PieceFinished] = ()) -> Any:
        request = PeerRequest(
            host_id=self._host_id, task_id=self._task_id, peer_id=self._peer_id, message=message
        )
        return self._announce.write(request, others)

    def _translated(self, error: grpc.aio.AioRpcError) -> OdonataError:
        code = code_of(error)
        reason = f"the scheduler's stream ended with {code.name}: {error.details()}"
        self.refused = code in _REFUSALS
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}:
            self._scheduler.suspect(reason)
        return UnavailableError(reason)


def _is_brought(message: PeerMessage) -> TypeGuard[PieceFinished]:
    """A parent brought the piece that it reports."""
    return (
        isinstance(message, PieceFinished) and message.piece.traffic_type is TrafficType.REMOTE_PEER
    )
