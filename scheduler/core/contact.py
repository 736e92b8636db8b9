"""Who is out of contact, and so is offered to nobody, though nothing was forgotten.

Theory of operation
===================

A host of ours *holds contact*: a stream that is open as long as it lives (`HostContacted`,
`HostLost`). When that ends, its process has died, or the way to it. All its peers leave the index
of useful parents at once, those that have long finished too; a moment later (`CHILDREN_GRACE_S`)
its children are bereft (`replacement`). It and its peers are not forgotten: a contact that is held
again, or an announcement, brings them back as they were. Whoever announces itself without holding
contact again has `RETURN_S` to do so. While a host holds contact it is no matter how long ago it
announced itself.

A stock client holds no contact. It is judged by its streams and announcements, and by what its
children say: if two of them, on different hosts, fail at it within `SUSPICION_S`, and nobody got a
piece from it meanwhile, the scheduler tries to connect to it (`ProbeHost`). If nobody answers, it
is out of contact until anything is heard of it or a piece comes from it.

A scheduler that was suspended, or starved, sees everybody's contact end in the moment it goes on:
it was itself who was away. It notices by its alarm, which rings late: then no contact is taken for
lost before `GRACE_S` are over, and the time it was away is not held against anybody (`paused`).
While anybody holds contact there is an alarm at least every `BEAT_S`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core import seed
from scheduler.core.effect import ProbeHost

if TYPE_CHECKING:
    from scheduler.core.event import HostAnnounced, HostContacted, HostLost, HostUnreachable
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState
    from scheduler.core.turn import Turn

CHILDREN_GRACE_S = 1.0
"""Before the children of a lost host are given others: a connection that broke is opened again
within a second, and children notice a dead parent themselves."""
RETURN_S = 10.0
"""A host that announces itself opens its contact right after; 10 s are an overloaded
scheduler's."""
SUSPICION_S = 5.0
"""Two children that fail at a host so soon one after the other do so for one reason."""
BEAT_S = 1.0
PAUSE_S = 2.5
"""An alarm that rings so late: a busy core is milliseconds late, a suspended one seconds."""
GRACE_S = 10.0
"""Peers come back within 5 s of having lost their scheduler; twice that for a crowd."""


def announced(turn: Turn, event: HostAnnounced) -> None:
    """A host says who it is; that brings it back, for a while at least."""
    state = turn.state
    host = state.announce(event.host, event.interval_s, turn.now, shares_source=event.shares_source)
    up_to_s = state.began_at_s + turn.limits.learning_s
    if event.returns and turn.now < up_to_s:
        state.restarting_until_s = up_to_s
    _return(turn, host)


def contacted(turn: Turn, event: HostContacted) -> None:
    """A host holds contact, maybe before it is known, or again."""
    state = turn.state
    state.contacts.add(event.host_id)
    state.losing.pop(event.host_id, None)
    host = state.hosts.get(event.host_id)
    if host is not None:
        host.holds_contact = True
        host.updated_at_s = turn.now
        _find(turn, host)


def lost(turn: Turn, event: HostLost) -> None:
    """A host holds contact no more."""
    state = turn.state
    state.contacts.discard(event.host_id)
    host = state.hosts.get(event.host_id)
    if host is None:
        return
    host.updated_at_s = turn.now
    host.holds_contact = True
    if turn.now < state.grace_until_s:
        state.losing[host.id] = state.grace_until_s
    else:
        _lose(turn, host)


def heard(turn: Turn, host: KnownHost) -> None:
    """A stock host that was out of contact speaks, or gave somebody a piece.

    Of one that holds contact that proves nothing: what was said last may arrive after the end.
    """
    if host.is_lost and not host.holds_contact:
        _find(turn, host)


def unreachable(turn: Turn, event: HostUnreachable) -> None:
    """Nobody answered at a host that was suspected, unless it has held contact since."""
    host = turn.state.hosts.get(event.host_id)
    if host is not None and not host.holds_contact and not host.is_lost:
        _lose(turn, host)


def suspect(turn: Turn, child: Peer, parent: Peer) -> None:
    """`child` got no piece from `parent`: find out whether its host is there, if others say so."""
    host, now = parent.host, turn.now
    if host.holds_contact or host.is_lost:
        return
    is_second = (
        host.failed_child_host_id not in ("", child.host.id)
        and now - host.failed_at_s <= SUSPICION_S
        and host.served_at_s < host.failed_at_s
    )
    host.failed_child_host_id, host.failed_at_s = child.host.id, now
    if is_second:
        host.failed_child_host_id = ""
        turn.effects.append(ProbeHost(host=host.announced))


def tick(turn: Turn) -> None:
    """What was to happen to lost hosts by now."""
    state = turn.state
    for host_id in _due(state.losing, turn.now):
        host = state.hosts.get(host_id)
        if host is not None and host_id not in state.contacts:
            _lose(turn, host)
    for host_id in _due(state.orphaning, turn.now):
        host = state.hosts.get(host_id)
        for peer in host.peers.values() if host is not None else ():
            state.unlink_children(peer)


def next_deadline_s(state: SchedulerState, now: float) -> float | None:
    """When `tick` must be called at the latest; None: nobody holds contact or was lost."""
    deadlines = [*state.losing.values(), *state.orphaning.values()]
    if state.contacts:
        deadlines.append(now + BEAT_S)
    return min(deadlines, default=None)


def paused(state: SchedulerState, pause_s: float, now: float) -> None:
    """The scheduler itself was away for `pause_s`, which is nobody else's fault."""
    state.grace_until_s = now + GRACE_S
    for host_id in state.losing:
        state.losing[host_id] = state.grace_until_s
    for host in state.hosts.values():
        host.updated_at_s += pause_s
    for peer in state.peers.values():
        peer.updated_at_s += pause_s
        peer.piece_at_s += pause_s


def _return(turn: Turn, host: KnownHost) -> None:
    state = turn.state
    state.orphaning.pop(host.id, None)
    if host.id in state.contacts:
        host.holds_contact = True
    elif host.holds_contact:
        state.losing[host.id] = turn.now + RETURN_S


def _lose(turn: Turn, host: KnownHost) -> None:
    state = turn.state
    host.is_lost = True
    state.losing.pop(host.id, None)
    state.orphaning[host.id] = turn.now + CHILDREN_GRACE_S
    for peer in host.peers.values():
        state.refresh(peer)
    state.disturb_host(host)
    if host.is_seed:
        seed.host_lost(turn, host.id)


def _find(turn: Turn, host: KnownHost) -> None:
    turn.state.orphaning.pop(host.id, None)
    if not host.is_lost:
        return
    host.is_lost = False
    host.failed_child_host_id = ""
    for peer in host.peers.values():
        turn.state.refresh(peer)
    turn.state.disturb_host(host)


def _due(deadlines: dict[str, float], now: float) -> list[str]:
    due = [host_id for host_id, at_s in deadlines.items() if at_s <= now]
    for host_id in due:
        del deadlines[host_id]
    return due
