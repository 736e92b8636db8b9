"""What becomes of a child that asked for parents. The one place where that is decided.

Theory of operation
===================

A child asks by registering or rescheduling. It is put on its task's waiting list, and its case is
decided in this order:

0. If the task has turned out to be empty, that is the answer.
1. *Admission.* If as many children are on their way (given parents, not started yet) as there are
   useful parents, the child waits for one of them to start. A burst then grows a graph that doubles
   with each round trip. Only newcomers are held; the hold lasts `start_timeout_s` at most.
2. *Parents.* If anybody is eligible, the child is given the best few, with edges and bookings.
3. *Hope.* If somebody who suits it is about to become useful, the child waits. It does not poll and
   has no timer of its own: whatever makes a parent useful, or takes a hope away, marks the task
   restless, and `settle` decides its waiting children anew.
4. *A seed.* If a seed can be asked, it is triggered, and is then what the child hopes for.
5. *The source.* Otherwise the child is sent to the source; it is the hope of all the others who
   wait. That is the single flight: the next one goes only when the first has failed.

If the source itself has answered with an error, steps 3 and 4 are skipped for everybody who waits:
the answer may depend on each one's credentials, and waiting for another's failure helps nobody.

6. *The last resort.* A child that may not go to the source, or would be one too many there, is
   given parents on hosts that were evicted (`judgement`), or a seed that was.

If the source has answered with an error, or the child's priority says that only peers may serve it,
that is tried before the source. A child that is stuck even so is refused. One that did not ask
(`replacement`) is let be instead.

Why nobody waits for ever: a child waits only for hopes, a hope is never itself waiting, each hope
has a deadline, and the deadline of the earliest is what the core asks to be woken for.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from odonata.errors import PreconditionError
from odonata.wire.message import EmptyTask, NeedBackToSource, NormalTask, Parent
from scheduler.core import proof, rota, seed
from scheduler.core.candidate import (
    Drop,
    Survey,
    has_hope,
    may_become_parent,
    survey,
    why_barred,
    why_unsuited,
    why_useless,
)
from scheduler.core.choice import choose, look_around
from scheduler.core.decision import note_choice, note_source, tell
from scheduler.core.gateway import note_parents
from scheduler.core.graph import GraphKind
from scheduler.core.lifecycle import PeerState
from scheduler.core.pick import SEED_BITS
from scheduler.core.rota import places_of
from scheduler.core.story import Outcome
from scheduler.core.supply import is_supplied

if TYPE_CHECKING:
    from collections.abc import Callable

    from odonata.wire.message import TaskFacts
    from scheduler.core.peer import Peer
    from scheduler.core.task import Task
    from scheduler.core.turn import Turn

PEERS_ONLY_PRIORITIES = (1, 2)
"""Levels of a download that start nothing new: what peers have, or nothing."""


_NEVER_KEPT = (Drop.BLOCKED, Drop.LIAR, Drop.NOT_SHARED)
"""What an answer that names all parents must not name again."""


class _Verdict(Enum):
    ANSWERED = auto()
    HELD = auto()
    HOPES = auto()
    TRIGGERED = auto()
    STUCK = auto()


def ask(turn: Turn, child: Peer, *, is_asking: bool = True) -> None:
    """Decide the case of a child that has just asked for parents.

    Or has not asked, and is in want of them all the same (`replacement`).
    """
    task = child.task
    child.is_asking = is_asking
    expire(turn, task)
    turn.state.wait(child)
    match _decide(turn, child, source_answered=False):
        case _Verdict.STUCK:
            _refuse(turn, child)
        case _Verdict.HELD:
            tell(turn, child, Outcome.WAIT, "another child must start first", None)
        case _Verdict.HOPES:
            tell(turn, child, Outcome.WAIT, "somebody is about to become a parent", None)
        case _Verdict.ANSWERED | _Verdict.TRIGGERED:
            pass


def settle_restless(turn: Turn) -> None:
    """Decide anew the waiting children of every task in which something changed."""
    restless = turn.state.restless
    while restless:
        settle(turn, next(iter(restless.values())))


def settle(turn: Turn, task: Task, *, source_answered: bool = False) -> None:
    """Decide the waiting children of one task, again and again until nothing changes.

    One child's answer can be another one's parent, hence the passes; each but the last answers
    somebody, so there are at most as many as children.
    """
    expire(turn, task)
    while True:
        turn.state.restless.pop(task.id, None)
        stuck = _pass(turn, task, source_answered=source_answered)
        if task.id in turn.state.restless:
            continue
        for child in stuck:
            if not has_hope(child):
                _refuse(turn, child)
        if task.id not in turn.state.restless:
            return


def is_held(child: Peer) -> bool:
    """Whether a waiting newcomer must let another child, who may become its parent, start first."""
    task = child.task
    if child.state is not PeerState.RECEIVED_NORMAL:
        return False
    if len(task.starting) < max(1, len(task.useful)):
        return False
    below = task.graph.below(child.id)
    return any(may_become_parent(child, task.peers[peer_id], below) for peer_id in task.starting)


def has_source(child: Peer) -> bool:
    """Whether the bytes can come from anybody but a seed or the source: now, or as hoped for."""
    seen = survey(child)
    return bool(seen.eligible or seen.last_resort) or has_hope(child)


def top_up(turn: Turn, child: Peer) -> None:
    """Give a child that has parents as many more as it may have, if anybody is eligible."""
    room = places_of(child, turn.limits) - child.task.graph.parent_count(child.id)
    if room <= 0:
        return
    seen = _look_beyond(turn, child)
    if seen.eligible:
        _give_parents(turn, child, seen, room)


def exchange(
    turn: Turn,
    child: Peer,
    leaving: list[Peer],
    other: Peer | None = None,
    suits: Callable[[Peer], bool] | None = None,
) -> None:
    """Give the child others in the place of these parents, if anybody is eligible.

    It shall be this `other`, or such as `suits`. Who gets its bytes through the child by one of
    these parents is not eligible.
    """
    seen = _look_beyond(turn, child) if other is None else survey(child, [other])
    seen.draw_seed = seen.draw_seed or turn.rng.getrandbits(SEED_BITS)
    if suits is not None:
        seen.eligible = [peer for peer in seen.eligible if suits(peer)]
    if not seen.eligible:
        return
    for parent in leaving:
        turn.state.unlink(parent, child)
    useless = {peer.id: why for peer in seen.eligible if (why := why_useless(peer)) is not None}
    seen.dropped.update(useless)
    seen.eligible = [peer for peer in seen.eligible if peer.id not in useless]
    if not seen.eligible or not _give_parents(turn, child, seen, len(leaving)):
        turn.state.link(child, leaving, turn.now)


def give(turn: Turn, child: Peer, parent: Peer) -> None:
    """Give the child this one parent, in addition to those it has."""
    seen = Survey(eligible=[parent], draw_seed=turn.rng.getrandbits(SEED_BITS))
    _give_parents(turn, child, seen, 1)


def _look_beyond(turn: Turn, child: Peer) -> Survey:
    """What the child sees besides its parents."""
    seen = look_around(turn, child)
    if not child.task.graph.has_parents(child.id):
        return seen
    known = frozenset(child.task.graph.parents(child.id))
    seen.dropped.update((peer.id, Drop.PARENT) for peer in seen.eligible if peer.id in known)
    seen.eligible = [peer for peer in seen.eligible if peer.id not in known]
    return seen


def send_to_source(turn: Turn, child: Peer, reason: str, seen: Survey | None = None) -> None:
    """Tell `child` to go back to the source."""
    turn.answer(child, NeedBackToSource(description=reason))
    child.task.to_source[child.id] = turn.now + turn.limits.source_start_timeout_s
    turn.state.expect(child.task)
    note_source(turn, child, reason, seen)


def source_is_full(turn: Turn, child: Peer) -> bool:
    """Whether the task has as many peers at the source as it may; seeds don't ask."""
    limit = turn.limits.back_to_source_limit
    return not child.host.is_seed and child.task.back_to_source_count() >= limit


