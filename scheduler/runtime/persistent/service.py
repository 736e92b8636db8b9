"""The rpcs of scheduler.v2 about persistent and persistent cache tasks; requests become events.

No decision is made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from dragonfly_api import common_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.errors import (
    CallerError,
    CapacityError,
    InternalError,
    NotFoundError,
    PreconditionError,
)
from odonata.grpc_service import WRITE_TIMEOUT_S
from odonata.wire.dragonfly import require_id
from odonata.wire.dragonfly.persistent import PersistentTaskMessage, rpcs_named
from odonata.wire.message import TaskType
from scheduler.core.persistent.effect import Answer, AnswerTask, CloseStream, Parents
from scheduler.core.persistent.event import (
    PeerDeleted,
    PeerSpoke,
    PiecesFinished,
    Register,
    StreamClosed,
    TaskDeleted,
    UploadFailed,
    UploadFinished,
)
from scheduler.core.persistent.state import Kind
from scheduler.runtime.persistent.wire import (
    PersistentPeerMessage,
    PersistentRequest,
    answer_to_wire,
    peer_to_wire,
    request_from_wire,
    task_to_wire,
    upload_from_wire,
)

if TYPE_CHECKING:
    # What imports Redis's client is not imported without Redis.
    from scheduler.runtime.persistent.tasks import PersistentTasks, Told

# Pieces that are written to Redis together: no decision waits for them, and a task of 10,000 pieces
# is to cost 160 writes, not 10,000.
MAX_UNWRITTEN_PIECES = 64

# About 25 KiB each: 250 MiB at the very most.
MAX_STREAMS = 10_000

_log = structlog.get_logger(__name__)


class _Streams:
    """How many announce streams are open, of both kinds together."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one_more(self) -> Generator[None]:
        """While it is open. Raises CapacityError."""
        if self._count >= MAX_STREAMS:
            raise CapacityError(
                f"{MAX_STREAMS} peers download persistent tasks: try again later, or add a"
                " scheduler"
            )
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class _Rpcs:
    """The rpcs of one kind of task. `tasks` is None if there is no Redis: all are refused."""

    def __init__(self, kind: Kind, tasks: PersistentTasks | None, streams: _Streams) -> None:
        self._kind = kind
        self._tasks = tasks
        self._streams = streams

    def _need_tasks(self) -> PersistentTasks:
        if self._tasks is None:
            raise PreconditionError(
                "redis is not enabled: persistent tasks need database.redis.addrs of the scheduler"
            )
        return self._tasks

    async def announce_peer(self, requests: AsyncIterator[Any], context: Any) -> None:
        """One download of one peer, from other peers or (no cache task) object storage."""
        conversation = _Conversation(self._need_tasks(), self._kind, context)
        with self._streams.one_more():
            try:
                await conversation.hold(requests)
            finally:
                conversation.end()

    async def upload_started(self, request: Any, _context: Any) -> Empty:
        event = upload_from_wire(request)
        await self._need_tasks().hear(
            self._kind, event.task.id, event, host_id=event.host_id, peer_id=event.peer_id
        )
        _log.info(
            "upload_started", kind=str(self._kind), task_id=event.task.id, host_id=event.host_id
        )
        return Empty()

    async def upload_finished(self, request: Any, _context: Any) -> PersistentTaskMessage:
        host_id, task_id, peer_id = _ids(request)
        event = UploadFinished(host_id=host_id, peer_id=peer_id)
        told = await self._need_tasks().hear(
            self._kind, task_id, event, host_id=host_id, peer_id=peer_id
        )
        _log.info("upload_finished", kind=str(self._kind), task_id=task_id, host_id=host_id)
        for effect in told:
            if isinstance(effect, AnswerTask):
                return task_to_wire(self._kind, effect.status)
        raise InternalError("the end of an upload got no answer")

    async def upload_failed(self, request: Any, _context: Any) -> Empty:
        host_id, task_id, peer_id = _ids(request)
        event = UploadFailed(host_id=host_id, peer_id=peer_id, description=request.description)
        await self._need_tasks().hear(self._kind, task_id, event, host_id=host_id, peer_id=peer_id)
        _log.info(
            "upload_failed", kind=str(self._kind), task_id=task_id, reason=request.description
        )
        return Empty()

    async def stat_task(self, request: Any, _context: Any) -> PersistentTaskMessage:
        require_id("host_id", request.host_id)
        task_id = require_id("task_id", request.task_id)
        return task_to_wire(self._kind, await self._need_tasks().stat_task(self._kind, task_id))

    async def delete_task(self, request: Any, _context: Any) -> Empty:
        host_id = require_id("host_id", request.host_id)
        task_id = require_id("task_id", request.task_id)
        await self._need_tasks().hear(self._kind, task_id, TaskDeleted())
        _log.info("persistent_task_deleted", kind=str(self._kind), task_id=task_id, host_id=host_id)
        return Empty()

    async def stat_peer(self, request: Any, _context: Any) -> PersistentPeerMessage:
        _, task_id, peer_id = _ids(request)
        tasks = self._need_tasks()
        status = await tasks.stat_peer(self._kind, task_id, peer_id)
        host_id = status.peer.host_id
        hosts = await tasks.announced_hosts(self._kind, [host_id])
        if host_id not in hosts:
            raise NotFoundError(f"host {host_id} of peer {peer_id} has just left")
        return peer_to_wire(self._kind, status.peer, status.task, hosts[host_id])

    async def delete_peer(self, request: Any, _context: Any) -> Empty:
        host_id, task_id, peer_id = _ids(request)
        event = PeerDeleted(host_id=host_id, peer_id=peer_id)
        await self._need_tasks().hear(self._kind, task_id, event, peer_id=peer_id)
        _log.info("persistent_peer_deleted", kind=str(self._kind), task_id=task_id, peer_id=peer_id)
        return Empty()


