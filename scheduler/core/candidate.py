"""Who can be a parent of whom: rules that each have a name, so that a refusal can be explained.

The rules come in three parts. Whether a peer is *useful* depends on itself alone; the peers of a
task that are useful form the task's index, which `state` keeps up to date as events arrive, so
that nobody draws a blind sample of peers that may all be useless. Whether it *suits* a child
depends on the pair. And it must not be *below* the child where the graph may not close a circle
(`graph`). A peer that is not useful yet, but suits, is what a waiting child may hope for.

A host that was evicted, or is on probation and has a child already, suits nobody. Its peers are
kept apart as a last resort (`judgement`); those of one that lies are not (`accusation`).

There is no rule about free upload slots: load is a matter of ranking, and of the operator's load
limit (`cluster`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from scheduler.core.gateway import is_far, is_needless, origins_at_home, stays_near
from scheduler.core.graph import GraphKind
from scheduler.core.lifecycle import SERVING, PeerState
from scheduler.core.peer import Peer, covers
from scheduler.core.standing import HostState
from scheduler.core.supply import is_supplied

if TYPE_CHECKING:
    from scheduler.core.graph import Descendants
    from scheduler.core.host import KnownHost


class Drop(StrEnum):
    """Why a candidate was not taken."""

    SELF = "is the child itself"
    SAME_HOST = "runs on the child's own host"
    NOT_SHARED = "its host does not share"
    STATE = "is in no state to serve"
    OUT_OF_CONTACT = "nothing is heard of its host any more"
    NO_SOURCE = "has nobody to get the bytes from"
    BLOCKED = "failed this child before"
    OTHER_RANGE = "fetches another part of the content"
    LIAR = "its host sends other bytes than it says"
    EVICTED = "its host is evicted"
    ON_PROBATION = "its host is on probation, and has a child already"
    PARENT = "is a parent of the child already"
    CYCLE = "is downstream of the child"
    STOCK = "is a stock peer that still fetches: it serves stock peers only"
    FAR = "is in another data centre: others bring its pieces here"
    BAD = "the ranker calls it bad"
    LOADED = "is on a host with as many children as it may have"
    SEED_FULL = "is a seed with as many children as its uplink bears"
    NOT_SAMPLED = "was not in the sample"
    OUTRANKED = "others scored higher"
    NOT_DRAWN = "others were drawn, to explore"
    NO_EDGE = "its edge could not be added"


PROBATION_CHILDREN = 1
"""Of a host on probation, at a time: whoever tries it out pays for all the others."""

_WITHOUT_PARENTS = (PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED)
"""States in which a peer serves, has no parents, and will get none."""

_BARRED = (Drop.EVICTED, Drop.ON_PROBATION)
_OPEN = (None, *_BARRED)


@dataclass(slots=True)
class Survey:
    """The useful peers of a task as one child sees them, in the order they became useful.

    `last_resort` would be eligible, were it not for the standing of their hosts: better than
    nothing. `draw_seed` is that of all chances of the decision the survey is made for.
    """

    eligible: list[Peer] = field(default_factory=list[Peer])
    dropped: dict[str, Drop] = field(default_factory=dict[str, Drop])
    last_resort: list[Peer] = field(default_factory=list[Peer])
    draw_seed: int = 0


def why_useless(peer: Peer) -> Drop | None:
    """Return why nobody can download from `peer` now, None if it is useful.

    A running peer must be supplied itself, or it has no bytes to come (`supply`).
    """
    if peer.state not in SERVING:
        return Drop.STATE
    if peer.host.announced.disable_shared:
        return Drop.NOT_SHARED
    if peer.host.is_lost:
        return Drop.OUT_OF_CONTACT
    return None if is_supplied(peer) else Drop.NO_SOURCE


def why_unsuited(child: Peer, parent: Peer) -> Drop | None:
    """Return why `parent` can never serve this child, whatever becomes of it; None if it could."""
    if parent is child:
        return Drop.SELF
    if parent.host is child.host:
        return Drop.SAME_HOST
    if parent.host.announced.disable_shared:
        return Drop.NOT_SHARED
    if child.blocks(parent):
        return Drop.BLOCKED
    if not covers(parent.range, child.range):
        return Drop.OTHER_RANGE
    return Drop.LIAR if parent.host.id in parent.task.liars else why_barred(parent.host)


def why_out_of_order(child: Peer, parent: Peer, below: Descendants) -> Drop | None:
    """Return why an edge would close a circle that may not be; `below`: the graph's of the child.

    In a mesh a stock peer that still fetches is kept for stock peers.
    """
    if parent.id in below:
        return Drop.CYCLE
    is_kept = child.is_ours and not parent.is_ours and parent.state not in _WITHOUT_PARENTS
    return Drop.STOCK if is_kept and child.task.graph.kind is GraphKind.MESH else None


def why_barred(host: KnownHost) -> Drop | None:
    """Return why nobody is sent to `host` just now, for how it has served; None if it is free."""
    match host.standing.state:
        case HostState.EVICTED:
            return Drop.LIAR if host.standing.is_liar else Drop.EVICTED
        case HostState.ON_PROBATION if host.concurrent_upload_count >= PROBATION_CHILDREN:
            return Drop.ON_PROBATION
        case _:
            return None


def survey(
    child: Peer,
    among: Iterable[Peer] | None = None,
    enough: int | None = None,
    *,
    saves_link: bool = True,
) -> Survey:
    """Sort the useful peers of the child's task, or some `among` them, into eligible and others.

    With `enough` eligible ones it looks no further. With `saves_link` nobody far is eligible who
    brings nothing to the child's data centre, as long as anybody else is.
    """
    seen = Survey()
    task = child.task
    if not task.useful:
        return seen
    below, is_near_only = task.graph.below(child.id), stays_near(child)
    origins = origins_at_home(child) if saves_link else []
    home, blocked, idc = child.host, child.blocked, child.host.announced.idc
    has_children = bool(task.graph.children(child.id))  # without, only it is below it
    is_simple = not is_near_only and not task.liars
    keeps_stock = child.is_ours and task.graph.kind is GraphKind.MESH
    good = HostState.GOOD
    for parent in task.useful.values() if among is None else among:
        host = parent.host
        if (  # nothing that could speak against it: most are so, and need no closer look
            is_simple
            and host is not home
            and host.standing.state is good
            and parent.range is None
            and not host.announced.disable_shared
            and (not origins or host.announced.idc == idc)
            and (not keeps_stock or parent.is_ours or parent.state in _WITHOUT_PARENTS)
            and not (blocked and parent.id in blocked)
            and not (has_children and parent.id in below)
        ):
            seen.eligible.append(parent)
            if len(seen.eligible) == enough:
                break
            continue
        reason = why_unsuited(child, parent)
        if reason in _OPEN:
            reason = why_out_of_order(child, parent, below) or reason
        reason = reason or _why_too_far(child, parent, origins, is_near_only=is_near_only)
        if reason is None:
            seen.eligible.append(parent)
            if len(seen.eligible) == enough:
                break
            continue
        seen.dropped[parent.id] = reason
        if reason in _BARRED:
            seen.last_resort.append(parent)
    if origins and not seen.eligible and among is None:
        return survey(child, enough=enough, saves_link=False)
    return seen


def _why_too_far(
    child: Peer, parent: Peer, origins: list[Peer], *, is_near_only: bool
) -> Drop | None:
    if not is_far(child, parent):
        return None
    return Drop.FAR if is_near_only or is_needless(parent, origins) else None


def has_hope(child: Peer) -> bool:
    """Whether somebody who suits the child is about to become useful.

    That is a triggered seed, or a peer that was sent to the source or was given parents and has not
    started yet, or somebody who comes from another scheduler with the bytes. All of these are
    bounded in time, and none of them is itself waiting: hope never runs in a circle. Peers below
    the child don't count, for they wait for the child's own bytes.
    """
    task = child.task
    if _seed_may_come(child) or task.learning_until_s is not None:
        return True
    if not task.to_source and not task.starting:
        return False
    below = task.graph.below(child.id)
    going = (task.peers[peer_id] for peer_id in task.to_source)
    if any(p.id not in below and why_unsuited(child, p) is None for p in going):
        return True
    return any(may_become_parent(child, task.peers[peer_id], below) for peer_id in task.starting)


def may_become_parent(child: Peer, starting: Peer, below: Descendants) -> bool:
    """Whether a peer that was given parents will serve the child once it has started."""
    return (
        is_supplied(starting)
        and why_unsuited(child, starting) is None
        and why_out_of_order(child, starting, below) is None
    )


def _seed_may_come(child: Peer) -> bool:
    flights = child.task.seed_flights.values()
    return any(flight.is_hope() and flight.host_id != child.host.id for flight in flights)
