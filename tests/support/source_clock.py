"""One plan against one origin on virtual time: streams with rates, answers that take a while.

origin = ClockOrigin(per_stream=8.0 * MIB)               # each connection gets so much
origin = ClockOrigin(in_all=50.0 * MIB, answer_s=0.1)    # all together do
load = Load(origin, pieces=64)
load.run()
assert load.now < 20 and load.sent_bytes == load.length
run_together([load, other])                              # at one origin, which they share
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

from odonata.piece import MIB, piece_at
from odonata.wire.message import Piece
from peer.core.content import Content
from peer.core.effect import DownloadEffect, FetchSource, OpenSource, StopSource
from peer.core.event import SourceFailed
from peer.core.limits import DownloadLimits
from peer.core.source_plan import SourcePlan
from peer.core.source_streams import Origins, Streams

PIECE = 4 * MIB
URL = "http://origin.test/blob"
STEPS_MAX = 100_000
"""Each step begins, ends or breaks something; no test has as many pieces."""


@dataclass(frozen=True, kw_only=True)
class ClockOrigin:
    """`per_stream`, `in_all`: bytes per second. More than `most` connections are refused."""

    per_stream: float = inf
    in_all: float = inf
    answer_s: float = 0.0
    most: int = 1000
    fatal: bool = False  # what it says then: never again


@dataclass(kw_only=True)
class Request:
    """A connection; its bytes come from `opens_at` on. `order` None: nobody has said what for."""

    first: int
    opens_at: float
    end: int | None = None  # in bytes
    is_open: bool = False
    order: FetchSource | None = None
    number: int = 0
    began_at: float = 0.0
    left: float = inf  # bytes of the piece


@dataclass(kw_only=True)
class Load:
    """A download of `pieces` pieces by a seed. `stored_at` says when each came."""

    origin: ClockOrigin
    pieces: int
    origins: Origins = field(default_factory=Origins)
    limits: DownloadLimits = field(default_factory=DownloadLimits)
    breaks: Iterable[float] = ()  # moments at which one connection breaks
    now: float = 0.0
    dice: Random = field(default_factory=lambda: Random(1))
    for_others: bool = True
    begins_at: float = 0.0
    url: str = URL

    def __post_init__(self) -> None:
        self.length = self.pieces * PIECE
        self.content = Content(piece_length=None, wanted=None)
        self.streams = Streams(self.limits, self.url, self.origins)
        self.plan = SourcePlan(
            limits=self.limits, content=self.content, rng=Random(2), streams=self.streams
        )
        self.requests: dict[int, Request] = {}
        self.sent_bytes = 0.0
        self.asked = self.refused = self.broken = 0
        self.most_at_once = 0
        self.stored_at: dict[int, float] = {}
        self._breaks = sorted(self.breaks)
        self.now = self.begins_at

    def run(self) -> None:
        """To the end, or until the plan gives up."""
        run_together([self])

    # --- as one of several ---

    @property
    def is_over(self) -> bool:
        return self.content.complete or self.plan.error is not None

    @property
    def flowing(self) -> list[Request]:
        """Those whose bytes come now."""
        return [one for one in self.requests.values() if one.is_open and one.order]

    def look(self) -> None:
        """What the plan wants at this moment."""
        if self.for_others:
            self.streams.go_for_others(self.now)
        out: list[DownloadEffect] = []
        self.plan.advance((), None, self.now, out)
        for effect in out:
            if isinstance(effect, StopSource):
                del self.requests[effect.first]
            elif isinstance(effect, OpenSource):
                self._ask(Request(first=0, opens_at=self._answer_at, end=effect.end))
            elif isinstance(effect, FetchSource):
                request = self.requests.get(effect.first)
                if request is None:
                    request = Request(first=effect.first, opens_at=self._answer_at)
                    self._ask(request)
                request.order = effect
                request.number = effect.first
                self._begin_piece(request)

    def next_moment(self, rate: float) -> float:
        """When something happens, if each stream goes on at that rate."""
        moments = [one.opens_at for one in self.requests.values() if not one.is_open]
        moments += [self.now + one.left / rate for one in self.flowing]
        moments += self._breaks[:1]
        if self.plan.retry_due is not None:
            moments.append(self.plan.retry_due)
        return max(self.now, min(moments))

    def step(self, at: float, rate: float) -> None:
        """Until `at`, at that rate."""
        for one in self.flowing:
            came = min(one.left, rate * (at - self.now))
            one.left -= came
            self.sent_bytes += came
        self.now = at
        if self._breaks and self._breaks[0] <= at:
            self._breaks.pop(0)
            self._break_one()
        for one in list(self.requests.values()):
            if not one.is_open and one.opens_at <= at:
                self._open(one)
            elif one.is_open and one.order and one.left < 1e-3:
                self._store(one)

    # --- inside ---

    @property
    def _answer_at(self) -> float:
        return self.now + self.origin.answer_s

    def _ask(self, request: Request) -> None:
        self.asked += 1
        self.requests[request.first] = request
        self.most_at_once = max(self.most_at_once, len(self.requests))

    def _begin_piece(self, request: Request) -> None:
        request.began_at = max(self.now, request.opens_at)
        _, request.left = piece_at(request.number, self.length, PIECE)

    def _open(self, request: Request) -> None:
        if sum(one.is_open for one in self.requests.values()) >= self.origin.most:
            self.refused += 1
            self._fail(request, "429", fatal=self.origin.fatal)
            return
        request.is_open = True
        self.plan.answered(self.now)
        self.content.learn(self.length, None, {})
        out: list[DownloadEffect] = []
        self.plan.on_opened(ranges=True, now=self.now, out=out)
        assert not out, "it honours ranges"

    def _store(self, request: Request) -> None:
        assert request.order is not None
        number, cost_s = request.number, self.now - request.began_at
        assert number not in self.stored_at, f"piece {number} came twice"
        self.stored_at[number] = self.now
        offset, length = piece_at(number, self.length, PIECE)
        self.content.hold(number)
        piece = Piece(number=number, offset=offset, length=length, cost_s=cost_s)
        self.plan.on_stored(piece, self.now)
        last = self.pieces - 1 if request.order.last is None else request.order.last
        if number == last:
            del self.requests[request.first]
            self.plan.on_ended(request.first, self.now, [])
        else:
            request.number += 1
            self._begin_piece(request)

    def _break_one(self) -> None:
        if self.requests:
            self.broken += 1
            self._fail(self.dice.choice(list(self.requests.values())), "reset")

    def _fail(self, request: Request, reason: str, *, fatal: bool = False) -> None:
        del self.requests[request.first]
        failed = SourceFailed(first=request.first, reason=reason, fatal=fatal)
        self.plan.on_failed(failed, self.now, [])


def run_together(loads: Sequence[Load]) -> None:
    """To the end of all of them, at one origin."""
    origin = loads[0].origin
    for _ in range(STEPS_MAX):
        going = [load for load in loads if not load.is_over]
        if not going:
            return
        now = min(load.now for load in going)
        later = [load.now for load in going if load.now > now]
        going = [load for load in going if load.now == now]
        for load in going:
            load.look()
        n_flowing = sum(len(load.flowing) for load in going)
        rate = min(origin.per_stream, origin.in_all / max(1, n_flowing))
        at = min([*later, *(load.next_moment(rate) for load in going)])
        for load in going:
            load.step(at, rate)
    raise AssertionError("it never ends")
