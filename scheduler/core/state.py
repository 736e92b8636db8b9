"""Everything the scheduler knows, and the only place that changes how its parts hang together.

Moving a peer along its life cycle has consequences: edges go, load is given back, flights land, the
index of useful parents gains or loses a member. They all happen here, so that after any change the
parts agree. A task in which something changed that its waiting children may care about is marked
*restless*; at the end of the event their cases are decided anew (`waiting.settle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan

from odonata.wire.message import Download, Host
from scheduler.core import gateway, supply
from scheduler.core.candidate import why_useless
from scheduler.core.cluster import Cluster, ClusterConfig
from scheduler.core.cost import CostWindow
from scheduler.core.credentials import credentials_of, public_part
from scheduler.core.facts import WayRows
from scheduler.core.graph import Booking, DownloadGraph
from scheduler.core.history import PairRates, SwarmRate
from scheduler.core.host import KnownHost
from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskTrigger
from scheduler.core.limits import Limits
from scheduler.core.peer import Peer, requested_range
from scheduler.core.shortlist import Standard
from scheduler.core.standing import HostState
from scheduler.core.task import Task

BITS_PER_BYTE = 8


@dataclass(slots=True)
class Verdicts:
    """How often hosts were judged; `doubtful_evictions`: while they served at a decent rate."""

    evictions: int = 0
    readmissions: int = 0
    doubtful_evictions: int = 0


class _Claims:
    """The mean of the logarithms of all announced uplinks, kept by adding and taking away."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def add(self, uplink_bits_per_s: int) -> None:
        if uplink_bits_per_s > 0:
            self._sum += log(uplink_bits_per_s)
            self._count += 1

    def forget(self, uplink_bits_per_s: int) -> None:
        if uplink_bits_per_s > 0:
            self._sum -= log(uplink_bits_per_s)
            self._count -= 1

    @property
    def mean_log(self) -> float:
        """NaN if nobody claims anything."""
        return self._sum / self._count if self._count else nan


