"""The piece client: one piece from one parent over Vortex TCP, checked, into the task's file.

    buffer -> connection -> request -> head -> content into the buffer -> check, write

The buffer comes first: waiting for memory must not hold a slot of the parent. Bytes are received
whole, since a piece that fails its check must never touch the file. The last of them are taken off
the kernel by the thread that checks and writes them: when that begins, the parent has sent all, or
will have in a moment (`peer.core.pace`).

It does not choose parents, retry or blame; errors say what happened (see `PieceFetcher`). But a
kept connection that broke before the parent said a word is replaced by a new one: it was closed
while it lay idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from odonata.errors import NotFoundError, PeerRefusedError, ProtocolError, UnavailableError
from odonata.piece import PIECE_LENGTH_MAX, piece_at
from odonata.wire import vortex
from odonata.wire.dragonfly.feature import GIVES_ONCE, PASSES_ON, SPEAKS_TLS, TAKES_GREETINGS
from odonata.wire.message import Piece, TrafficType
from peer.runtime.buffer import BufferPool
from peer.runtime.limit import Unlimited, slice_bytes
from peer.runtime.piece_connection import ParentAddress, PieceConnections, reason_of
from peer.runtime.piece_wire import RECEIVE_WAKE_BYTES, PieceWire
from peer.runtime.port import AheadPiece, Early, FetchTimes, RateLimit, StoredTask
from peer.runtime.reception import Reception, Receptions, step_bytes

WARNED_MAX = 1024  # parents remembered as having been warned about

HEAD_READ_BYTES = 512
"""Read at first: more than a head (some 150 bytes), so that one read brings all of it; what it
brings of the content is copied, so not much more."""

_log = structlog.get_logger(__name__)


class _StaleError(UnavailableError):
    """The connection ended before a byte of the answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A piece, whom it is asked of, and where it goes."""

    address: ParentAddress
    request: vortex.PieceRequest
    task: StoredTask
    buffer: memoryview
    parent_id: str
    times: FetchTimes
    is_told: bool
    began_s: float
    early: Early | None


class _Answer:
    """What comes over one connection in answer to one request: a head, and the content."""

    def __init__(self, wire: PieceWire, address: ParentAddress, times: FetchTimes) -> None:
        self.wire = wire
        self.address = address
        self.times = times
        self.is_held = False
        """Its connection is neither closed nor kept yet: more of it will be read."""
        self._before: int | None = None
        self._begun = b""
        self.is_cheap = wire.is_cheap_to_take
        self.data = memoryview(b"")
        """Where the content goes; the first `position` bytes are there."""
        self.position = 0
        self.is_over = False
        """All of it was read: the connection is good for another one."""

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    async def begin(self, request: vortex.PieceRequest) -> Piece:
        """Ask. What the parent says of the piece; or why there is none."""
        self._before = self.wire.received_bytes()
        await self._ask(request)
        self.times.requested_at_s = time.monotonic()
        answer, self._begun = await self._head(request)
        self.is_over = isinstance(answer, vortex.Refusal) and not self._begun
        said = _piece_in(answer)
        self.times.first_byte_at_s = time.monotonic()
        return said

    def accept(self, said: Piece, wanted: _Wanted) -> None:
        """Its content goes there; ProtocolError unless it is the piece of our grid."""
        _check_place(said, wanted.task, len(wanted.buffer))
        content, self._begun = self._begun, b""
        self.data = wanted.buffer[: said.length]
        if len(content) > said.length:
            raise ProtocolError(
                f"the parent sent more than the {said.length} bytes of piece {said.number}"
            )
        self.data[: len(content)] = content
        self.position = len(content)
        # Asked rarely, so it is the kernel that counts, where it can.
        before = self._before
        self.times.received = (
            (lambda: self.position) if before is None else _counter(self.wire, before)
        )

    async def _ask(self, request: vortex.PieceRequest) -> None:
        try:
            await self.wire.send(vortex.encode_request(request))
        except ConnectionError as error:
            raise _StaleError(f"the connection broke at once: {reason_of(error)}") from error

    async def _head(self, request: vortex.PieceRequest) -> tuple[Piece | vortex.Refusal, bytes]:
        """The head, and what was read beyond it: with the first read, as a rule, all of it."""
        parser = vortex.AnswerParser(request)
        data, began = b"", False
        while parser.need:
            if len(data) < parser.need:
                data += await self._more(began)
                began = True
                continue
            parser.feed(data[: (need := parser.need)])
            data = data[need:]
        return parser.answer, data

    async def _more(self, began: bool) -> bytes:
        """_StaleError: nothing comes, and nothing came before."""
        try:
            await self.wire.arrival(1)
            data = await self.wire.receive_some(HEAD_READ_BYTES)
        except ConnectionError as error:
            if began:
                raise
            reason = f"the connection broke without an answer: {reason_of(error)}"
            raise _StaleError(reason) from error
        if not data:
            kind = UnavailableError if began else _StaleError
            raise kind("the parent closed the connection without an answer")
        return data

    async def arrival(self, end: int) -> None:
        """Return once there is something to take up to `end`, or nothing is missing there."""
        if self.position < end:
            await self.wire.arrival(end - self.position)

    def hurry(self) -> None:
        """See `Incoming`."""
        self.wire.hurry()

    def take(self, end: int, patience_s: float = 0.0) -> None:
        """What has come of the content up to `end`. UnavailableError if nothing more will.

        With `patience_s`, in a thread: what comes within that time.
        """
        try:
            self.position += self.wire.take(self.data[self.position : end], patience_s)
        except EOFError:
            raise UnavailableError(
                f"the parent closed the connection after {self.position} of {len(self.data)} bytes"
            ) from None
        self.is_over = self.position == len(self.data)

    def patience_s(self) -> float:
        """How long the thread that checks the piece may wait for the rest of it."""
        return self.wire.pace.patience_s(self.left)

    def came(self, first_byte_at_s: float | None) -> None:
        """All of it is there."""
        if first_byte_at_s is not None:
            self.wire.pace.came(len(self.data), time.monotonic() - first_byte_at_s)


class _AheadPiece:
    """An `AheadPiece`: an answer whose head has come."""

    def __init__(self, answer: _Answer, said: Piece) -> None:
        self.answer = answer
        self.said = said

    @property
    def asked_at_s(self) -> float:
        return self.answer.times.requested_at_s or 0.0

    def close(self) -> None:
        self.answer.wire.close()


class PieceClient:
    """A `PieceFetcher` and an `AheadAsker`.

    One for the whole daemon: buffers, connections and the limit are shared.
    """

    def __init__(
        self,
        buffers: BufferPool,
        *,
        limit: RateLimit | None = None,
        connections: PieceConnections | None = None,
        receptions: Receptions | None = None,
    ) -> None:
        """`connections` None: plain ones, of which none is kept.

        `receptions`: where pieces are entered while they come; None: nobody looks at them.
        """
        self._buffers = buffers
        self._limit = limit or Unlimited()
        self._slice_bytes = slice_bytes(self._limit)
        narrow = not isinstance(self._limit, Unlimited)
        self._connections = connections or PieceConnections(None, narrow=narrow)
        self._receptions = receptions or Receptions()
        self._warned: set[str] = set()

    async def fetch(
        self,
        ip: str,
        port: int,
        task: StoredTask,
        number: int,
        *,
        parent_id: str,
        timeout_s: float,
        times: FetchTimes | None = None,
        features: Collection[str] = (),
        is_patient: bool = True,
        is_exclusive: bool = False,
        is_passed_on: bool = False,
        is_told: bool = True,
        early: Early | None = None,
        ahead: AheadPiece | None = None,
    ) -> Piece:
        """See `PieceFetcher.fetch`."""
        assert ahead is None or isinstance(ahead, _AheadPiece), "it is not of this fetcher"
        address = _address(ip, port, features)
        request = vortex.PieceRequest(
            task_id=task.task_id,
            number=number,
            tag=vortex.TAGS[task.kind],
            is_patient=is_patient or not address.takes_greetings,
            is_exclusive=is_exclusive and address.takes_greetings and GIVES_ONCE in features,
            is_passed_on=is_passed_on and address.takes_greetings and PASSES_ON in features,
        )
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._buffers.lease(_room_for(task, number, early)) as buffer,
            ):
                wanted = _Wanted(
                    address=address,
                    request=request,
                    task=task,
                    buffer=buffer,
                    parent_id=parent_id,
                    times=times or FetchTimes(),
                    is_told=is_told,
                    began_s=time.monotonic() if ahead is None else ahead.asked_at_s,
                    early=early,
                )
                return await self._fetch(wanted, ahead)
        except TimeoutError:
            raise TimeoutError(
                f"piece {number} from {ip}:{port} took more than {timeout_s:g} s"
            ) from None
        finally:
            if ahead is not None and not ahead.answer.is_over:
                ahead.close()

    async def ask_ahead(
        self, ip: str, port: int, task_id: str, *, features: Collection[str], timeout_s: float
    ) -> AheadPiece | None:
        """See `AheadAsker.ask_ahead`."""
        address, times = _address(ip, port, features), FetchTimes()
        if not address.takes_greetings:
            return None  # it would not know what is meant, and send whatever it is asked for
        request = vortex.PieceRequest(task_id=task_id, number=0, is_patient=False, is_ahead=True)
        async with asyncio.timeout(timeout_s):
            kept = self._connections.take(address)
            if kept is not None:
                try:
                    return await self._asked(_Answer(kept, address, times), request)
                except _StaleError:
                    pass  # as in `_fetch`
            wire = await self._connections.open(address)
            return await self._asked(_Answer(wire, address, times), request)

    async def _asked(self, answer: _Answer, request: vortex.PieceRequest) -> _AheadPiece | None:
        with self._using(answer):
            try:
                said = await answer.begin(request)
            except (NotFoundError, PeerRefusedError):
                return None
            if said.length > vortex.AHEAD_BYTES_MAX:
                raise ProtocolError(
                    f"asked ahead for at most {vortex.AHEAD_BYTES_MAX} bytes, the parent sends "
                    f"{said.length}"
                )
            answer.is_held = True
        return _AheadPiece(answer, said)

    async def _fetch(self, wanted: _Wanted, ahead: _AheadPiece | None) -> Piece:
        if ahead is not None:
            return await self._finish(ahead, wanted)
        kept = self._connections.take(wanted.address)
        if kept is not None:
            try:
                return await self._exchange(kept, wanted)
            except _StaleError:
                pass  # it was closed while it lay idle
        return await self._exchange(await self._connections.open(wanted.address), wanted)

    async def _finish(self, ahead: _AheadPiece, wanted: _Wanted) -> Piece:
        """Take what was asked for ahead, as if it had been asked for now, a while ago."""
        answer = ahead.answer
        answer.is_held = False
        wanted.times.requested_at_s = answer.times.requested_at_s
        wanted.times.first_byte_at_s = answer.times.first_byte_at_s
        answer.times = wanted.times
        with self._using(answer):
            return await self._take(answer, ahead.said, wanted)

    async def _exchange(self, wire: PieceWire, wanted: _Wanted) -> Piece:
        """One question and its answer."""
        answer = _Answer(wire, wanted.address, wanted.times)
        with self._using(answer):
            return await self._take(answer, await answer.begin(wanted.request), wanted)

    @contextmanager
    def _using(self, answer: _Answer) -> Generator[None]:
        """At the end its connection is kept, but only if all of it was read."""
        try:
            yield
        except TimeoutError:
            raise
        except OSError as error:
            raise UnavailableError(
                f"the connection to parent {answer.address.ip}:{answer.address.port} broke: "
                f"{reason_of(error)}"
            ) from error
        finally:
            if answer.is_over:
                self._connections.keep(answer.wire, answer.address)
            elif not answer.is_held:
                answer.wire.close()

    async def _take(self, answer: _Answer, said: Piece, wanted: _Wanted) -> Piece:
        answer.accept(said, wanted)
        await _known(said, wanted)
        piece = msgspec.structs.replace(
            said, parent_id=wanted.parent_id, traffic_type=TrafficType.REMOTE_PEER
        )
        if not piece.digest:
            self._warn_no_digest(wanted.parent_id)
        with self._receptions.begin(
            wanted.task.task_id, piece, answer, is_told=wanted.is_told
        ) as reception:
            return await self._receive(answer, piece, wanted, reception)

    async def _receive(
        self, answer: _Answer, piece: Piece, wanted: _Wanted, reception: Reception
    ) -> Piece:
        """The content, as the limit lets it come: into the buffer, and at last into the task."""
        allowed, patience_s = 0, answer.patience_s()
        while True:
            if answer.position >= allowed and allowed < piece.length:
                part = min(self._slice_bytes, piece.length - allowed)
                await self._limit.acquire(part)
                allowed += part
            if reception.is_followed:
                step = _step(answer, wanted.times)
                await answer.arrival(min(allowed, answer.position + step))
                has_more = answer.left > step
            else:
                await answer.arrival(allowed)
                has_more = answer.left > RECEIVE_WAKE_BYTES and answer.is_cheap and not patience_s
            if allowed < piece.length or has_more or reception.is_followed:
                answer.take(allowed)
                reception.grew()
                if not answer.is_over:
                    continue
            rest = partial(_whole, piece, answer, wanted, patience_s)
            stored = await wanted.task.receive(piece, answer.data, rest)
            patience_s = 0.0  # once
            if answer.is_over:
                wanted.times.received = lambda: len(answer.data)
            if stored is not None:
                return stored

    def _warn_no_digest(self, parent_id: str) -> None:
        """Say it once: Dragonfly makes such pieces by hard link, so they are taken unchecked."""
        if parent_id in self._warned:
            return
        if len(self._warned) >= WARNED_MAX:
            self._warned.clear()
        self._warned.add(parent_id)
        _log.warning("piece_without_digest", parent_id=parent_id)


def _address(ip: str, port: int, features: Collection[str]) -> ParentAddress:
    return ParentAddress(
        ip=ip,
        port=port,
        takes_greetings=TAKES_GREETINGS in features,
        speaks_tls=SPEAKS_TLS in features,
    )


def _step(answer: _Answer, times: FetchTimes) -> int:
    """How much to wait for while the piece is passed on."""
    took_s = time.monotonic() - (times.first_byte_at_s or 0.0)
    return step_bytes(answer.position, took_s)


def _counter(wire: PieceWire, before: int | None) -> Callable[[], int]:
    """What has come of the content, and its head, when `before` was all that had come."""
    if before is None:
        return lambda: 0
    return lambda: max(0, (wire.received_bytes() or 0) - before)


def _whole(piece: Piece, answer: _Answer, wanted: _Wanted, patience_s: float) -> Piece | None:
    """In the thread that checks the piece: `piece` and what it took, if all of it is there."""
    answer.take(len(answer.data), patience_s)
    if not answer.is_over:
        return None
    answer.came(wanted.times.first_byte_at_s)
    cost_s = time.monotonic() - wanted.began_s
    return msgspec.structs.replace(piece, cost_s=cost_s, created_at_s=time.time())


def _piece_in(answer: Piece | vortex.Refusal) -> Piece:
    if isinstance(answer, vortex.Refusal):
        raise answer.to_error()
    return answer


async def _known(said: Piece, wanted: _Wanted) -> None:
    """Return when the piece can be stored, which is at once but for one that was asked early."""
    if wanted.early is not None:
        await wanted.early.learned.wait()
        _check_place(said, wanted.task, _room_for(wanted.task, said.number))


def _room_for(task: StoredTask, number: int, early: Early | None = None) -> int:
    """How large a buffer the piece needs at most."""
    if task.piece_length is None:
        return PIECE_LENGTH_MAX if early is None else min(early.length, PIECE_LENGTH_MAX)
    if task.content_length is None:
        return task.piece_length
    return piece_at(number, task.content_length, task.piece_length)[1]


def _check_place(said: Piece, task: StoredTask, room: int) -> None:
    """ProtocolError before a byte of content is read, unless the piece is the one of our grid."""
    fits = 0 < said.length <= room
    if task.piece_length is not None:
        fits = fits and said.offset == said.number * task.piece_length
        if task.content_length is not None:
            fits = fits and said.length == room
    if not fits:
        raise ProtocolError(
            f"the parent says that piece {said.number} is {said.length} bytes at {said.offset}; "
            f"here it has {room} bytes (pieces of {task.piece_length})"
        )
