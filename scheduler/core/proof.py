"""Strong digests of pieces: who is believed about them, and who is told.

Whoever had a piece from the source tells its digest with the report of the piece. It is believed as
`strong_digests` says, and not at all from a host that is evicted, on probation, or has told of
pieces that are not what the source sent. Whom others contradict is put on probation, and is not
believed as an accuser either, for a while (`honesty`).

Peers of ours that check pieces are told what is known when they are given parents, and whenever
they ask: only what they have not been told before, in answers of a bounded size. Nobody is woken
for a digest: a peer asks when it is about to fetch a piece of which it knows none (`peer.core`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from odonata.wire.message import PieceDigests
from scheduler.core import judgement
from scheduler.core.effect import Answer
from scheduler.core.standing import HostState
from scheduler.core.strong_digests import Rank, StrongDigests

if TYPE_CHECKING:
    from odonata.wire.message import Piece
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.task import Task
    from scheduler.core.turn import Turn

DIGESTS_PER_ANSWER: Final = 8192
"""In one answer: 256 KiB, an eighth of a second on a link of 16 Mbit/s, and far below what gRPC
takes in one message (4 MiB)."""


def told(turn: Turn, teller: Peer, piece: Piece) -> None:
    """`teller`, whose host is believed, had `piece` from the source, with a strong digest."""
    task = teller.task
    if task.strong is None:
        task.strong = StrongDigests()
    rank = _rank(teller)
    for host_id in task.strong.learn(piece.number, piece.strong_digest, teller.host.id, rank):
        host = turn.state.hosts.get(host_id)
        if host is not None:
            host.honesty.contradicted_at_s = turn.now
            if host.standing.state is HostState.GOOD:
                judgement.suspect(turn, host)


def tell(turn: Turn, child: Peer, *, is_asked: bool = False) -> None:
    """Tell the child what it has not been told; nothing if there is nothing, unless it asked."""
    since = child.digests_told
    if since is None:
        return
    parts = _news(child.task.strong, since)
    if parts or is_asked:
        for part in parts[:-1]:
            _answer(turn, child, PieceDigests(packed=part, is_last=False))
        _answer(turn, child, PieceDigests(packed=parts[-1] if parts else b""))
    if child.task.strong is not None:
        child.digests_told = child.task.strong.change_count


def _news(strong: StrongDigests | None, since: int) -> list[bytes]:
    if strong is None or since >= strong.change_count:
        return []
    if since == 0:
        return strong.everything(DIGESTS_PER_ANSWER)
    parts: list[bytes] = []
    while since < strong.change_count:
        part, since = strong.news(since, DIGESTS_PER_ANSWER)
        parts.append(part)
    return parts


def _answer(turn: Turn, child: Peer, answer: PieceDigests) -> None:
    # Not the turn's own `answer`, for the child goes on waiting for parents if it does.
    turn.effects.append(Answer(peer_id=child.id, answer=answer))


def rank_of(task: Task, number: int | None) -> Rank | None:
    """How sure it is what the piece is; None if it is not known."""
    if task.strong is None or number is None:
        return None
    return task.strong.rank(number)


def disown(host: KnownHost) -> None:
    """The host has lied: what it told in its tasks does not count."""
    for peer in host.peers.values():
        if peer.task.strong is not None:
            peer.task.strong.withdraw(host.id)


def _rank(teller: Peer) -> Rank:
    if teller.host.is_seed:
        return Rank.SEED
    return Rank.SENT if teller.source_count else Rank.VOLUNTEER
