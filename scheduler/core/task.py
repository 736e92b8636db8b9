"""One task: what the peers of one id share, and everything that is under way for them.

Besides the content's facts it holds the graph, the index of useful parents (kept by `state`; in the
order they became useful, and by what they are worth in `shortlist`), the
children that wait for an answer, the peers at the source, and the *flights*: promises of bytes
that have not landed yet. A flight has a deadline, after which nobody counts on it any more:

- `starting`: peers that were given parents and have not said yet that they started;
- `to_source`: peers that were sent to the source and have not said yet that they started;
- `seed_flights`: triggers of seed peers, one for each seed;
- `learning_until_s`: peers that come from another scheduler, or from before a restart, in the
  middle of their downloads: those who hold or bring the bytes are among them, and will be here
  soon.

Entries of one kind share one time-out, so each dict is in the order of its deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odonata.wire.message import Download, Piece, SourceShare, TaskFacts
from scheduler.core.graph import Booking
from scheduler.core.lifecycle import TaskState, TaskTrigger, next_task_state
from scheduler.core.piece_digests import PieceDigests
from scheduler.core.shortlist import Shortlist
from scheduler.core.steps import told, with_step
from scheduler.core.strong_digests import StrongDigests

if TYPE_CHECKING:
    from scheduler.core.graph import DownloadGraph
    from scheduler.core.peer import Peer

MAX_CONTENT_LENGTH = 2**63 - 1
MAX_PIECE_COUNT = 2**32 - 1
"""What peers can be told on the wire. Whoever claims more is not believed."""


@dataclass(slots=True, eq=False, kw_only=True)
class SeedFlight:
    """A trigger under way.

    `has_arrived`: the seed's own peer has registered, so that from here on
    that peer is what children hope for. `is_overdue`: it did not by `deadline_s`, and nobody hopes
    for it any more, though the trigger still runs. `share`: it is one of several seeds that fetch
    the task together. `has_called`: as the first of them it has brought the others in.
    """

    host_id: str
    started_at_s: float
    deadline_s: float
    has_arrived: bool = False
    is_overdue: bool = False
    share: SourceShare | None = None
    has_called: bool = False

    def is_hope(self) -> bool:
        """Whether the seed may still turn up."""
        return not self.has_arrived and not self.is_overdue


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """A task.

    `seed_refused` maps seeds that failed it to when they may be asked again, `gateways` data
    centres to the peers there that were given parents elsewhere, at most `gateway_count` at work.
    `origins` are at the source or have been there, and are still of use.
    `hungry` are those that have fewer parents than they may have, and are looked at again once
    somebody new can help (`rota`). `liars` are hosts that sent wrong bytes of it, and when that was
    said (`accusation`). `usual_download` is what the latest peer wanted that wanted something else
    than the first: it came for the source, and the others for parents. `usual_booking` is what the
    latest child booked, and most do.
    """

    id: str
    download: Download
    graph: DownloadGraph
    created_at_s: float
    updated_at_s: float
    state: TaskState = TaskState.PENDING
    steps: bytes = b""
    content_length: int | None = None
    piece_length: int | None = None
    piece_count: int = 0
    peers: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    useful: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    arrival_count: int = 0  # how often a peer became useful
    hungry: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    gateway_count: int = 0
    home_suffices: bool = True
    gateways: dict[str, dict[str, Peer]] = field(default_factory=dict[str, "dict[str, Peer]"])
    shortlist: Shortlist = field(default_factory=Shortlist)
    waiting: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    at_source: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    origins: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    starting: dict[str, float] = field(default_factory=dict[str, float])
    to_source: dict[str, float] = field(default_factory=dict[str, float])
    source_failure_count: int = 0  # peers in a row that failed at the source
    seed_flights: dict[str, SeedFlight] = field(default_factory=dict[str, SeedFlight])
    learning_until_s: float | None = None
    has_learned: bool = False
    seed_refused: dict[str, float] = field(default_factory=dict[str, float])
    digests: PieceDigests = field(default_factory=PieceDigests)
    strong: StrongDigests | None = None  # once somebody has told one
    liars: dict[str, float] = field(default_factory=dict[str, float])
    usual_download: Download | None = None
    usual_booking: Booking = field(default_factory=Booking)

    def move(self, trigger: TaskTrigger, now: float) -> None:
        """Take `trigger`; IllegalTransitionError tells the story if there is no such step."""
        target = next_task_state(self.state, trigger, f"task {self.id}: {told(self.steps)}")
        self.steps = with_step(self.steps, now, trigger, self.state, target)
        self.state = target
        self.updated_at_s = now

    def facts(self) -> TaskFacts:
        """Return what children are told of the content."""
        return TaskFacts(
            id=self.id,
            url=self.download.url,
            content_length=self.content_length,
            piece_count=self.piece_count,
        )

    def shared(self, public: Download) -> Download:
        """Return what another peer wanted, if it is the same, so that it is kept once."""
        if public == self.download:
            return self.download
        if self.usual_download is None or public != self.usual_download:
            self.usual_download = public
        return self.usual_download

    def begin_learning(self, until_s: float) -> None:
        """Its peers come from elsewhere, in the middle of their downloads. Once is enough."""
        if not self.has_learned:
            self.has_learned = True
            self.learning_until_s = until_s

    def learn(self, download: Download) -> None:
        """Fill in what a peer knows of the content and the task did not.

        Whoever says that there are bytes is believed more than whoever said that there are none:
        an empty answer would end the former's download with an empty file.
        """
        if download.actual_content_length is not None:
            self._set_length(download.actual_content_length)
        if self.piece_length is None:
            self.piece_length = download.actual_piece_length or download.piece_length
        if self.piece_count == 0 and download.actual_piece_count:
            self.piece_count = download.actual_piece_count
        self._count_pieces()

    def learn_from_piece(self, piece: Piece) -> None:
        """Learn piece length and, from a last piece, content length.

        Pieces but the last are all of one length, which `offset / number` gives; a piece shorter
        than that is the last. The end of a piece as long as the others proves nothing.
        """
        if self.piece_length is None and piece.number > 0 and piece.offset % piece.number == 0:
            self.piece_length = piece.offset // piece.number or None
        if self.piece_length is not None:
            is_in_place = piece.offset == piece.number * self.piece_length
            if is_in_place and 0 < piece.length < self.piece_length:
                self._set_length(piece.offset + piece.length)
        self._count_pieces()

    def learn_whole(self, content_length: int, piece_count: int) -> None:
        """Learn how long the content is (bytes, pieces), if nobody has told it before."""
        self._set_length(content_length)
        self.piece_count = self.piece_count or piece_count

    def forget_content(self) -> None:
        """Unlearn the content: the source refused it, and may have another one next time."""
        self.content_length = None
        self.piece_length = None
        self.piece_count = 0
        self.digests.clear()
        if self.strong is not None:
            self.strong.clear()

    def back_to_source_count(self) -> int:
        """Count the peers at the source or on their way there."""
        return len(self.at_source) + len(self.to_source)

    def expire(self, now: float) -> bool:
        """Drop hopes whose deadline has come; return whether there was one."""
        expired = False
        for flight in self.seed_flights.values():
            if flight.is_hope() and flight.deadline_s <= now:
                flight.is_overdue = True
                expired = True
        if self.learning_until_s is not None and self.learning_until_s <= now:
            self.learning_until_s = None
            expired = True
        for flights in (self.starting, self.to_source):
            while flights:
                peer_id, deadline_s = next(iter(flights.items()))
                if deadline_s > now:
                    break
                del flights[peer_id]
                expired = True
        return expired

    def next_deadline_s(self) -> float | None:
        """Return when the earliest flight stops being a hope."""
        deadlines = [next(iter(f.values())) for f in (self.starting, self.to_source) if f]
        deadlines += [one.deadline_s for one in self.seed_flights.values() if one.is_hope()]
        if self.learning_until_s is not None:
            deadlines.append(self.learning_until_s)
        return min(deadlines, default=None)

    def _set_length(self, content_length: int) -> None:
        if not self.content_length and content_length <= MAX_CONTENT_LENGTH:
            self.content_length = content_length

    def _count_pieces(self) -> None:
        """Derive the number of pieces, unless that is known or can't be told on the wire."""
        if self.piece_count or not self.content_length or not self.piece_length:
            return
        count = -(-self.content_length // self.piece_length)
        if count <= MAX_PIECE_COUNT:
            self.piece_count = count
