"""Forgetting: peers, hosts and tasks that have ended, crashed, or been silent for too long.

Three sweeps on one timer, each with its own interval. Crashed peers are found long before, by their
streams (`departure`); the sweeps bound the memory and catch what no stream tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from odonata.errors import NotFoundError
from scheduler.core.departure import dismiss, forget_host
from scheduler.core.lifecycle import PeerState

if TYPE_CHECKING:
    from scheduler.core.host import KnownHost
    from scheduler.core.limits import Limits
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn


@dataclass(slots=True, kw_only=True)
class SweepTimes:
    """When each sweep is due."""

    peers_at_s: float
    hosts_at_s: float
    tasks_at_s: float

    def next_at_s(self) -> float:
        return min(self.peers_at_s, self.hosts_at_s, self.tasks_at_s)


def first_sweeps(limits: Limits, now: float) -> SweepTimes:
    """Return the times of the first sweeps, one interval from now."""
    return SweepTimes(
        peers_at_s=now + limits.peer_gc_interval_s,
        hosts_at_s=now + limits.host_gc_interval_s,
        tasks_at_s=now + limits.task_gc_interval_s,
    )


def sweep(turn: Turn, times: SweepTimes) -> None:
    """Do the sweeps that are due and set their next times."""
    now, limits = turn.now, turn.limits
    if times.hosts_at_s <= now:
        times.hosts_at_s = now + limits.host_gc_interval_s
        sweep_hosts(turn)
    if times.peers_at_s <= now:
        times.peers_at_s = now + limits.peer_gc_interval_s
        sweep_peers(turn)
    if times.tasks_at_s <= now:
        times.tasks_at_s = now + limits.task_gc_interval_s
        sweep_tasks(turn)


def sweep_peers(turn: Turn) -> None:
    """Forget peers that have ended, and dismiss those that have been silent for too long."""
    for peer in tuple(turn.state.peers.values()):
        reason = _why_forget(turn, peer)
        if reason:
            dismiss(turn, peer, NotFoundError(f"peer {peer.id} was forgotten: {reason}"))


def sweep_hosts(turn: Turn) -> None:
    """Forget hosts that missed their announcements; without a rhythm, after `host_ttl_s`."""
    limits = turn.limits
    for host in tuple(turn.state.hosts.values()):
        if host.id in turn.state.contacts:
            continue
        silent_s = turn.now - host.updated_at_s
        allowed_s = limits.missed_announcements * host.announce_interval_s or limits.host_ttl_s
        if silent_s > allowed_s:
            detail = f"host {host.id} was forgotten: silent for {silent_s:.0f} s, more than"
            error = NotFoundError(f"{detail} {allowed_s:.0f} s")
            forget_host(turn, host, error)


def sweep_tasks(turn: Turn) -> None:
    """Forget tasks that nobody has any more."""
    for task in tuple(turn.state.tasks.values()):
        if not task.peers:
            turn.state.remove_task(task, turn.now)


def _why_forget(turn: Turn, peer: Peer) -> str:
    """Return the first rule that ends this peer, "" if none does. The order is Dragonfly's."""
    now, limits = turn.now, turn.limits
    if peer.state in (PeerState.LEAVE, PeerState.FAILED):
        return f"it is {peer.state}"
    if peer.host.announced.disable_shared and not peer.stream_is_open:
        return "its host does not share"
    is_downloading = peer.state in (PeerState.RUNNING, PeerState.BACK_TO_SOURCE)
    if is_downloading and now - peer.piece_at_s > limits.piece_timeout_s:
        return f"no piece for more than {limits.piece_timeout_s:.0f} s"
    if now - peer.updated_at_s > limits.peer_ttl_s:
        return f"nothing new for more than {limits.peer_ttl_s:.0f} s"
    if peer.host.id not in turn.state.contacts and _is_stale(peer.host, now, limits):
        return f"its host was silent for more than {limits.host_ttl_s:.0f} s"
    return _why_surplus(peer, limits)


def _is_stale(host: KnownHost, now: float, limits: Limits) -> bool:
    return now - host.updated_at_s > limits.host_ttl_s


def _why_surplus(peer: Peer, limits: Limits) -> str:
    """A finished peer of a crowded task that serves nobody can go; seeds stay."""
    task = peer.task
    if len(task.peers) <= limits.peer_count_limit_for_task or peer.host.is_seed:
        return ""
    if peer.state is PeerState.SUCCEEDED and not task.graph.children(peer.id):
        return f"its task has more than {limits.peer_count_limit_for_task} peers"
    return ""