class SchedulerState:
    """Hosts, tasks and peers by id, in the order they came.

    `contacts` are hosts that hold contact, `losing` those whose loss takes effect at a time, and
    `orphaning` lost ones that lose their children at a time (`contact`). It began at `began_at_s`;
    while it is `restarting_until_s`, others are still to come (`register`). `terms` is a heap of
    when which eviction ends, `trials` are the hosts on probation. `bereft` holds peers that lost a
    parent and have not been looked after yet, in the order they did; `reviews` is a heap of whose
    parents are looked at anew when, `fresh` are tasks in which somebody became useful while others
    were short of parents (`rota`). `divided_anew` are tasks whose gateways have changed
    (`gateway`). `turn_count` numbers the edges that were ever made.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = self._own_limits = limits
        self.cluster = Cluster(ClusterConfig())
        self.hosts: dict[str, KnownHost] = {}
        self.seeds: dict[str, KnownHost] = {}
        self.tasks: dict[str, Task] = {}
        self.peers: dict[str, Peer] = {}
        self.waiting_tasks: dict[str, Task] = {}
        self.restless: dict[str, Task] = {}
        self.expecting: dict[str, Task] = {}
        self.swarm_rate = SwarmRate()
        self.verdicts = Verdicts()
        self.terms: list[tuple[float, str]] = []
        self.trials: dict[str, KnownHost] = {}
        self.bereft: dict[str, Peer] = {}
        self.reviews: list[tuple[float, int, Peer]] = []
        self.fresh: dict[str, Task] = {}
        self.divided_anew: dict[str, Task] = {}
        self.pairs = PairRates()
        self.ways = WayRows(self.pairs)
        self.turn_count = 0
        self._standard = Standard()
        self._claims = _Claims()
        self.contacts: set[str] = set()
        self.losing: dict[str, float] = {}
        self.orphaning: dict[str, float] = {}
        self.grace_until_s = 0.0
        self.began_at_s = 0.0
        self.restarting_until_s = 0.0
        self._lives = 0

    def configure(self, cluster: Cluster) -> None:
        """Take over what the operator decided, in place of what was decided before."""
        self.cluster = cluster
        self.limits = cluster.limits(self._own_limits)

    # --- hosts ---

    def announce(
        self, host: Host, interval_s: float, now: float, *, shares_source: bool = False
    ) -> KnownHost:
        """Add a host or take over what it says of itself now."""
        known = self.hosts.get(host.id)
        if known is not None:
            self._claims.forget(known.announced.max_tx_bandwidth_bits_per_s)
        else:
            known = KnownHost(
                announced=host,
                announce_interval_s=interval_s,
                created_at_s=now,
                updated_at_s=now,
                announced_at_s=now,
            )
            self.hosts[host.id] = known
        known.announce(host, interval_s, now)
        known.shares_source = shares_source
        known.is_lost = False
        self._claims.add(host.max_tx_bandwidth_bits_per_s)
        self.standard()
        if known.is_seed:
            self.seeds[host.id] = known
        else:
            self.seeds.pop(host.id, None)
        for peer in known.peers.values():
            self.refresh(peer)
            self.disturb(peer.task)
        return known

    def remove_host(self, host: KnownHost) -> None:
        """Forget a host that has no peers left."""
        assert not host.peers, f"host {host.id} still has peers"
        del self.hosts[host.id]
        self.seeds.pop(host.id, None)
        self.trials.pop(host.id, None)
        self.losing.pop(host.id, None)
        self.orphaning.pop(host.id, None)
        self.swarm_rate.forget(host.swarm_share)
        self._claims.forget(host.announced.max_tx_bandwidth_bits_per_s)

    # --- tasks ---

    def open_task(self, task_id: str, download: Download, now: float) -> Task:
        """Return the task, created if need be, with what `download` says taken over.

        Headers and the opaque rest of a download hold credentials; a task does not keep them.
        """
        task = self.tasks.get(task_id)
        if task is None:
            task = Task(
                id=task_id,
                download=public_part(download),
                graph=DownloadGraph(self.limits.descendant_search_limit, self.limits.graph),
                created_at_s=now,
                updated_at_s=now,
                gateway_count=self.limits.gateway_count,
                home_suffices=self.limits.home_suffices,
            )
            self.tasks[task_id] = task
        elif task.download.url != download.url:
            task.download = public_part(download)
        task.updated_at_s = now
        task.learn(download)
        if task.content_length == 0:
            self.disturb(task)
        return task

    def remove_task(self, task: Task, now: float) -> None:
        """Forget a task that has no peers left."""
        assert not task.peers, f"task {task.id} still has peers"
        task.move(TaskTrigger.LEAVE, now)
        del self.tasks[task.id]

    def disturb(self, task: Task) -> None:
        """Something changed that the waiting children of `task` may care about."""
        if task.waiting:
            self.restless[task.id] = task

    def disturb_host(self, host: KnownHost) -> None:
        """Something changed in what `host` may do for the waiting children of any task."""
        for peer in host.peers.values():
            self.disturb(peer.task)

    def expect(self, task: Task) -> None:
        """`task` has a new deadline, or somebody new who waits for one: mind the alarm."""
        self.expecting[task.id] = task

    # --- peers ---

    def add_peer(
        self,
        peer_id: str,
        task: Task,
        host: KnownHost,
        download: Download,
        now: float,
        *,
        is_ours: bool = False,
    ) -> Peer:
        """Add a peer that has just said hello."""
        self._lives += 1
        limits = self.limits
        peer = Peer(
            id=peer_id,
            serial=self._lives,
            task=task,
            host=host,
            download=task.shared(public_part(download)),
            credentials=credentials_of(download),
            range=None if download.metadata_only else requested_range(download),
            concurrent_piece_count=(
                download.concurrent_piece_count or limits.default_concurrent_piece_count
            ),
            costs=CostWindow(limits.cost_window),
            created_at_s=now,
            updated_at_s=now,
            piece_at_s=now,
            is_ours=is_ours,
        )
        self.peers[peer_id] = peer
        task.peers[peer_id] = peer
        host.peers[peer_id] = peer
        task.graph.add(peer_id, is_ours=is_ours)
        return peer

    def move_peer(self, peer: Peer, trigger: PeerTrigger, now: float) -> None:
        """Take one step of the peer's life, with all that follows from it."""
        peer.move(trigger, now)
        task = peer.task
        match peer.state:
            case PeerState.RUNNING:
                task.starting.pop(peer.id, None)
            case PeerState.BACK_TO_SOURCE:
                self._land(peer)
                task.at_source[peer.id] = task.origins[peer.id] = peer
                self._supply_anew(peer)
                self.unlink_parents(peer)
            case PeerState.SUCCEEDED:
                self._land(peer)
                self._supply_anew(peer)
                _close_books(peer)
                self.unlink_parents(peer)
            case PeerState.FAILED | PeerState.LEAVE:
                self._land(peer)
                task.origins.pop(peer.id, None)
                if gateway.forget(peer):
                    self.divided_anew[task.id] = task
                _close_books(peer)
                self.unlink_parents(peer)
                self.unlink_children(peer)
            case _:
                return
        self.refresh(peer)
        self.disturb(task)

    def remove_peer(self, peer: Peer, now: float) -> None:
        """Forget a peer, whatever its state."""
        if peer.state is not PeerState.LEAVE:
            self.move_peer(peer, PeerTrigger.LEAVE, now)
        peer.task.graph.remove(peer.id)
        self.bereft.pop(peer.id, None)
        del self.peers[peer.id]
        del peer.task.peers[peer.id]
        del peer.host.peers[peer.id]

    def refresh(self, peer: Peer) -> None:
        """Put `peer` into its task's index of useful parents, or take it out."""
        self._supply_anew(peer)
        self._index(peer)

    def _index(self, peer: Peer) -> None:
        task = peer.task
        if why_useless(peer) is not None:
            task.useful.pop(peer.id, None)
            task.shortlist.discard(peer)
            return
        task.shortlist.put(peer, self._standard)
        if peer.id not in task.useful:
            task.useful[peer.id] = peer
            task.arrival_count += 1
            if task.hungry:
                self.fresh[task.id] = task
            self.disturb(task)

    def standard(self) -> Standard:
        """What guesses at a peer's worth are measured by now (`shortlist`)."""
        self._standard = self._standard.following(
            self.swarm_rate.log_bytes_per_s, self._claims.mean_log
        )
        return self._standard

    def _supply_anew(self, peer: Peer) -> None:
        """`peer` may have become a source of bytes, or have ceased to be one."""
        is_source = supply.is_source_now(peer)
        if is_source is peer.is_source:
            return
        peer.is_source = is_source
        if is_source:
            was_supplied, peer.supplier = peer.supplier is not None, None
            if not was_supplied:
                self._supplied(supply.feed(peer))
        else:
            self._unsupplied(supply.cut(peer), lost_by=peer)

    def _supplied(self, fed: list[Peer]) -> None:
        """Bytes reach these again."""
        for peer in fed:
            if not peer.is_asking:
                self.stop_waiting(peer)
            self._index(peer)

    def _unsupplied(self, fallen: list[Peer], *, lost_by: Peer) -> None:
        """No bytes reach these any more; `lost_by` is looked after by whoever took its supply."""
        for peer in fallen:
            self._index(peer)
            if peer is not lost_by:
                self.bereft[peer.id] = peer
        if fallen:
            self.disturb(fallen[0].task)

    def wait(self, child: Peer) -> None:
        """Let `child` wait on its task for an answer; whatever it was told before is off."""
        task = child.task
        was_hope = child.id in task.starting or child.id in task.to_source
        task.starting.pop(child.id, None)
        task.to_source.pop(child.id, None)
        if was_hope:
            self.disturb(task)
        task.waiting[child.id] = child
        self.waiting_tasks[task.id] = task
        self.expect(task)
        self.refresh(child)

    def stop_waiting(self, child: Peer) -> None:
        """Take `child` off the waiting list, if it is on it."""
        task = child.task
        if task.waiting.pop(child.id, None) is None:
            return
        if not task.waiting:
            del self.waiting_tasks[task.id]
            self.restless.pop(task.id, None)
        self.refresh(child)

    # --- edges ---

    def link(self, child: Peer, parents: list[Peer], now: float) -> list[Peer]:
        """Add edges from `parents` to `child` and book them; return those that were added."""
        booking = _booking(child)
        task = child.task
        added = task.graph.add_edges(child.id, {parent.id: booking for parent in parents}, now)
        linked = [task.peers[parent_id] for parent_id in added]
        for parent in linked:
            self.turn_count += 1
            parent.named_at_turn = self.turn_count
            parent.host.book(booking)
            if parent.listing is not None:
                task.shortlist.put(parent, self._standard)
        child.changed()
        self._supplied(supply.connect(child, linked))
        self.refresh(child)
        return linked

    def unlink_parents(self, child: Peer) -> None:
        """Drop the edges into `child` and give back what they booked."""
        task = child.task
        parents = task.graph.parents(child.id)
        for parent_id in parents:
            self._take_edge(task.peers[parent_id], child)
        if child.supplier is not None:
            self._unsupplied(supply.cut(child), lost_by=child)
        if parents:
            self.refresh(child)
            self.disturb(task)

    def unlink_children(self, parent: Peer) -> None:
        """Drop the edges out of `parent`; its children are bereft (`replacement`)."""
        task = parent.task
        for child_id in task.graph.children(parent.id):
            self.bereave(task.peers[child_id], parent)

    def bereave(self, child: Peer, parent: Peer) -> None:
        """Drop the edge from `parent` to `child`, if there is one; `child` is bereft then."""
        if parent.id in child.task.graph.parents(child.id):
            self.unlink(parent, child)
            self.bereft[child.id] = child
            self.refresh(child)
            self.disturb(child.task)

    def unlink(self, parent: Peer, child: Peer) -> None:
        """Drop the edge from `parent` to `child`, which there is, and give back what it booked."""
        self._take_edge(parent, child)
        if child.supplier is parent:
            self._unsupplied(supply.cut(child), lost_by=child)

    def _take_edge(self, parent: Peer, child: Peer) -> None:
        host = parent.host
        host.release(child.task.graph.remove_edge(parent.id, child.id))
        child.changed()
        if parent.listing is not None:
            child.task.shortlist.put(parent, self._standard)
        if host.standing.state is HostState.ON_PROBATION:
            self.disturb_host(host)  # it may take another child

    def _land(self, peer: Peer) -> None:
        task = peer.task
        task.starting.pop(peer.id, None)
        task.to_source.pop(peer.id, None)
        task.at_source.pop(peer.id, None)
        task.hungry.pop(peer.id, None)
        self.stop_waiting(peer)


def _booking(child: Peer) -> Booking:
    """What `child` takes of each of its parents; nearly all children of a task take the same."""
    task = child.task
    pieces = child.concurrent_piece_count
    booking = Booking(
        tx_bits_per_s=(task.piece_length or 0) * pieces * BITS_PER_BYTE,
        piece_count=pieces,
        content_length=task.content_length or 0,
    )
    if booking != task.usual_booking:
        task.usual_booking = booking
    return task.usual_booking


def _close_books(peer: Peer) -> None:
    """Keep of a download that has ended only what is still asked for."""
    peer.credentials = None
    peer.costs.close()