def expire(turn: Turn, task: Task) -> None:
    """Give up hopes whose time has come."""
    if task.expire(turn.now):
        turn.state.disturb(task)


def _pass(turn: Turn, task: Task, *, source_answered: bool) -> list[Peer]:
    """Decide every waiting child once; mark the task restless if one of them was answered."""
    stuck: list[Peer] = []
    all_held = False
    for child in tuple(task.waiting.values()):
        if all_held and child.state is PeerState.RECEIVED_NORMAL and not child.blocked:
            continue
        match _decide(turn, child, source_answered=source_answered):
            case _Verdict.ANSWERED:
                turn.state.disturb(task)
            case _Verdict.STUCK:
                stuck.append(child)
            case _Verdict.HELD:
                all_held = _suits_everybody(task)
            case _Verdict.HOPES | _Verdict.TRIGGERED:
                pass
    return stuck


def _suits_everybody(task: Task) -> bool:
    """Whether any newcomer finds a suitable one among those on their way: two hosts are enough.

    Spares looking at each of a thousand children that are held, each time one of them starts.
    """
    first = ""
    for peer_id in task.starting:
        peer = task.peers[peer_id]
        if peer.range is not None or peer.host.announced.disable_shared:
            continue
        if why_barred(peer.host) is not None or peer.host.id in task.liars:
            continue
        if not is_supplied(peer) or (task.graph.kind is GraphKind.MESH and not peer.is_ours):
            continue
        if first and first != peer.host.id:
            return True
        first = peer.host.id
    return False


