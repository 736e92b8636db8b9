"""How many replicas a task lacks, and which hosts are asked to become one.

First those that hold the content already and only need to promise to keep it; then others, which
fetch it. Who is asked is drawn by lot among all that are fit, so that replicas spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from scheduler.core.persistent.effect import DownloadReplica, Promote
from scheduler.core.persistent.lifecycle import UNDER_WAY, PeerState, TaskState
from scheduler.core.persistent.query import count

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from scheduler.core.persistent.event import ReplicasWanted
    from scheduler.core.persistent.state import Peer, PeerHost, Snapshot, Task
    from scheduler.core.persistent.turn import Turn

# Hosts that are looked at for one round. If every other one has no room or does not share, the
# five replicas that a user may want at most in practice are found among them with near certainty.
MAX_SPARE_HOSTS = 256

# Asked in one round. What is missing then is asked for in the next.
MAX_ASKED = 32


def draw_hosts(host_ids: Iterable[str], snapshot: Snapshot, rng: Random) -> list[str]:
    """Ids of hosts worth loading as possible new holders, in random order, a bounded number."""
    taken = {peer.host_id for peer in snapshot.peers.values()}
    free = sorted(set(host_ids) - taken)
    rng.shuffle(free)
    return free[:MAX_SPARE_HOSTS]


def fill(turn: Turn, event: ReplicasWanted) -> None:
    """Ask for as many replicas as are missing, as far as there are hosts for them."""
    task = turn.task
    if task is None or task.state is not TaskState.SUCCEEDED:
        return
    coming = {
        peer.host_id
        for peer in turn.peers.values()
        if peer.persistent and peer.state in UNDER_WAY and peer.host_id not in event.avoid
    }
    persistent = count(turn.peers.values()).persistent
    missing = min(MAX_ASKED, task.persistent_replica_count - persistent - len(coming))
    if missing <= 0:
        return
    promoted = [
        Promote(peer_id=peer.id, host=turn.hosts[peer.host_id])
        for peer in _shuffled(turn, _could_keep(turn, event.avoid))
    ][:missing]
    turn.effects += promoted
    turn.effects += [
        DownloadReplica(task=task, host=host)
        for host in _shuffled(turn, _could_fetch(turn, task, event.avoid))
    ][: missing - len(promoted)]


def _could_keep(turn: Turn, avoid: frozenset[str]) -> list[Peer]:
    """One peer for each host that has a whole copy and no promise yet."""
    kept = {peer.host_id for peer in turn.peers.values() if peer.persistent}
    whole = {
        peer.host_id: peer
        for peer in turn.peers.values()
        if peer.state is PeerState.SUCCEEDED and peer.host_id not in kept | avoid
    }
    return [
        peer
        for host_id, peer in sorted(whole.items())
        if host_id in turn.hosts and not turn.hosts[host_id].disable_shared
    ]


def _could_fetch(turn: Turn, task: Task, avoid: frozenset[str]) -> list[PeerHost]:
    """Hosts without a copy that share, and have room. A task that was lost has none to offer."""
    if turn.kind.has_source:
        if not task.url:
            return []  # another scheduler's record, which does not say where the object is
    elif not any(peer.state is PeerState.SUCCEEDED for peer in turn.peers.values()):
        return []
    taken = {peer.host_id for peer in turn.peers.values() if peer.state is not PeerState.FAILED}
    return [
        host
        for host_id, host in sorted(turn.hosts.items())
        if host_id not in taken | avoid
        and not host.disable_shared
        and host.disk_free_bytes >= task.content_length
    ]


_Item = TypeVar("_Item")


def _shuffled(turn: Turn, items: list[_Item]) -> list[_Item]:
    turn.rng.shuffle(items)
    return items
