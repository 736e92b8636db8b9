"""Questions about persistent tasks; the answers are values, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.persistent.lifecycle import PeerState
from scheduler.core.persistent.state import Peer, ReplicaCounts, Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def count(peers: Iterable[Peer]) -> ReplicaCounts:
    """Hosts with a whole copy. Two copies on one host are one: a host falls as a whole.

    Dragonfly counts every peer that ever registered, failed ones included.
    """
    whole = [peer for peer in peers if peer.state is PeerState.SUCCEEDED]
    return ReplicaCounts(
        every=len({peer.host_id for peer in whole}),
        persistent=len({peer.host_id for peer in whole if peer.persistent}),
    )


def status_of(task: Task, peers: Mapping[str, Peer]) -> TaskStatus:
    """The task and its counts."""
    return TaskStatus(task=task, counts=count(peers.values()))
