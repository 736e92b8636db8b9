"""What foreign peers fetched, recorded on their behalf: they write no telemetry themselves.

A stock client reports each piece on its AnnouncePeer stream, for the scheduler to know what it
holds and how fast its parents are. The same messages make piece records, and at the end a download
record, as our own peers write them; only poorer: when a piece was asked for and when its first byte
came, how many were in flight, and how long a failure took, is known to nobody but the client.

- A finished piece took what the client says (`total_s`). A failed one says no time: its `total_s`
  is 0, the least it can have been, so that nothing is counted that was not measured.
- Whoever gave the piece is named only if it was once a peer of the same task: what a client says is
  a claim, and a record holds no text that somebody made up. Else `parent_id` is empty.
- A parent that this child was given is remembered with the decision that named it last, and with
  its host, for it may be gone when the piece is reported.
- Pieces that a client had on its disk are no transfers, and no rows.
- A peer that registers with everything in its store downloads nothing, and gets no records. One
  that is turned away or forgotten gets no download record: it said nothing of how it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from odonata.telemetry.record import DownloadRecord, PieceRecord, decision_id
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    Failed,
    Finished,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceFailed,
    PieceFinished,
    TrafficType,
)
from scheduler.core.effect import WriteRecord

if TYPE_CHECKING:
    from odonata.wire.message import PeerMessage, Piece
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

NAMED_PARENT_LIMIT = 64
"""Parents remembered per child, the latest named: sixteen answers of four. A stock client takes
five answers and leaves."""

UNKNOWN_NUMBER = -1
UNKNOWN_LENGTH = -1

PEER, SEED, SOURCE = "remote_peer", "seed_peer", "back_to_source"
"""Kinds of traffic, as in the records."""


class Named(NamedTuple):
    """A parent as the child was told of it: in which `decision`, "" if in none."""

    decision: str
    parent_id: str
    host_id: str
    traffic: str


_NOBODY = Named("", "", "", PEER)
_SOURCE = Named("", "", "", SOURCE)


class Account(Struct, eq=False, gc=False):
    """What one foreign peer has fetched so far; some 300 bytes with its parents.

    Of the parents it was given there are their ids, those of their hosts in the same order, and
    which answer named them last: its number, doubled, and one more if the parent is a seed.
    """

    parent_ids: tuple[str, ...] = ()
    host_ids: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    from_peers_bytes: int = 0
    from_seeds_bytes: int = 0
    from_source_bytes: int = 0
    piece_count: int = 0
    first_piece_at_s: float | None = None

    def name(self, count: int, parents: list[Peer]) -> None:
        """The child's `count`-th answer named these parents; the oldest of too many go."""
        ids = tuple([parent.id for parent in parents])
        if self.parent_ids:
            self._forget(ids)
        self.parent_ids = (self.parent_ids + ids)[-NAMED_PARENT_LIMIT:]
        hosts = [parent.host for parent in parents]
        self.host_ids = (self.host_ids + tuple([host.id for host in hosts]))[-NAMED_PARENT_LIMIT:]
        answers = tuple([2 * count + host.is_seed for host in hosts])
        self.answers = (self.answers + answers)[-NAMED_PARENT_LIMIT:]

    def giver(self, child: Peer, parent_id: str) -> Named:
        """Who a piece came from, as far as that is known here."""
        if parent_id in self.parent_ids:
            place = self.parent_ids.index(parent_id)
            count, is_seed = divmod(self.answers[place], 2)
            decision = decision_id(child.id, count)
            traffic = SEED if is_seed else PEER
            return Named(decision, self.parent_ids[place], self.host_ids[place], traffic)
        parent = child.task.peers.get(parent_id)
        if parent is None:
            return _NOBODY
        return Named("", parent.id, parent.host.id, SEED if parent.host.is_seed else PEER)

    def fetched(self, traffic: str, length: int) -> None:
        """A piece of `length` bytes came."""
        self.piece_count += 1
        if traffic == PEER:
            self.from_peers_bytes += length
        elif traffic == SEED:
            self.from_seeds_bytes += length
        else:
            self.from_source_bytes += length

    def _forget(self, ids: tuple[str, ...]) -> None:
        kept = [place for place, one in enumerate(self.parent_ids) if one not in ids]
        self.parent_ids = tuple([self.parent_ids[place] for place in kept])
        self.host_ids = tuple([self.host_ids[place] for place in kept])
        self.answers = tuple([self.answers[place] for place in kept])