def _decide(turn: Turn, child: Peer, *, source_answered: bool) -> _Verdict:
    if child.task.content_length == 0:
        turn.answer(child, EmptyTask())
        return _Verdict.ANSWERED
    if turn.limits.admission and not source_answered and is_held(child):
        return _Verdict.HELD
    seen = _look_beyond(turn, child)
    if seen.eligible and _give_parents(turn, child, seen, places_of(child, turn.limits)):
        return _Verdict.ANSWERED
    if source_answered:
        return _hear_the_source(turn, child, seen)
    if has_hope(child):
        return _Verdict.HOPES
    return _bring(turn, child, seen)


def _hear_the_source(turn: Turn, child: Peer, seen: Survey) -> _Verdict:
    """The source has answered with an error; it may depend on the child what it answers to it."""
    if _give_last_resort(turn, child, seen):
        return _Verdict.ANSWERED
    return _back_to_source(turn, child, "the source answered with an error", seen)


def _bring(turn: Turn, child: Peer, seen: Survey) -> _Verdict:
    """Make somebody fetch what nobody has: a seed if one can be asked, else this child."""
    host = seed.trigger(turn, child)
    if host is not None:
        tell(turn, child, Outcome.SEED, f"seed {host.id} was triggered", seen)
        return _Verdict.TRIGGERED
    if child.download.priority in PEERS_ONLY_PRIORITIES and _give_last_resort(turn, child, seen):
        return _Verdict.ANSWERED
    verdict = _back_to_source(turn, child, "no parent and no seed can help", seen)
    if verdict is not _Verdict.STUCK:
        return verdict
    if _give_last_resort(turn, child, seen):
        return _Verdict.ANSWERED
    host = seed.trigger(turn, child, last_resort=True)
    if host is not None:
        tell(turn, child, Outcome.SEED, f"seed {host.id} was triggered, evicted as it is", seen)
        return _Verdict.TRIGGERED
    return _Verdict.STUCK


def _back_to_source(turn: Turn, child: Peer, reason: str, seen: Survey) -> _Verdict:
    if child.download.disable_back_to_source or source_is_full(turn, child):
        return _Verdict.STUCK
    send_to_source(turn, child, reason, seen)
    return _Verdict.ANSWERED


def _give_last_resort(turn: Turn, child: Peer, seen: Survey) -> bool:
    """Give the child parents on hosts that are evicted or on probation, if there are any."""
    seen.eligible, seen.last_resort = seen.last_resort, []
    seen.eligible = seen.eligible[: turn.limits.candidate_batch_limit]
    for parent in seen.eligible:
        del seen.dropped[parent.id]
    places = places_of(child, turn.limits)
    return bool(seen.eligible) and _give_parents(turn, child, seen, places)


def _give_parents(turn: Turn, child: Peer, seen: Survey, places: int) -> bool:
    choice = choose(turn, child, seen, places)
    kept = _keep_parents(turn, child) if child.is_ours else []
    parents = turn.state.link(child, choice.parents, turn.now)
    if not parents:
        return False
    choice.parents = parents
    if note_parents(child, parents):
        turn.state.divided_anew[child.task.id] = child.task
    child.arrivals_seen = child.task.arrival_count
    rota.enter(turn, child)
    known = child.task.facts()
    named = (parent_of(child, peer, known) for peer in (*parents, *kept))
    turn.answer(child, NormalTask(parents=tuple(named)))
    if child.task.strong is not None:
        proof.tell(turn, child)
    note_choice(turn, child, choice, seen)
    if child.state is PeerState.RECEIVED_NORMAL and child.id not in child.task.starting:
        child.task.starting[child.id] = turn.now + turn.limits.start_timeout_s
        turn.state.expect(child.task)
    return True


def _keep_parents(turn: Turn, child: Peer) -> list[Peer]:
    """The parents that the child has and may keep; whoever can't be named again goes."""
    kept: list[Peer] = []
    for parent_id in child.task.graph.parents(child.id):
        parent = child.task.peers[parent_id]
        if why_useless(parent) is not None or why_unsuited(child, parent) in _NEVER_KEPT:
            turn.state.unlink(parent, child)
        else:
            kept.append(parent)
    return kept


def parent_of(child: Peer, peer: Peer, known: TaskFacts) -> Parent:
    """Return what a child is told of a parent, of a task of which `known` is known.

    Peers of ours hear from the parent itself what it holds, stock ones are told.
    """
    return Parent(
        peer_id=peer.id,
        host=peer.host.announced,
        state=peer.state,
        task=known,
        finished_pieces=() if child.is_ours else peer.pieces.numbers(),
    )


def _refuse(turn: Turn, child: Peer) -> None:
    """There is nothing to tell the child. If it asked, that is an error."""
    if not child.is_asking:
        turn.state.stop_waiting(child)
        return
    if child.download.disable_back_to_source:
        why = "and this download must not go back to the source (disable_back_to_source)"
    else:
        count, limit = child.task.back_to_source_count(), turn.limits.back_to_source_limit
        why = f"and {count} of at most {limit} peers are at its source; try again later"
    reason = f"task {child.task.id} has no parent to offer, {why}"
    tell(turn, child, Outcome.REFUSED, reason, None)
    turn.fail(child, PreconditionError(reason))
