"""Who can be a parent of whom: rules that each have a name, so that a refusal can be explained.

The rules come in three parts. Whether a peer is *useful* depends on itself alone; the peers of a
task that are useful form the task's index, which `state` keeps up to date as events arrive, so
that nobody draws a blind sample of peers that may all be useless. Whether it *suits* a child
depends on the pair. And it must not be *below* the child in the graph, for edges may not close a
cycle. A peer that is not useful yet, but suits, is what a waiting child may hope for.

A host that was evicted, or is on probation and has a child already, suits nobody. Its peers are
kept apart as a last resort (`judgement`).

There is no rule about free upload slots: load is a matter of ranking.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from scheduler.core.lifecycle import SERVING, PeerState
from scheduler.core.peer import Peer, covers
from scheduler.core.standing import HostState

if TYPE_CHECKING:
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
    EVICTED = "its host is evicted"
    ON_PROBATION = "its host is on probation, and has a child already"
    PARENT = "is a parent of the child already"
    CYCLE = "is downstream of the child"
    BAD = "the ranker calls it bad"
    SEED_FULL = "is a seed with as many children as its uplink bears"
    NOT_SAMPLED = "was not in the sample"
    OUTRANKED = "others scored higher"
    NOT_DRAWN = "others were drawn, to explore"
    NO_EDGE = "its edge could not be added"


PROBATION_CHILDREN = 1
"""Of a host on probation, at a time: whoever tries it out pays for all the others."""

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

    A running peer needs parents of its own, or it has no bytes to come; a seed is exempt, as in
    Dragonfly, unless it waits for parents itself.
    """
    if peer.state not in SERVING:
        return Drop.STATE
    if peer.host.announced.disable_shared:
        return Drop.NOT_SHARED
    if peer.host.is_lost:
        return Drop.OUT_OF_CONTACT
    if peer.state is PeerState.BACK_TO_SOURCE:
        return Drop.NO_SOURCE if peer.source_refused else None
    if peer.state is PeerState.SUCCEEDED or peer.task.graph.has_parents(peer.id):
        return None
    is_exempt = peer.host.is_seed and peer.id not in peer.task.waiting
    return None if is_exempt else Drop.NO_SOURCE


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
    return why_barred(parent.host)


def why_barred(host: KnownHost) -> Drop | None:
    """Return why nobody is sent to `host` just now, for how it has served; None if it is free."""
    match host.standing.state:
        case HostState.EVICTED:
            return Drop.EVICTED
        case HostState.ON_PROBATION if host.concurrent_upload_count >= PROBATION_CHILDREN:
            return Drop.ON_PROBATION
        case _:
            return None


def survey(child: Peer, among: Iterable[Peer] | None = None, enough: int | None = None) -> Survey:
    """Sort the useful peers of the child's task, or some `among` them, into eligible and others.

    With `enough` eligible ones it looks no further.
    """
    seen = Survey()
    task = child.task
    if not task.useful:
        return seen
    below = task.graph.descendants(child.id)
    for parent in task.useful.values() if among is None else among:
        reason = why_unsuited(child, parent)
        if reason in _OPEN and parent.id in below:
            reason = Drop.CYCLE
        if reason is None:
            seen.eligible.append(parent)
            if len(seen.eligible) == enough:
                break
            continue
        seen.dropped[parent.id] = reason
        if reason in _BARRED:
            seen.last_resort.append(parent)
    return seen


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
    coming = (*task.to_source, *task.starting)
    if not coming:
        return False
    below = task.graph.descendants(child.id)
    return any(
        peer_id not in below and why_unsuited(child, task.peers[peer_id]) is None
        for peer_id in coming
    )


def _seed_may_come(child: Peer) -> bool:
    flight = child.task.seed_flight
    return flight is not None and flight.is_hope() and flight.host_id != child.host.id