def heard(turn: Turn, child: Peer, message: PeerMessage) -> None:
    """Record what `child` said, if it is a peer that does not do so itself."""
    account = child.account
    if account is None:
        return
    match message:
        case PieceFinished(piece=piece) if piece.traffic_type is TrafficType.LOCAL_PEER:
            pass
        case PieceFinished(piece=piece) if piece.traffic_type is TrafficType.REMOTE_PEER:
            _finished(turn, child, piece, account.giver(child, piece.parent_id))
        case PieceFinished(piece=piece) | PieceBackToSourceFinished(piece=piece):
            _finished(turn, child, piece, _SOURCE)
        case PieceFailed(parent_id=parent_id, number=number, temporary=temporary):
            reason = "temporary" if temporary else "permanent"
            _failed(turn, child, number, account.giver(child, parent_id), reason)
        case PieceBackToSourceFailed(number=number, answer=answer):
            code = None if answer is None else answer.status_code
            _failed(turn, child, number, _SOURCE, "no answer" if code is None else f"status {code}")
        case Finished() | BackToSourceFinished():
            ended(turn, child, "ok")
        case Failed():
            ended(turn, child, "failed", "gave up")
        case BackToSourceFailed():
            ended(turn, child, "failed", "source failed")
        case _:
            pass


def ended(turn: Turn, child: Peer, result: str, reason: str = "") -> None:
    """Record the whole download of a foreign peer, once."""
    account, child.account = child.account, None
    if account is None:
        return
    task = child.task
    first_s = account.first_piece_at_s
    record = DownloadRecord(
        at_s=turn.now,
        started_at_s=child.created_at_s,
        task_id=task.id,
        child_id=child.id,
        child_host_id=child.host.id,
        is_seed=child.host.is_seed,
        content_length=UNKNOWN_LENGTH if task.content_length is None else task.content_length,
        piece_length=task.piece_length or 0,
        from_peers_bytes=account.from_peers_bytes,
        from_seeds_bytes=account.from_seeds_bytes,
        from_source_bytes=account.from_source_bytes,
        piece_count=account.piece_count,
        decision_count=child.decision_count,
        first_piece_s=None if first_s is None else first_s - child.created_at_s,
        result=result,
        reason=reason,
    )
    turn.effects.append(WriteRecord(record=record))


def _finished(turn: Turn, child: Peer, piece: Piece, giver: Named) -> None:
    account = child.account
    assert account is not None, "the caller has looked"
    if not 0 <= piece.number < turn.limits.piece_number_limit:
        return
    account.fetched(giver.traffic, piece.length)
    if account.first_piece_at_s is None:
        account.first_piece_at_s = turn.now
    _record(turn, child, giver, piece.number, piece.length, max(0.0, piece.cost_s), "ok", "")


def _failed(turn: Turn, child: Peer, number: int | None, giver: Named, reason: str) -> None:
    number = UNKNOWN_NUMBER if number is None else number
    _record(turn, child, giver, number, 0, 0.0, "failed", reason)


def _record(
    turn: Turn,
    child: Peer,
    giver: Named,
    number: int,
    length: int,
    total_s: float,
    result: str,
    reason: str,
) -> None:
    record = PieceRecord(
        at_s=turn.now,
        decision_id=giver.decision,
        task_id=child.task.id,
        child_id=child.id,
        child_host_id=child.host.id,
        parent_id=giver.parent_id,
        parent_host_id=giver.host_id,
        traffic=giver.traffic,
        number=number,
        length=length,
        total_s=total_s,
        result=result,
        reason=reason,
        written_by="scheduler",
    )
    turn.effects.append(WriteRecord(record=record))
