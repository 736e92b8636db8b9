"""Who sends other bytes than it says: believed at once, and not believed from just anybody.

Theory of operation
===================

A child of ours that gets a piece whose bytes do not have the digest their sender named says so
(`PieceFailed.wrong_digest`): it *accuses* the sender. No network does that by itself, so nothing is
waited for:

- The first accusation takes the sender's host out of the *task*: nobody is sent to it any more,
  and the children it has there are given others. Elsewhere it goes on probation (`standing`): it is
  offered to one child at a time, until a few pieces have come well.
- It is *convicted* by a second accuser, of another host; or by the first, if the scheduler has
  itself been told by that host's peer of a piece that is not what the source sent (`PieceDigests`).
  Then it is evicted everywhere, for the longest term there is, and is no last resort either.

What the bytes should be, a child may also know from us: by the strong digest that somebody told who
had the piece from the source (`proof`). Then it counts for as much as that word:

- if a seed told it, it is an accusation like any other;
- if a peer told it, it takes the accused out of the task and puts it on probation, but convicts it
  only if it has told of wrong bytes itself: else one peer that makes up digests could have all
  others evicted;
- if it is not known any more, it counts for nothing.

What the convict has told itself of what the source sends is forgotten.

An accusation costs others little and may be a lie, so not each is believed:

- only that of a child that was sent to the accused;
- from one host, of at most `ACCUSED_MAX` hosts in ten minutes;
- not from a host that is evicted or on probation itself, has told of pieces that are not what the
  source sent, or has accused `REFUTED_MAX` hosts that were found good since.

So one liar among the children can keep three hosts out of one task for a while, and put them to the
test elsewhere; it takes two to convict. Whom it convicts although others have just got right pieces
from it is counted as a doubtful eviction.

What is not believed is a failed piece like any other (`judgement`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core import judgement, proof
from scheduler.core.honesty import lately, note
from scheduler.core.standing import HostState
from scheduler.core.strong_digests import Rank

if TYPE_CHECKING:
    from odonata.wire.message import Piece, PieceFailed
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

ACCUSED_MAX = 3
"""Hosts that one host may accuse in `honesty.MEMORY_S`. In a cluster of which one in twenty lies, a
child with eight parents meets more than three in less than one of two thousand downloads."""
REFUTED_MAX = 2
"""Accused that were readmitted: one can be a host that was repaired, two are a habit."""
WITNESSES_MIN = 2
WITNESS_MEMORY_S = 60.0
"""Hosts that got right pieces from a convict so lately: then its eviction is doubtful."""
LIARS_PER_TASK_MAX = 256
"""Hosts that a task remembers to have lied; the oldest is forgotten first, and caught again."""


def piece_told(turn: Turn, teller: Peer, parent: Peer | None, piece: Piece) -> None:
    """`teller` has a piece from `parent`, on another host; or from the source, if that is None."""
    digests = teller.task.digests
    if parent is None:
        if _is_good(teller.host, turn.now):
            digests.learn(piece.number, piece.digest)
            source_told(turn, teller, piece)
        return
    agrees = digests.agrees(piece.number, piece.digest)
    if agrees is False:
        teller.host.honesty.contradicted_at_s = turn.now
    elif agrees:
        note(parent.host.honesty.witnesses, teller.host.id, turn.now, 2 * WITNESSES_MIN)


def source_told(turn: Turn, teller: Peer, piece: Piece) -> None:
    """`teller` has or had the piece from the source, and tells its strong digest."""
    if piece.strong_digest and _is_good(teller.host, turn.now):
        proof.told(turn, teller, piece)


def accuse(turn: Turn, child: Peer, parent: Peer, message: PieceFailed) -> None:
    """`child` says that `parent` sent bytes of another digest than it named, or we have told."""
    accuser, host, now = child.host, parent.host, turn.now
    if accuser is host or not _is_believed(child, parent, now):
        return
    rank = proof.rank_of(child.task, message.number) if message.by_list else Rank.SEED
    if rank is None:
        return
    note(accuser.honesty.accused, host.id, now)
    if rank is Rank.SEED:
        note(host.honesty.accusers, accuser.id, now)
    _ban(turn, host, parent)
    if host.standing.state is HostState.EVICTED:
        return
    accusers = lately(host.honesty.accusers, now)
    if len(accusers) > 1 or host.honesty.holds_wrong_bytes(now):
        proof.disown(host)
        judgement.evict(turn, host, is_liar=True, is_doubtful=_has_witnesses(host, accusers, now))
    elif host.standing.state is HostState.GOOD:
        judgement.suspect(turn, host)


def _is_believed(child: Peer, parent: Peer, now: float) -> bool:
    accuser, host = child.host, parent.host
    honesty = accuser.honesty
    was_sent = parent.id in child.task.graph.parents(child.id)
    # A seed is named others without an edge; and who was sent to a liar has no edge any more.
    if not (was_sent or accuser.is_seed or accuser.id in host.honesty.children):
        return False
    if not _is_good(accuser, now) or len(lately(honesty.refuted, now)) >= REFUTED_MAX:
        return False
    accused = lately(honesty.accused, now)
    return host.id in accused or len(accused) < ACCUSED_MAX


def _is_good(host: KnownHost, now: float) -> bool:
    return host.standing.state is HostState.GOOD and not host.honesty.holds_wrong_bytes(now)


def _ban(turn: Turn, host: KnownHost, parent: Peer) -> None:
    """Send nobody to the host any more in this task."""
    task = parent.task
    note(task.liars, host.id, turn.now, LIARS_PER_TASK_MAX)
    for peer in tuple(host.peers.values()):
        if peer.task is not task:
            continue
        for child_id in task.graph.children(peer.id):
            note(host.honesty.children, task.peers[child_id].host.id, turn.now)
        turn.state.unlink_children(peer)
    turn.state.disturb(task)


def _has_witnesses(host: KnownHost, accusers: set[str], now: float) -> bool:
    witnesses = lately(host.honesty.witnesses, now, WITNESS_MEMORY_S)
    return len(witnesses - accusers) >= WITNESSES_MIN
