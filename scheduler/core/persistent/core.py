"""`PersistentCore.handle(event, snapshot, now) -> effects`: one event of one persistent task.

It keeps nothing between two calls: what it knows is in the snapshot, and what it wants remembered
is in the effects. So any scheduler of the cluster may handle the next event, and a call whose
writes came too late is simply made again with a fresh snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from odonata.errors import NotFoundError, OdonataError
from scheduler.core.persistent import departure, download, replica, upload
from scheduler.core.persistent.effect import PersistentEffect, Refuse
from scheduler.core.persistent.event import (
    HostLeft,
    PeerDeleted,
    PeerSpoke,
    PersistentEvent,
    ReplicaKept,
    ReplicasWanted,
    StreamClosed,
    TaskDeleted,
    UploadFailed,
    UploadFinished,
    UploadStarted,
)
from scheduler.core.persistent.lifecycle import PeerState
from scheduler.core.persistent.query import status_of
from scheduler.core.persistent.state import PeerStatus, Snapshot, TaskStatus
from scheduler.core.persistent.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random


class PersistentCore:
    """Decides for persistent tasks of both kinds. `parent_limit`: parents in one answer."""

    def __init__(self, parent_limit: int, rng: Random) -> None:
        self._parent_limit = parent_limit
        self._rng = rng

    def handle(
        self, event: PersistentEvent, snapshot: Snapshot, now: float
    ) -> list[PersistentEffect]:
        """Take in one event at `now` (seconds since 1970); return what to write and to do.

        A Refuse is always alone: who is refused has changed nothing.
        """
        turn = self._turn(snapshot, now)
        try:
            _dispatch(turn, event)
        except OdonataError as error:
            return [Refuse(error=error)]
        return turn.effects

    def stat_task(self, snapshot: Snapshot, now: float) -> TaskStatus:
        """Describe a task; NotFoundError if it is unknown."""
        turn = self._turn(snapshot, now)
        return status_of(turn.need_task(), turn.peers)

    def stat_peer(self, snapshot: Snapshot, peer_id: str, now: float) -> PeerStatus:
        """Describe a peer; NotFoundError if it, its task or its host is unknown."""
        turn = self._turn(snapshot, now)
        status = status_of(turn.need_task(), turn.peers)
        peer = turn.peers.get(peer_id)
        if peer is None:
            raise NotFoundError(f"{turn.kind} peer {peer_id} of task {turn.task_id} not found")
        turn.need_host(peer.host_id)
        return PeerStatus(peer=peer, task=status)

    def draw_hosts(self, host_ids: Iterable[str], snapshot: Snapshot) -> list[str]:
        """Which hosts are to be loaded into the snapshot of a ReplicasWanted."""
        return replica.draw_hosts(host_ids, snapshot, self._rng)

    def _turn(self, snapshot: Snapshot, now: float) -> Turn:
        task = snapshot.task
        if task is not None and task.expires_at_s <= now:
            task = None  # the store's clock may be a little behind ours
        return Turn(
            kind=snapshot.kind,
            task_id=snapshot.task_id,
            task=task,
            peers=dict(sorted(snapshot.peers.items())),
            hosts=snapshot.hosts,
            taken_by=snapshot.taken_by,
            now=now,
            rng=self._rng,
            parent_limit=self._parent_limit,
        )


def _dispatch(turn: Turn, event: PersistentEvent) -> None:
    match event:
        case PeerSpoke():
            download.listen(turn, event)
        case StreamClosed():
            download.stream_closed(turn, event)
        case UploadStarted():
            upload.started(turn, event)
        case UploadFinished():
            upload.finished(turn, event)
        case UploadFailed():
            upload.failed(turn, event)
        case _:
            _dispatch_rest(turn, event)


def _dispatch_rest(
    turn: Turn, event: PeerDeleted | TaskDeleted | HostLeft | ReplicaKept | ReplicasWanted
) -> None:
    match event:
        case PeerDeleted():
            departure.delete_peer(turn, event)
        case TaskDeleted():
            departure.delete_task(turn)
        case HostLeft():
            departure.leave_host(turn, event)
        case ReplicaKept():
            peer = turn.peers.get(event.peer_id)
            if turn.task is not None and peer is not None and peer.state is PeerState.SUCCEEDED:
                turn.put_peer(replace(peer, persistent=True))
        case ReplicasWanted():
            replica.fill(turn, event)
        case _:
            assert_never(event)
