"""Judging hosts by what they served, evicting the bad ones, and giving them another chance.

Theory of operation
===================

Every piece that a child reports goes into the histories of both hosts, and is then *good*, *bad* or
*neither* for the parent's:

- *bad*: it failed, or was given up as late, and the child blames the parent for it (`PieceFailed`,
  temporary);
- *bad*: it came, and it was slow in both respects that matter. The host as a whole, over all its
  children, is far below its own usual rate, or far below the swarm's if it never was any better;
  and the piece itself took far longer than pieces of this child usually take, from whomever. The
  second respect clears hosts whose children are slow, busy, or behind a narrow link. A piece
  between two data centres is never slow: the link may be;
- *neither*: the host as a whole is that slow, and the child can't tell whose fault that is;
- *good*: everything else.

Rates are compared as ratios, and a ratio has to be extreme: a host that is merely slower than
others is the rankers' business, and stays. What the pieces amount to, `standing` decides.

An evicted host loses its children at once, and those of ours are given others (`replacement`). It
goes on with its own downloads. It remains a candidate of last resort: where nobody else is
eligible and neither a seed nor the source can be had, it is still offered.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from models.features import same_idc
from odonata.wire.message import Value
from scheduler.core import seed
from scheduler.core.honesty import found_good
from scheduler.core.standing import (
    PROBATION_BAD_PIECES,
    PROBATION_GOOD_PIECES,
    HostState,
    HostTrigger,
    Reference,
)

if TYPE_CHECKING:
    from odonata.wire.message import Piece
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState
    from scheduler.core.turn import Turn

DROP_FACTOR = 20.0
"""Below its own usual rate."""
SWARM_FACTOR = 50.0
"""Below the swarm's rate. Among lognormal hosts of sigma 1 one in 20,000 is that slow."""
LEAST_SWARM_PIECES = 16.0
"""Pieces of a host before it is compared with the swarm."""
CHILD_FACTOR = 4.0
"""Longer than this child's pieces usually take. A factor of 4 between parents is common."""
LEAST_CHILD_PIECES = 4
"""Pieces of a child before they say what is usual for it."""
NEAR_FACTOR = 4.0
"""On probation a host must come so near to its own or the swarm's rate, whichever is less."""
DOUBTFUL_SHARE = 0.25
"""Of the swarm's rate: an eviction of a host that still serves at more than that may be an error,
and is counted as doubtful."""


class StandingCounts(Value, frozen=True, kw_only=True):
    """How the hosts stand now, and how often that changed since the scheduler started.

    `doubtful_evictions` are those of hosts that were just serving at a decent rate; or, if they
    were evicted for wrong bytes, right ones to others.
    """

    good: int
    evicted: int
    on_probation: int
    evictions: int
    readmissions: int
    doubtful_evictions: int


def standing_counts(state: SchedulerState) -> StandingCounts:
    """Count the hosts by their standing."""
    states = [host.standing.state for host in state.hosts.values()]
    return StandingCounts(
        good=states.count(HostState.GOOD),
        evicted=states.count(HostState.EVICTED),
        on_probation=states.count(HostState.ON_PROBATION),
        evictions=state.verdicts.evictions,
        readmissions=state.verdicts.readmissions,
        doubtful_evictions=state.verdicts.doubtful_evictions,
    )


def piece_served(turn: Turn, child: Peer, parent: Peer, piece: Piece) -> None:
    """`parent` gave a piece to `child`, which is on another host: remember it, and judge."""
    now, host, standing = turn.now, parent.host, parent.host.standing
    received, history = child.host.received, host.history
    usual_bytes_per_s = received.usual_piece_rate_bytes_per_s(LEAST_CHILD_PIECES)
    received.served(now, piece.length, piece.cost_s)
    busy_s = host.gave(now, piece.length, piece.cost_s)
    turn.state.pairs.served(now, host.place.idc, child.host.place.idc, piece.length, piece.cost_s)
    standing.current.add(now, piece.length, busy_s)
    turn.state.swarm_rate.served(now, host.swarm_share, history.rate_bytes_per_s)
    if standing.state is HostState.EVICTED:
        return
    is_low = _is_low(turn, host)
    is_slow_for_child = piece.length * CHILD_FACTOR < usual_bytes_per_s * piece.cost_s
    is_bad = is_low and is_slow_for_child and _may_compare(child.host, host)
    if standing.state is HostState.ON_PROBATION:
        _try(turn, child, parent, piece, is_bad=is_bad)
        return
    standing.reference.follow(busy_s, history.rate_bytes_per_s, history.recent_rate_bytes_per_s)
    if not is_low:
        standing.suspicion.heard_good()
    elif is_bad:
        _hear_bad(turn, child, parent, "came far too slowly")


def piece_failed(turn: Turn, child: Peer, parent: Peer) -> None:
    """`child`, which is on another host, blames `parent` for a piece: remember it, and judge."""
    host = parent.host
    host.failed(turn.now)
    child.host.received.failed(turn.now)
    if host.standing.state is HostState.GOOD:
        _hear_bad(turn, child, parent, "failed")
    elif host.standing.state is HostState.ON_PROBATION and _is_tried_by(child, parent):
        _fail_trial(turn, host, "failed")


