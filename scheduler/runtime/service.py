"""scheduler.v2.Scheduler over gRPC: requests become events, effects become answers.

No decision is made here. What this service does not have (persistent tasks, cache tasks,
preheating) the server answers UNIMPLEMENTED with the name of the rpc. Request headers are never
logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import structlog
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.errors import CallerError, OdonataError
from odonata.wire.dragonfly import (
    PeerRequest,
    answer_to_wire,
    check_host,
    duration_from_wire,
    host_from_wire,
    request_from_wire,
    require_id,
)
from odonata.wire.dragonfly.feature import (
    FEATURES_KEY,
    HOLDS_CONTACT,
    RESUMES,
    TAKES_NEWS,
    UNSIZED_REGISTER,
    WRITES_PIECES,
    features_in,
)
from odonata.wire.message import HostType, Register, SchedulerAnswer
from scheduler.core.event import (
    HostAnnounced,
    HostDeleted,
    PeerDeleted,
    PeerSpoke,
    TaskDeleted,
)
from scheduler.core.query import HostStatus, PeerStatus, TaskStatus
from scheduler.runtime.executor import Executor
from scheduler.runtime.status import WallClock, host_status_to_wire, peer_to_wire, task_to_wire
from scheduler.runtime.stream import PeerStream

FEATURES: Final = ((FEATURES_KEY, f"{UNSIZED_REGISTER},{HOLDS_CONTACT}"),)

_log = structlog.get_logger(__name__)


class Queries(Protocol):
    """What may be asked of the core: see `scheduler.core.query`."""

    def stat_task(self, task_id: str) -> TaskStatus: ...
    def stat_peer(self, peer_id: str) -> PeerStatus: ...
    def list_hosts(self, host_type: HostType | None = None) -> list[HostStatus]: ...


class SchedulerService:
    """The rpcs, by their names. Errors are raised; the server turns them into statuses."""

    def __init__(self, executor: Executor, queries: Queries) -> None:
        self._executor = executor
        self._queries = queries
        self._clock = WallClock(executor.now)

    # --- hosts ------------------------------------------------------------------------------------

    async def AnnounceHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.AnnounceHostRequest, context: Any
    ) -> Empty:
        await context.send_initial_metadata(FEATURES)
        if not request.HasField("host"):
            raise CallerError("host of an AnnounceHostRequest is not set: say who announces itself")
        host = check_host(host_from_wire(request.host))
        interval_s = duration_from_wire(request.interval)
        if interval_s < 0:
            raise CallerError(
                f"interval {interval_s:g} s is negative: leave it unset, or say how often"
            )
        returns = RESUMES in features_in(context.invocation_metadata())
        self._executor.apply(HostAnnounced(host=host, interval_s=interval_s, returns=returns))
        _log.info(
            "host_announced",
            host_id=host.id,
            host_type="seed" if host.is_seed else "normal",
            ip=host.ip,
        )
        return Empty()

    async def DeleteHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteHostRequest, _context: Any
    ) -> Empty:
        host_id = require_id("host_id", request.host_id)
        self._executor.apply(HostDeleted(host_id=host_id))
        _log.info("host_deleted", host_id=host_id)
        return Empty()

    async def ListHosts(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.ListHostsRequest, _context: Any
    ) -> scheduler_pb2.ListHostsResponse:
        host_type: HostType | None = None
        if request.HasField("type"):
            if request.type not in (HostType.NORMAL, HostType.SUPER):
                raise CallerError(f"type {request.type} is unknown: use 0 (normal) or 1 (super)")
            host_type = HostType(request.type)
        hosts = self._queries.list_hosts(host_type)
        return scheduler_pb2.ListHostsResponse(hosts=[host_status_to_wire(host) for host in hosts])

    # --- tasks and peers --------------------------------------------------------------------------

    async def StatTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatTaskRequest, _context: Any
    ) -> common_pb2.Task:
        require_id("host_id", request.host_id)
        task_id = require_id("task_id", request.task_id)
        return task_to_wire(self._queries.stat_task(task_id), self._clock)

    async def DeleteTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteTaskRequest, _context: Any
    ) -> Empty:
        host_id = require_id("host_id", request.host_id)
        task_id = require_id("task_id", request.task_id)
        self._executor.apply(TaskDeleted(host_id=host_id, task_id=task_id))
        _log.info("task_deleted", host_id=host_id, task_id=task_id)
        return Empty()

    async def StatPeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatPeerRequest, _context: Any
    ) -> common_pb2.Peer:
        require_id("host_id", request.host_id)
        require_id("task_id", request.task_id)
        peer_id = require_id("peer_id", request.peer_id)
        return peer_to_wire(self._queries.stat_peer(peer_id), self._clock)

    async def DeletePeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeletePeerRequest, _context: Any
    ) -> Empty:
        host_id = require_id("host_id", request.host_id)
        task_id = require_id("task_id", request.task_id)
        peer_id = require_id("peer_id", request.peer_id)
        self._executor.apply(PeerDeleted(host_id=host_id, task_id=task_id, peer_id=peer_id))
        _log.info("peer_deleted", host_id=host_id, task_id=task_id, peer_id=peer_id)
        return Empty()

    # --- the conversation -------------------------------------------------------------------------

    async def AnnouncePeer(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[scheduler_pb2.AnnouncePeerRequest], context: Any
    ) -> None:
        """One download of one peer. The stream ends when the core closes it, or the client.

        Initial metadata is out already: the server sends it for every stream. Returning while the
        client still sends is what it waits for after a terminal message (dfdaemon.md §0, trap 2).
        """
        stream = PeerStream()
        able = features_in(context.invocation_metadata())
        conversation = _Conversation(self._executor, stream, able)

        async def write(answer: SchedulerAnswer) -> None:
            await context.write(answer_to_wire(answer))

        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(conversation.read(requests))
                error = await stream.drain(write)
                reader.cancel()
        finally:
            conversation.end()
        if error is not None:
            raise error


class _Conversation:
    """The reading side of one AnnouncePeer stream; `able`: what the peer said that it can."""

    def __init__(self, executor: Executor, stream: PeerStream, able: frozenset[str]) -> None:
        self._executor = executor
        self._stream = stream
        self._is_ours = TAKES_NEWS in able
        self._writes_pieces = WRITES_PIECES in able
        self._resumes = RESUMES in able
        self._who: tuple[str, str, str] | None = None

    async def read(self, requests: AsyncIterator[scheduler_pb2.AnnouncePeerRequest]) -> None:
        """Hand each message to the core, until the client or the core ends the stream."""
        try:
            async for request in requests:
                if self._stream.closed:
                    return
                self._take(request_from_wire(request))
        except OdonataError as error:
            self._stream.close(error)
        else:
            self._stream.close()

    def _take(self, request: PeerRequest) -> None:
        who = (request.host_id, request.task_id, request.peer_id)
        if self._who is None:
            self._begin(who, request)
        elif who != self._who:
            raise CallerError(
                f"host_id, task_id, peer_id changed in mid-stream from {self._who} to {who}: open "
                "a stream of its own for each download of a peer"
            )
        self._executor.apply(
            PeerSpoke(
                host_id=request.host_id,
                task_id=request.task_id,
                peer_id=request.peer_id,
                message=request.message,
                is_ours=self._is_ours,
                writes_pieces=self._writes_pieces,
                resumes=self._resumes,
            )
        )

    def _begin(self, who: tuple[str, str, str], request: PeerRequest) -> None:
        if not isinstance(request.message, Register):
            raise CallerError(
                f"the first message of a stream is {type(request.message).__name__}: send "
                "register_peer_request first"
            )
        self._stream.owner = who[:2]
        self._executor.open_stream(request.peer_id, self._stream)
        self._who = who
        host_id, task_id, peer_id = who
        _log.info("peer_registered", host_id=host_id, task_id=task_id, peer_id=peer_id)

    def end(self) -> None:
        """The stream is over, however it came about."""
        if self._who is not None:
            self._executor.drop_stream(self._who[2], self._stream)