def service_parts(tasks: PersistentTasks | None) -> tuple[object, ...]:
    """The rpcs by their names, a part for each kind. `tasks` None: all of them are refused."""
    streams = _Streams()
    return tuple(_part(kind, _Rpcs(kind, tasks, streams)) for kind in Kind)


def _part(kind: Kind, rpcs: _Rpcs) -> object:
    return rpcs_named(
        TaskType[kind.name],
        {
            "Announce{}Peer": rpcs.announce_peer,
            "Upload{}TaskStarted": rpcs.upload_started,
            "Upload{}TaskFinished": rpcs.upload_finished,
            "Upload{}TaskFailed": rpcs.upload_failed,
            "Stat{}Task": rpcs.stat_task,
            "Delete{}Task": rpcs.delete_task,
            "Stat{}Peer": rpcs.stat_peer,
            "Delete{}Peer": rpcs.delete_peer,
        },
    )


def _ids(request: Any) -> tuple[str, str, str]:
    return (
        require_id("host_id", request.host_id),
        require_id("task_id", request.task_id),
        require_id("peer_id", request.peer_id),
    )


class _Conversation:
    """One announce stream. Messages are handled one after the other, answers sent at once."""

    def __init__(self, tasks: PersistentTasks, kind: Kind, context: Any) -> None:
        self._tasks = tasks
        self._kind = kind
        self._context = context
        self._who: tuple[str, str, str] | None = None
        self._pieces: list[int] = []
        self._over = False  # the core has closed it

    async def hold(self, requests: AsyncIterator[Any]) -> None:
        """Until the client or the core ends the stream. Raises what it ends with."""
        async for wire in requests:
            request = request_from_wire(wire)
            self._check(request)
            if isinstance(request.message, PiecesFinished):
                self._pieces += request.message.numbers
                if len(self._pieces) < MAX_UNWRITTEN_PIECES:
                    continue
                await self._write_pieces()
            else:
                await self._write_pieces()
                await self._hear(request)
            if self._over:
                return
        await self._write_pieces()

    def _check(self, request: PersistentRequest) -> None:
        who = (request.host_id, request.task_id, request.peer_id)
        if self._who is not None:
            if who != self._who:
                raise CallerError(
                    f"host_id, task_id, peer_id changed in mid-stream from {self._who} to {who}:"
                    " open a stream of its own for each download of a peer"
                )
        elif not isinstance(request.message, Register):
            raise CallerError(
                f"the first message of a stream is {type(request.message).__name__}: send the"
                " register request first"
            )

    async def _hear(self, request: PersistentRequest) -> None:
        event = PeerSpoke(host_id=request.host_id, peer_id=request.peer_id, message=request.message)
        told = await self._tasks.hear(
            self._kind,
            request.task_id,
            event,
            host_id=request.host_id,
            peer_id=request.peer_id,
        )
        self._who = (request.host_id, request.task_id, request.peer_id)
        await self._tell(told)

    async def _tell(self, told: list[Told]) -> None:
        for effect in told:
            if isinstance(effect, Answer):
                await self._answer(effect)
            elif isinstance(effect, CloseStream):
                self._over = True
                if effect.error is not None:
                    raise effect.error

    async def _answer(self, effect: Answer) -> None:
        hosts: dict[str, common_pb2.Host] = {}
        if isinstance(effect.answer, Parents):
            ids = {peer.host_id for peer in effect.answer.peers}
            hosts = await self._tasks.announced_hosts(self._kind, sorted(ids))
            if not hosts:
                raise PreconditionError("no candidate parents found: their hosts have just left")
        wire = answer_to_wire(self._kind, effect.answer, effect.task, hosts)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._context.write(wire)
        except TimeoutError:
            raise CapacityError(
                f"an answer was not read within {WRITE_TIMEOUT_S:g} s: read the stream as they come"
            ) from None
        assert self._who is not None, "an answer follows a message"
        _log.info(
            "answered",
            peer_id=self._who[2],
            kind=str(self._kind),
            answer=type(effect.answer).__name__,
        )

    async def _write_pieces(self) -> None:
        if self._pieces and self._who is not None:
            host_id, _, peer_id = self._who
            numbers, self._pieces = tuple(self._pieces), []
            message = PiecesFinished(numbers=numbers)
            event = PeerSpoke(host_id=host_id, peer_id=peer_id, message=message)
            await self._tell(
                await self._tasks.hear(self._kind, self._who[1], event, peer_id=peer_id)
            )

    def end(self) -> None:
        """The stream is over, however it came about."""
        if self._who is not None and not self._over:
            host_id, task_id, peer_id = self._who
            event = StreamClosed(host_id=host_id, peer_id=peer_id)
            self._tasks.aside(self._close(task_id, event))

    async def _close(self, task_id: str, event: StreamClosed) -> None:
        await self._tasks.hear(self._kind, task_id, event, peer_id=event.peer_id)