def end_terms(turn: Turn) -> None:
    """Put hosts whose term is over on probation."""
    state, terms = turn.state, turn.state.terms
    while terms and terms[0][0] <= turn.now:
        until_s, host_id = heappop(terms)
        host = state.hosts.get(host_id)
        if host is not None and host.standing.until_s == until_s:
            host.standing.move(HostTrigger.END_TERM, turn.now)
            state.trials[host.id] = host
            state.disturb_host(host)


def suspect(turn: Turn, host: KnownHost) -> None:
    """Put a good host on probation: it is said to send wrong bytes."""
    host.standing.move(HostTrigger.SUSPECT, turn.now)
    turn.state.trials[host.id] = host
    turn.state.disturb_host(host)


def evict(
    turn: Turn,
    host: KnownHost,
    why: str = "its children complained",
    *,
    is_liar: bool = False,
    is_doubtful: bool | None = None,
) -> None:
    """Send nobody to `host` for a while, and take its children away from it; `why` is for people.

    `is_liar`: for its wrong bytes, and for the longest term. `is_doubtful`: it may be an error;
    None: that follows from how fast it serves.
    """
    state, standing = turn.state, host.standing
    state.verdicts.evictions += 1
    standing.eviction_count += 1
    if _serves_decently(turn, host) if is_doubtful is None else is_doubtful:
        state.verdicts.doubtful_evictions += 1
        standing.doubtful_eviction_count += 1
    standing.why = why
    standing.move(HostTrigger.EVICT, turn.now, is_liar=is_liar)
    state.trials.pop(host.id, None)
    heappush(state.terms, (standing.until_s, host.id))
    for peer in host.peers.values():
        state.unlink_children(peer)
    state.disturb_host(host)
    seed.host_evicted(turn, host.id)


def _hear_bad(turn: Turn, child: Peer, parent: Peer, how: str) -> None:
    suspicion = parent.host.standing.suspicion
    if suspicion.heard_bad(turn.now, child.host.id):
        bad, count = suspicion.bad, suspicion.bad + suspicion.good
        evict(turn, parent.host, f"{bad} of {count} pieces in a row were bad: the last one {how}")


def _try(turn: Turn, child: Peer, parent: Peer, piece: Piece, *, is_bad: bool) -> None:
    """A host on probation served a piece. Near its own or the swarm's rate, that is a good one.

    What was on its way before says nothing, and only those who were sent to it can call it bad.
    """
    standing = parent.host.standing
    if turn.now - piece.cost_s < standing.since_s:
        return
    # An unknown rate is NaN, and not above nothing.
    aims = (standing.reference.bytes_per_s, turn.state.swarm_rate.bytes_per_s)
    aim = min((one for one in aims if one > 0), default=0.0)
    if is_bad and _is_tried_by(child, parent):
        _fail_trial(turn, parent.host, "came far too slowly")
    elif standing.current.bytes_per_s * NEAR_FACTOR >= aim:
        standing.trial_good += 1
        if standing.trial_good >= PROBATION_GOOD_PIECES:
            _readmit(turn, parent.host)


def _is_tried_by(child: Peer, parent: Peer) -> bool:
    """Whether `child` was sent to `parent` since its host lost all its children."""
    return parent.id in child.task.graph.parents(child.id)


def _fail_trial(turn: Turn, host: KnownHost, how: str) -> None:
    host.standing.trial_bad += 1
    if host.standing.trial_bad >= PROBATION_BAD_PIECES:
        evict(turn, host, f"{PROBATION_BAD_PIECES} bad pieces on probation: the last one {how}")


def _readmit(turn: Turn, host: KnownHost) -> None:
    standing = host.standing
    if standing.current.bytes_per_s * NEAR_FACTOR < standing.reference.bytes_per_s:
        standing.reference = Reference()  # good enough for the swarm: that is its rate now
    standing.move(HostTrigger.READMIT, turn.now)
    turn.state.trials.pop(host.id, None)
    turn.state.verdicts.readmissions += 1
    found_good(host, turn.state.hosts, turn.now)
    turn.state.disturb_host(host)


def _is_low(turn: Turn, host: KnownHost) -> bool:
    """Whether the host as a whole is far below its own usual rate or the swarm's."""
    standing, history = host.standing, host.history
    # Comparisons with NaN, which is what an unknown rate is, are false.
    if standing.current.bytes_per_s * DROP_FACTOR < standing.reference.bytes_per_s:
        return True
    if history.piece_count(turn.now) < LEAST_SWARM_PIECES:
        return False
    recent_bytes_per_s = history.recent_rate_bytes_per_s
    return recent_bytes_per_s * SWARM_FACTOR < turn.state.swarm_rate.bytes_per_s


def _may_compare(child: KnownHost, parent: KnownHost) -> bool:
    """Whether nothing but the two hosts is likely to make a piece slow."""
    ours, theirs = child.announced.idc, parent.announced.idc
    return not (ours and theirs) or same_idc(ours, theirs) > 0


def _serves_decently(turn: Turn, host: KnownHost) -> bool:
    """Whether the host's rate, the silence since its latest piece counted, is near the swarm's."""
    rate = host.standing.current.with_silence(turn.now)
    return rate > DOUBTFUL_SHARE * turn.state.swarm_rate.bytes_per_s
