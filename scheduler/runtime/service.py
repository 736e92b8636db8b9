"""scheduler.v2.Scheduler over gRPC: requests become events, effects become answers.

No decision is made here. Preheating is `preheat_service`'s, persistent tasks are
`scheduler.runtime.persistent.service`'s, cache tasks `cache_service`'s. Request headers are never
logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.errors import CallerError, OdonataError
from odonata.grpc_service import Outlet
from odonata.logs import shows
from odonata.wire.dragonfly import (
    PeerRequest,
    check_host,
    duration_from_wire,
    finished_piece_in,
    host_from_wire,
    others_finished_in,
    request_from_wire,
)
from odonata.wire.dragonfly.feature import (
    CHECKS_PIECES,
    FEATURES_KEY,
    HOLDS_CONTACT,
    RESUMES,
    SHARES_FAR,
    SHARES_SOURCE,
    TAKES_NEWS,
    TAKES_PIECES_TOGETHER,
    TELLS_DIGESTS,
    UNSIZED_REGISTER,
    WRITES_PIECES,
    features_in,
)
from odonata.wire.dragonfly.rule import check_request
from odonata.wire.message import (
    HostType,
    PieceBackToSourceFinished,
    PieceFinished,
    Register,
    Reschedule,
)
from scheduler.core.event import (
    HostAnnounced,
    HostDeleted,
    PeerDeleted,
    PeerSpoke,
    PiecesFinished,
    TaskDeleted,
)
from scheduler.core.query import HostStatus, PeerStatus, TaskStatus
from scheduler.runtime.conversation_watch import Observer
from scheduler.runtime.executor import Executor
from scheduler.runtime.status import WallClock, host_status_to_wire, peer_to_wire, task_to_wire
from scheduler.runtime.stream import PeerStream

_ABLE: Final = (UNSIZED_REGISTER, HOLDS_CONTACT, TELLS_DIGESTS, TAKES_PIECES_TOGETHER)
FEATURES: Final = ((FEATURES_KEY, ",".join(_ABLE)),)

_log = structlog.get_logger(__name__)


class Queries(Protocol):
    """What may be asked of the core: see `scheduler.core.query`."""

    def stat_task(self, task_id: str) -> TaskStatus: ...
    def stat_peer(self, peer_id: str) -> PeerStatus: ...
    def list_hosts(self, host_type: HostType | None = None) -> list[HostStatus]: ...


class SchedulerService:
    """The rpcs, by their names. Errors are raised; the server turns them into statuses."""

    def __init__(self, executor: Executor, queries: Queries, observer: Observer) -> None:
        self._executor = executor
        self._queries = queries
        self._observer = observer
        self._clock = WallClock(executor.now)

    # --- hosts ------------------------------------------------------------------------------------

    def AnnounceHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.AnnounceHostRequest, context: Any
    ) -> Empty:
        check_request(request)
        host = check_host(host_from_wire(request.host))
        interval_s = duration_from_wire(request.interval)
        able = features_in(context.invocation_metadata())
        self._executor.apply(
            HostAnnounced(
                host=host,
                interval_s=interval_s,
                shares_source=host.is_seed and SHARES_SOURCE in able,
                returns=RESUMES in able,
            )
        )
        if shows("debug"):
            kind = "seed" if host.is_seed else "normal"
            _log.debug("host_announced", host_id=host.id, host_type=kind, ip=host.ip)
        return Empty()

    def DeleteHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteHostRequest, _context: Any
    ) -> Empty:
        check_request(request)
        self._executor.apply(HostDeleted(host_id=request.host_id))
        _log.info("host_deleted", host_id=request.host_id)
        return Empty()

    def ListHosts(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.ListHostsRequest, _context: Any
    ) -> scheduler_pb2.ListHostsResponse:
        check_request(request)
        host_type = HostType(request.type) if request.HasField("type") else None
        hosts = self._queries.list_hosts(host_type)
        return scheduler_pb2.ListHostsResponse(hosts=[host_status_to_wire(host) for host in hosts])

    # --- tasks and peers --------------------------------------------------------------------------

    def StatTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatTaskRequest, _context: Any
    ) -> common_pb2.Task:
        check_request(request)
        return task_to_wire(self._queries.stat_task(request.task_id), self._clock)

    def DeleteTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteTaskRequest, _context: Any
    ) -> Empty:
        check_request(request)
        host_id, task_id = request.host_id, request.task_id
        self._executor.apply(TaskDeleted(host_id=host_id, task_id=task_id))
        _log.info("task_deleted", host_id=host_id, task_id=task_id)
        return Empty()

    def StatPeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatPeerRequest, _context: Any
    ) -> common_pb2.Peer:
        check_request(request)
        return peer_to_wire(self._queries.stat_peer(request.peer_id), self._clock)

    def DeletePeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeletePeerRequest, _context: Any
    ) -> Empty:
        check_request(request)
        host_id, task_id, peer_id = request.host_id, request.task_id, request.peer_id
        self._executor.apply(PeerDeleted(host_id=host_id, task_id=task_id, peer_id=peer_id))
        _log.info("peer_deleted", host_id=host_id, task_id=task_id, peer_id=peer_id)
        return Empty()

    # --- the conversation -------------------------------------------------------------------------

    def AnnouncePeer(self, outlet: Outlet) -> Conversation:  # noqa: N802  # the rpc's name
        """One download of one peer. The stream ends when the core closes it, or the client.

        Initial metadata is out already: the server sends it for every stream. Ending while the
        client still sends is what it waits for after a terminal message (dfdaemon.md §0, trap 2).
        """
        return Conversation(self._executor, outlet, self._observer)


class Conversation:
    """The listening side of one AnnouncePeer stream."""

    __slots__ = (
        "_checks_pieces",
        "_executor",
        "_is_ours",
        "_resumes",
        "_shares_far",
        "_stream",
        "_watch",
        "_who",
        "_writes_pieces",
    )

    def __init__(self, executor: Executor, outlet: Outlet, observer: Observer) -> None:
        able = features_in(outlet.invocation_metadata())
        self._executor = executor
        self._stream = PeerStream(outlet)
        self._watch = observer.watch(self._stream)
        self._is_ours = TAKES_NEWS in able
        self._writes_pieces = WRITES_PIECES in able
        self._checks_pieces = CHECKS_PIECES in able
        self._shares_far = SHARES_FAR in able
        self._resumes = RESUMES in able
        self._who: tuple[str, str, str] | None = None

    def on_messages(self, requests: Sequence[scheduler_pb2.AnnouncePeerRequest]) -> None:
        """Hand all messages to the core, until the client or the core ends the stream.

        Finished pieces are handed over together, up to the next message of another kind.
        """
        pieces: list[PieceFinished | PieceBackToSourceFinished] = []
        error: OdonataError | None = None
        try:
            for request in requests:
                piece = finished_piece_in(request) if self._who is not None else None
                if piece is not None:
                    self._is_same(request.host_id, request.task_id, request.peer_id)
                    pieces.append(piece)
                    pieces.extend(others_finished_in(request))
                    continue
                self._report(pieces)
                if self._stream.closed:
                    return
                self._take(request_from_wire(request))
        except OdonataError as caught:
            error = caught
        self._report(pieces)
        if error is not None:
            self._stream.close(error)

    def _report(self, pieces: list[PieceFinished | PieceBackToSourceFinished]) -> None:
        if not pieces or self._who is None or self._stream.closed:
            return
        host_id, task_id, peer_id = self._who
        event = PiecesFinished(
            host_id=host_id, task_id=task_id, peer_id=peer_id, messages=tuple(pieces)
        )
        pieces.clear()
        self._executor.apply(event)
        for message in event.messages:
            self._watch.piece(message.piece)

    def _is_same(self, *who: str) -> None:
        if who != self._who:
            raise CallerError(
                f"host_id, task_id, peer_id changed in mid-stream from {self._who} to {who}: open "
                "a stream of its own for each download of a peer"
            )

    def on_end(self) -> None:
        """The client has said all that it wants to."""
        self._stream.close()

    def _take(self, request: PeerRequest) -> None:
        who = (request.host_id, request.task_id, request.peer_id)
        if self._who is None:
            self._begin(who, request)
        else:
            self._is_same(*who)
        event = PeerSpoke(
            host_id=request.host_id,
            task_id=request.task_id,
            peer_id=request.peer_id,
            message=request.message,
            is_ours=self._is_ours,
            writes_pieces=self._writes_pieces,
            checks_pieces=self._checks_pieces,
            shares_far=self._shares_far,
            resumes=self._resumes,
        )
        if isinstance(request.message, Register | Reschedule):
            with self._watch.asking(request):
                self._executor.apply(event)
        else:
            self._executor.apply(event)
            self._watch.heard(request.message, failed=self._stream.failed)

    def _begin(self, who: tuple[str, str, str], request: PeerRequest) -> None:
        if not isinstance(request.message, Register):
            raise CallerError(
                f"the first message of a stream is {type(request.message).__name__}: send "
                "register_peer_request first"
            )
        self._stream.owner = who[:2]
        self._executor.open_stream(request.peer_id, self._stream)
        self._who = who
        if shows("debug"):
            host_id, task_id, peer_id = who
            _log.debug("peer_registered", host_id=host_id, task_id=task_id, peer_id=peer_id)

    def on_close(self) -> None:
        """The stream is over, however it came about."""
        self._watch.ended()
        self._stream.closed = True
        if self._who is not None:
            self._executor.drop_stream(self._who[2], self._stream)
