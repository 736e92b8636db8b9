"""One download among parents of given manners and a source of a given rate, in virtual time.

    play = Play({"a": Giving(0.0)}, source_rate=50e6, length=16 * PIECE)
    took_s = play.run()
    assert play.source_bytes <= play.length

A parent sends its pieces one after the other. `Giving(rate)` says how fast; 0: not a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil
from random import Random

from support.download import PIECE, URL, parent_of, piece_of

from odonata.wire.message import Download, NormalTask
from peer.core.budget import Budget
from peer.core.download import DownloadCore
from peer.core.effect import (
    AskProgress,
    CancelPiece,
    Complete,
    ConnectParent,
    DownloadEffect,
    FetchPiece,
    FetchSource,
    GiveUp,
    StopSource,
    WakeAt,
)
from peer.core.event import (
    Begun,
    DownloadEvent,
    ParentConnected,
    ParentHolds,
    ParentLoad,
    PieceProgress,
    PieceStored,
    SchedulerAnswered,
    SourceEnded,
    SourceOpened,
    SourcePieceStored,
    Ticked,
)
from peer.core.limits import DownloadLimits
from peer.core.patience import load_pauses_s

ROUND_TRIP_S = 0.002
LOAD_INTERVAL_S = 1.0


@dataclass
class Giving:
    """How a parent behaves. `says`: what it sends to all, by its own word, after the first one.

    None: it says nothing. Rates are bytes per second. `begins_s`: how long it makes the first
    request wait.
    """

    rate: float
    says: float | None = 0.0
    begins_s: float = 0.0
    holds_after_s: float = 0.0
    free_at_s: float = 0.0


@dataclass
class _Flight:
    length: int
    begins_at_s: float
    rate: float
    is_stopped: bool = False

    def received(self, now: float) -> int:
        return int(min(self.length, max(0.0, now - self.begins_at_s) * self.rate))


@dataclass
class Play:
    """`run` it once. `answer_s`: how long the scheduler takes."""

    parents: dict[str, Giving]
    source_rate: float
    length: int
    budget: Budget = field(default_factory=Budget)
    answer_s: float = ROUND_TRIP_S
    seed: int = 1
    busy_s: float = 0.0
    """Above 0: this host gets to its events only so often."""
    began_s: float = 100.0
    source_bytes: int = 0
    asked_source_s: float | None = None
    """How long after the beginning the source was asked first."""

    def __post_init__(self) -> None:
        self.now = self.began_s
        self._core = DownloadCore(
            DownloadLimits(), Download(url=URL), Random(self.seed), budget=self.budget
        )
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._flights: dict[tuple[str, int], _Flight] = {}
        self._runs: dict[int, int] = {}  # first piece -> which request
        self._requests = count()
        self._source_free_at = 0.0
        self._is_over = False

    def run(self, at_most_s: float = 600.0) -> float:
        """To its end; how long it took."""
        self._give(Begun())
        named = NormalTask(parents=tuple(map(parent_of, self.parents)))
        self._after(self.answer_s, lambda: self._give(SchedulerAnswered(answer=named)))
        while not self._is_over:
            due_at, _, happen = heappop(self._due)
            self.now = max(
                self.now, ceil(due_at / self.busy_s) * self.busy_s if self.busy_s else due_at
            )
            assert self.now < self.began_s + at_most_s, self._core.story()
            happen()
        return self.now - self.began_s

    # --- inside ---------------------------------------------------------------------------------

    def _after(self, delay_s: float, happen: Callable[[], None]) -> None:
        heappush(self._due, (self.now + delay_s, next(self._order), happen))

    def _give(self, event: DownloadEvent) -> None:
        if self._is_over:
            return
        for effect in self._core.handle(event, self.now):
            self._perform(effect)

    def _perform(self, effect: DownloadEffect) -> None:
        match effect:
            case ConnectParent():
                self._connect(effect.parent.peer_id)
            case FetchPiece():
                self._fetch(effect)
            case CancelPiece():
                self._flights.pop((effect.peer_id, effect.number)).is_stopped = True
            case AskProgress():
                self._after(0.0, lambda: self._tell_progress(effect.peer_id, effect.number))
            case FetchSource():
                self._ask_source(effect)
            case StopSource():
                self._runs.pop(effect.first, None)
            case WakeAt():
                self._after(effect.at_s - self.now, lambda: self._give(Ticked()))
            case Complete():
                self._is_over = True
            case GiveUp():
                raise AssertionError(effect.error)
            case _:
                pass

    def _connect(self, peer_id: str) -> None:
        giving = self.parents[peer_id]
        pieces = tuple(piece_of(n, self.length) for n in range(-(-self.length // PIECE)))
        known = ParentConnected(peer_id=peer_id, content_length=self.length, piece_length=PIECE)
        holds = ParentHolds(peer_id=peer_id, pieces=pieces)
        self._after(ROUND_TRIP_S, lambda: self._give(known))
        self._after(ROUND_TRIP_S + giving.holds_after_s, lambda: self._give(holds))
        if giving.says is not None:
            pauses_s = load_pauses_s(LOAD_INTERVAL_S)
            self._after(ROUND_TRIP_S, lambda: self._load(peer_id, 0.0, pauses_s))

    def _load(self, peer_id: str, used: float, pauses_s: Iterator[float]) -> None:
        load = ParentLoad(peer_id=peer_id, max_rate_bytes_per_s=1e9, used_rate_bytes_per_s=used)
        self._give(load)
        says = self.parents[peer_id].says or 0.0
        self._after(next(pauses_s), lambda: self._load(peer_id, says, pauses_s))

    def _fetch(self, asked: FetchPiece) -> None:
        giving = self.parents[asked.peer_id]
        begins_at = max(self.now + ROUND_TRIP_S + giving.begins_s, giving.free_at_s)
        length = piece_of(asked.number, self.length).length
        flight = _Flight(length, begins_at, giving.rate)
        self._flights[asked.peer_id, asked.number] = flight
        if giving.rate > 0:
            giving.free_at_s = begins_at + length / giving.rate
            self._after(giving.free_at_s - self.now, lambda: self._arrive(asked, flight))

    def _arrive(self, asked: FetchPiece, flight: _Flight) -> None:
        if not flight.is_stopped:
            del self._flights[asked.peer_id, asked.number]
            piece = piece_of(asked.number, self.length)
            began_s = self.now - flight.begins_at_s
            self._give(PieceStored(peer_id=asked.peer_id, piece=piece, began_s=began_s))

    def _tell_progress(self, peer_id: str, number: int) -> None:
        flight = self._flights.get((peer_id, number))
        if flight is not None:
            received = flight.received(self.now)
            began_s = self.now - flight.begins_at_s if received else None
            told = PieceProgress(peer_id=peer_id, number=number, began_s=began_s, received=received)
            self._give(told)

    def _ask_source(self, asked: FetchSource) -> None:
        if self.asked_source_s is None:
            self.asked_source_s = self.now - self.began_s
        request = self._runs[asked.first] = next(self._requests)
        opened = SourceOpened(content_length=self.length, ranges=True)
        last = -(-self.length // PIECE) - 1 if asked.last is None else asked.last

        def go_on(number: int) -> None:
            """A piece has come: store it, and wait for the next."""
            if self._runs.get(asked.first) != request:
                return
            piece = piece_of(number, self.length)
            self.source_bytes += piece.length
            if number not in asked.skip:
                self._give(SourcePieceStored(piece=piece))
            if self._runs.get(asked.first) != request:
                return
            if number == last:
                del self._runs[asked.first]
                self._give(SourceEnded(first=asked.first))
            else:
                begin(number + 1)

        def begin(number: int) -> None:
            length = piece_of(number, self.length).length
            self._after(length / self.source_rate, lambda: go_on(number))

        def answer() -> None:
            if self._runs.get(asked.first) == request:
                self._give(opened)
                begin(asked.first)

        self._after(ROUND_TRIP_S, answer)
