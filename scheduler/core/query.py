"""What can be asked of a scheduler without changing it: StatTask, StatPeer, ListHosts, explain.

Answers are plain values, copied from the state; request headers are left out, for they hold tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.errors import NotFoundError
from odonata.wire.message import ByteRange, Host, HostType, TaskFacts, TaskType, Value
from scheduler.core.standing import HostState

if TYPE_CHECKING:
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState
    from scheduler.core.task import Task


class TaskStatus(Value, frozen=True, kw_only=True):
    """A task as StatTask tells it. Times are those of the clock handed to the core, in seconds."""

    id: str
    type: TaskType
    url: str
    state: str
    digest: str | None
    tag: str | None
    application: str | None
    filtered_query_params: tuple[str, ...]
    content_length: int | None
    piece_length: int | None
    piece_count: int
    peer_count: int
    has_available_peer: bool
    created_at_s: float
    updated_at_s: float


class PeerStatus(Value, frozen=True, kw_only=True):
    """A peer as StatPeer tells it. `parent_ids`: those it was given last and that still live."""

    id: str
    state: str
    priority: int
    range: ByteRange | None
    host: Host
    task: TaskFacts
    concurrent_piece_count: int
    finished_pieces: tuple[int, ...]
    parent_ids: tuple[str, ...]
    is_waiting: bool
    created_at_s: float
    updated_at_s: float


class HostStatus(Value, frozen=True, kw_only=True):
    """A host as ListHosts tells it, with what this scheduler has handed out on it.

    `standing` is what it is worth as a parent, `is_liar` that it is evicted or tried for the wrong
    bytes it sent; if it `is_lost`, nobody hears of it and nobody is sent to it;
    `served_rate_bytes_per_s` is NaN if it never served.
    """

    host: Host
    announce_interval_s: float
    peer_count: int
    upload_count: int
    upload_failed_count: int
    concurrent_upload_count: int
    concurrent_upload_piece_count: int
    upload_content_length: int
    booked_tx_bits_per_s: int
    standing: HostState
    standing_since_s: float
    is_liar: bool
    is_lost: bool
    served_rate_bytes_per_s: float
    created_at_s: float
    updated_at_s: float


def stat_task(state: SchedulerState, task_id: str) -> TaskStatus:
    """Describe a task; NotFoundError if it is unknown."""
    task = state.tasks.get(task_id)
    if task is None:
        raise NotFoundError(f"task {task_id} not found: no peer has registered it here")
    return _task_status(task)


def stat_peer(state: SchedulerState, peer_id: str) -> PeerStatus:
    """Describe a peer; NotFoundError if it is unknown."""
    peer = state.peers.get(peer_id)
    if peer is None:
        raise NotFoundError(f"peer {peer_id} not found: it never registered here, or has left")
    return _peer_status(peer)


def list_hosts(state: SchedulerState, host_type: HostType | None = None) -> list[HostStatus]:
    """Describe all hosts, or those of one type, in the order they were first announced."""
    return [
        _host_status(host)
        for host in state.hosts.values()
        if host_type is None or host.announced.type is host_type
    ]


def _task_status(task: Task) -> TaskStatus:
    download = task.download
    return TaskStatus(
        id=task.id,
        type=download.type,
        url=download.url,
        state=task.state,
        digest=download.digest,
        tag=download.tag,
        application=download.application,
        filtered_query_params=download.filtered_query_params,
        content_length=task.content_length,
        piece_length=task.piece_length,
        piece_count=task.piece_count,
        peer_count=len(task.peers),
        has_available_peer=bool(task.useful),
        created_at_s=task.created_at_s,
        updated_at_s=task.updated_at_s,
    )


def _peer_status(peer: Peer) -> PeerStatus:
    return PeerStatus(
        id=peer.id,
        state=peer.state,
        priority=peer.download.priority,
        range=peer.range,
        host=peer.host.announced,
        task=peer.task.facts(),
        concurrent_piece_count=peer.concurrent_piece_count,
        finished_pieces=peer.pieces.numbers(),
        parent_ids=peer.task.graph.parents(peer.id),
        is_waiting=peer.id in peer.task.waiting,
        created_at_s=peer.created_at_s,
        updated_at_s=peer.updated_at_s,
    )


def _host_status(host: KnownHost) -> HostStatus:
    return HostStatus(
        host=host.announced,
        announce_interval_s=host.announce_interval_s,
        peer_count=len(host.peers),
        upload_count=host.upload_count,
        upload_failed_count=host.upload_failed_count,
        concurrent_upload_count=host.concurrent_upload_count,
        concurrent_upload_piece_count=host.concurrent_upload_piece_count,
        upload_content_length=host.upload_content_length,
        booked_tx_bits_per_s=host.booked_tx_bits_per_s,
        standing=host.standing.state,
        standing_since_s=host.standing.since_s,
        is_liar=host.standing.is_liar,
        is_lost=host.is_lost,
        served_rate_bytes_per_s=host.history.rate_bytes_per_s,
        created_at_s=host.created_at_s,
        updated_at_s=host.updated_at_s,
    )
