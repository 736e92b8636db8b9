"""What must be true of the scheduler's state after every event, said a second time.

Called after each event in tests and simulations. Everything is computed anew from the peers and the
edges; nothing here trusts what it checks. A breach is a bug of ours: InternalError says which.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from odonata.errors import InternalError
from scheduler.core.candidate import has_hope, survey, why_barred, why_useless
from scheduler.core.facts import host_row, peer_row, with_new_load
from scheduler.core.graph import GraphKind
from scheduler.core.lifecycle import PeerState
from scheduler.core.standing import HostState
from scheduler.core.supply import is_source_now, is_supplied
from scheduler.core.waiting import is_held

if TYPE_CHECKING:
    from scheduler.core.core import SchedulerCore
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState
    from scheduler.core.task import Task

_WAITING_STATES = (PeerState.RECEIVED_NORMAL, PeerState.RUNNING)
_WITHOUT_PARENTS = (
    PeerState.BACK_TO_SOURCE,
    PeerState.SUCCEEDED,
    PeerState.FAILED,
    PeerState.LEAVE,
)


def check(core: SchedulerCore) -> None:
    """Check everything; raise InternalError at the first breach."""
    state = core.state
    _check_references(state)
    _check_load(state)
    _check_standings(core)
    _check_bereft(core)
    _check_rows(state)
    _check_contacts(core)
    for task in state.tasks.values():
        _check_edges(task)
        _check_acyclic(task)
        _check_supply(task)
        _check_reviews(core, task)
        _check_useful(task)
        _check_flights(task)
        for child in task.waiting.values():
            _check_waiting(core, child)
    _require(not state.restless, "a restless task was left unsettled")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InternalError(what)


def _check_references(state: SchedulerState) -> None:
    """Each peer is known to the scheduler, its task and its host, and to nobody else."""
    by_task = {peer.id: peer for task in state.tasks.values() for peer in task.peers.values()}
    by_host = {peer.id: peer for host in state.hosts.values() for peer in host.peers.values()}
    _require(state.peers == by_task == by_host, "peers, tasks and hosts disagree on who is there")
    seeds = {host.id: host for host in state.hosts.values() if host.is_seed}
    _require(state.seeds == seeds, "the list of seeds is stale")
    waiting = {task.id: task for task in state.tasks.values() if task.waiting}
    _require(state.waiting_tasks == waiting, "the list of tasks with waiting children is stale")


def _check_load(state: SchedulerState) -> None:
    """The load booked on each host is the sum over the edges that leave its peers."""
    sums = {host_id: [0, 0, 0, 0] for host_id in state.hosts}
    for task in state.tasks.values():
        for parent_id, _, booking in task.graph.edges():
            total = sums[task.peers[parent_id].host.id]
            total[0] += 1
            total[1] += booking.piece_count
            total[2] += booking.content_length
            total[3] += booking.tx_bits_per_s
    for host in state.hosts.values():
        counters = [
            host.concurrent_upload_count,
            host.concurrent_upload_piece_count,
            host.upload_content_length,
            host.booked_tx_bits_per_s,
        ]
        _require(
            counters == sums[host.id],
            f"load of host {host.id} is {counters}, its edges say {sums[host.id]}",
        )


def _check_standings(core: SchedulerCore) -> None:
    """An evicted host has an end of its term ahead, and an alarm for it; no other has one.

    Whom an evicted host serves all the same was given to it as a last resort.
    """
    state = core.state
    trials = {h.id: h for h in state.hosts.values() if h.standing.state is HostState.ON_PROBATION}
    _require(state.trials == trials, "the list of hosts on probation is stale")
    terms = set(state.terms)
    for host in state.hosts.values():
        standing = host.standing
        is_evicted = standing.state is HostState.EVICTED
        _require(is_evicted == isfinite(standing.until_s), f"the term of host {host.id} is off")
        if is_evicted:
            _require((standing.until_s, host.id) in terms, f"the term of {host.id} never ends")
            _require_alarm(core, standing.until_s, f"the term of host {host.id}")
        children = host.concurrent_upload_count
        is_free = why_barred(host) is None
        _require(is_free or is_evicted or children > 0, f"host {host.id} is barred for nothing")


def _check_bereft(core: SchedulerCore) -> None:
    """Whoever is still to be looked after is alive, and there is an alarm for it."""
    for peer in core.state.bereft.values():
        _require(core.state.peers.get(peer.id) is peer, f"bereft peer {peer.id} is gone")
    if core.state.bereft:
        _require(core.wake_at_s is not None, "there are bereft peers, and no alarm is set")


def _check_contacts(core: SchedulerCore) -> None:
    """Who holds contact is not lost, and what is to happen to the lost has an alarm."""
    state = core.state
    for host in state.hosts.values():
        in_contact = host.id in state.contacts
        _require(not (in_contact and host.is_lost), f"host {host.id} is in contact, and lost")
        _require(host.is_lost or host.id not in state.orphaning, f"{host.id} loses its children")
    for deadlines in (state.losing, state.orphaning):
        for host_id, at_s in deadlines.items():
            _require(host_id in state.hosts, f"host {host_id} is to be lost, and gone")
            _require_alarm(core, at_s, f"what happens to host {host_id}")


def _require_alarm(core: SchedulerCore, at_s: float, what: str) -> None:
    alarm_s = core.wake_at_s
    _require(
        alarm_s is not None and alarm_s <= at_s,
        f"{what} ends at {at_s}, the alarm is set to {alarm_s}",
    )


def _check_acyclic(task: Task) -> None:
    """Nobody is its own ancestor, but peers of ours in a mesh.

    Take away peers without parents until none is left (Kahn); what stays is on a circle. In a mesh
    the peers of ours are one: no circle leads through a stock peer if none leads through that one.
    """
    if task.graph.kind is GraphKind.MESH:
        _check_stock(task)
        return
    left = {peer_id: len(task.graph.parents(peer_id)) for peer_id in task.peers}
    free = [peer_id for peer_id, count in left.items() if count == 0]
    while free:
        peer_id = free.pop()
        del left[peer_id]
        for child_id in task.graph.children(peer_id):
            left[child_id] -= 1
            if left[child_id] == 0:
                free.append(child_id)
    _require(not left, f"task {task.id} has a cycle through {sorted(left)}")


def _check_stock(task: Task) -> None:
    """No circle leads through a stock peer: nobody is both above and below one."""
    for peer in task.peers.values():
        if not peer.is_ours:
            below = _reached(task, set(task.graph.children(peer.id)))
            _require(peer.id not in below, f"stock peer {peer.id} is its own ancestor")


def _check_supply(task: Task) -> None:
    """Exactly those are supplied whom edges from a source reach, each by one of its parents."""
    reached = {peer.id for peer in task.peers.values() if is_source_now(peer)}
    sources = {peer.id for peer in task.peers.values() if peer.is_source}
    _require(reached == sources, f"who is a source of task {task.id} is stale")
    reached = _reached(task, reached)
    supplied = {peer.id for peer in task.peers.values() if is_supplied(peer)}
    _require(reached == supplied, f"who is supplied in task {task.id} is stale")
    for peer in task.peers.values():
        _check_supply_line(peer)


def _reached(task: Task, first: set[str]) -> set[str]:
    """These and everybody below them."""
    reached, news = set(first), list(first)
    while news:
        for child_id in task.graph.children(news.pop()):
            if child_id not in reached:
                reached.add(child_id)
                news.append(child_id)
    return reached


def _check_supply_line(peer: Peer) -> None:
    graph, seen = peer.task.graph, {peer.id}
    while peer.supplier is not None:
        _require(not peer.is_source, f"source {peer.id} has a supplier")
        is_parent = peer.supplier.id in graph.parents(peer.id)
        _require(is_parent, f"the supplier of peer {peer.id} is none of its parents")
        peer = peer.supplier
        _require(peer.id not in seen, f"the supply line of peer {peer.id} is a circle")
        seen.add(peer.id)


def _check_reviews(core: SchedulerCore, task: Task) -> None:
    """Whoever is to be looked at anew is on the rota, and there is an alarm for it."""
    planned = {(at_s, child.id) for at_s, _, child in core.state.reviews}
    for peer in task.peers.values():
        if peer.review_at_s is not None:
            is_planned = (peer.review_at_s, peer.id) in planned
            _require(is_planned, f"the review of peer {peer.id} is not on the rota")
            _require(core.wake_at_s is not None, f"peer {peer.id} has a review and no alarm is set")
    for peer in task.hungry.values():
        _require(task.peers.get(peer.id) is peer, f"hungry peer {peer.id} is gone")
        _require(peer.review_at_s is None, f"hungry peer {peer.id} has a review")
    _require(not core.state.fresh, "somebody new was not told to the hungry")


def _check_edges(task: Task) -> None:
    """Both directions agree; who has ended has no edges but those of a holder to its children."""
    forward = {(parent, child) for parent, child, _ in task.graph.edges()}
    backward = {(p, child) for child in task.peers for p in task.graph.parents(child)}
    _require(forward == backward, f"the edges of task {task.id} differ by direction")
    for peer in task.peers.values():
        if peer.state in _WITHOUT_PARENTS:
            _require(not task.graph.parents(peer.id), f"{peer.state} peer {peer.id} has parents")
        if peer.state in (PeerState.FAILED, PeerState.LEAVE):
            _require(not task.graph.children(peer.id), f"{peer.state} peer {peer.id} has children")


def _check_useful(task: Task) -> None:
    """The index holds exactly the useful peers, and so does the shortlist, each at its place."""
    useful = {peer.id for peer in task.peers.values() if why_useless(peer) is None}
    _require(set(task.useful) == useful, f"the index of task {task.id} is stale")
    listed = {peer.id for peer in task.shortlist}
    _require(listed == useful, f"the shortlist of task {task.id} is stale")
    complaint = task.shortlist.complaint()
    _require(not complaint, f"the shortlist of task {task.id} is wrong: {complaint}")


def _check_rows(state: SchedulerState) -> None:
    """What is kept packed for the rankers is what would be packed now."""
    for peer in state.peers.values():
        row, peer.row = peer.row, None
        _require(row in (None, peer_row(peer)), f"what is kept of peer {peer.id} is stale")
        peer.row = row
    for host in state.hosts.values():
        row = host.row
        if row is not None and host.is_load_new:
            row = with_new_load(host, row)
        packed = host_row(host, host.row_at_s)
        _require(row in (None, packed), f"what is kept of host {host.id} is stale")
        host.row = row


def _check_flights(task: Task) -> None:
    """Flights belong to live peers that are on their way, each in one kind at most."""
    at_source = {p.id for p in task.peers.values() if p.state is PeerState.BACK_TO_SOURCE}
    _require(set(task.at_source) == at_source, f"who is at the source of task {task.id} is stale")
    gone = {name for name, peer in task.origins.items() if task.peers.get(name) is not peer}
    _require(at_source <= set(task.origins), f"origins of task {task.id} are missing")
    _require(not gone, f"origins of task {task.id} are gone: {sorted(gone)}")
    for peer_id in (*task.starting, *task.to_source):
        peer = task.peers.get(peer_id)
        _require(peer is not None, f"peer {peer_id} is on its way and gone")
        _require(peer_id not in task.waiting, f"peer {peer_id} is on its way and waits")
    for peer_id in task.starting:
        is_new = task.peers[peer_id].state is PeerState.RECEIVED_NORMAL
        _require(is_new, f"peer {peer_id} is starting in state {task.peers[peer_id].state}")
    for peer_id in task.to_source:
        state = task.peers[peer_id].state
        _require(state in _WAITING_STATES, f"peer {peer_id} was sent to the source in {state}")
    _require(not set(task.starting) & set(task.to_source), "a peer is on its way twice")
    by_host = {flight.host_id: flight for flight in task.seed_flights.values()}
    _require(task.seed_flights == by_host, f"the triggers of task {task.id} are mixed up")
    for flights in (task.starting, task.to_source):
        deadlines = list(flights.values())
        _require(deadlines == sorted(deadlines), f"deadlines of task {task.id} are out of order")


def _check_waiting(core: SchedulerCore, child: Peer) -> None:
    """A child waits only if nobody can serve it, somebody will, and an alarm is set in case not."""
    task = child.task
    _require(child.state in _WAITING_STATES, f"peer {child.id} waits in state {child.state}")
    _require(child.stream_is_open, f"peer {child.id} waits, and its stream is closed")
    _require(not is_supplied(child), f"peer {child.id} waits, and bytes reach it")
    if not (core.state.limits.admission and is_held(child)):
        known = task.graph.parents(child.id)
        able = [peer.id for peer in survey(child).eligible if peer.id not in known]
        _require(not able, f"peer {child.id} waits while {able} could serve it")
        _require(has_hope(child), f"peer {child.id} waits for nobody")
    deadline_s = task.next_deadline_s()
    _require(deadline_s is not None, f"peer {child.id} waits, and nothing bounds that")
    alarm_s = core.wake_at_s
    _require(
        alarm_s is not None and deadline_s is not None and alarm_s <= deadline_s,
        f"peer {child.id} waits until {deadline_s}, the alarm is set to {alarm_s}",
    )
