"""Seeds that share one source, step by step: their plans are real, the pieces are only counted.

News travel in order, and arrive when the test lets them. Nothing takes time but `pass_time`. With
several streams a seed has as many requests at once, as if it had found before that they pay.
"""

from __future__ import annotations

from collections import deque
from math import inf
from random import Random

from odonata.piece import MIB
from odonata.wire.message import Piece, SourceShare
from peer.core.content import Content
from peer.core.effect import DownloadEffect, FetchSource, StopSource
from peer.core.event import SourceFailed
from peer.core.limits import DownloadLimits
from peer.core.source_plan import SourcePlan
from peer.core.source_share import SharedSource
from peer.core.source_streams import ANSWER_SHARE, Origins, Streams, Verdict

PIECE = 4 * MIB
PIECE_S = 0.1
ANY_NUMBER = 10**6


def streams_of(limits: DownloadLimits, block: int) -> Streams:
    """As many as may be, as was found before, each for about `block` pieces at a time."""
    origins = Origins()
    origins.settle("origin.test", Verdict(limits.source_streams, 0.0, inf))
    streams = Streams(limits, "http://origin.test/x", origins)
    streams.go_for_others(0.0)
    streams.answered(ANSWER_SHARE * PIECE_S * (block - 0.5))
    return streams


class Member:
    """One seed. `runs`: the next piece of each request, and the last one."""

    def __init__(self, index: int, count: int, pieces: int, streams: int, block: int) -> None:
        limits = DownloadLimits(source_streams=streams, source_attempts=ANY_NUMBER)
        self.index = index
        self.content = Content(piece_length=PIECE, wanted=None)
        self.content.learn(pieces * PIECE, PIECE, {})
        self.shared = SharedSource(SourceShare(index=index, count=count), limits)
        self.plan = SourcePlan(
            limits=limits,
            content=self.content,
            rng=Random(index),
            streams=streams_of(limits, block),
            shared=self.shared,
        )
        self.runs: dict[int, list[int]] = {}
        self.offers: set[int] = set()  # what fellows hold and this one does not, as it knows
        self.news: deque[int] = deque()
        self.alive = True

    @property
    def missing(self) -> list[int]:
        return self.content.missing() or []


class Team:
    """`fetched`: how often each piece came from the source; `begun`: how often it was begun."""

    def __init__(self, count: int, pieces: int, *, streams: int = 1, block: int = 1) -> None:
        """`block`: how many pieces each of several requests is for, about."""
        self.pieces = pieces
        self.now = 0.0
        self.members = [Member(index, count, pieces, streams, block) for index in range(count)]
        self.fetched = [0] * pieces
        self.begun = [0] * pieces
        for member in self.members:
            member.shared.begin(self.now)
            member.shared.named(self.now)
        for member in self.members:
            self.look(member)

    @property
    def living(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    @property
    def is_done(self) -> bool:
        return not any(member.missing for member in self.living)

    def look(self, member: Member) -> None:
        """What follows from what the seed knows now."""
        out: list[DownloadEffect] = []
        elsewhere = {number for number in member.offers if member.content.lacks(number)}
        has_fellow = len(self.living) > 1
        member.plan.advance(elsewhere, None, self.now, out, has_fellow=has_fellow)
        for effect in out:
            if isinstance(effect, FetchSource):
                member.plan.on_opened(ranges=True, now=self.now, out=[])
                last = self.pieces - 1 if effect.last is None else effect.last
                member.runs[effect.first] = [effect.first, last]
                self.begun[effect.first] += 1
            elif isinstance(effect, StopSource):
                del member.runs[effect.first]

    def fetch(self, member: Member, dice: Random | None = None) -> bool:
        """One more piece comes from the source; False if the seed has not asked for any.

        Of several requests the dice say which one brings it, else the oldest.
        """
        if not member.runs:
            return False
        first = dice.choice(list(member.runs)) if dice else next(iter(member.runs))
        number, last = member.runs[first]
        self.fetched[number] += 1
        self._hold(member, number)
        piece = Piece(number=number, offset=number * PIECE, length=PIECE, cost_s=PIECE_S)
        member.plan.on_stored(piece, self.now)
        if number == last:
            del member.runs[first]
            member.plan.on_ended(first, self.now, [])
        else:
            member.runs[first][0] = number + 1
        self.look(member)
        if first in member.runs and member.runs[first][0] == number + 1:
            self.begun[number + 1] += 1
        return True

    def break_off(self, member: Member, dice: Random) -> bool:
        """One of its requests breaks, with what had come of a piece; False if there is none."""
        if not member.runs:
            return False
        first = dice.choice(list(member.runs))
        del member.runs[first]
        member.plan.on_failed(SourceFailed(first=first, reason="reset"), self.now, [])
        self.look(member)
        return True

    def hear(self, member: Member) -> bool:
        """The oldest news arrive; False if there are none."""
        if not member.news:
            return False
        number = member.news.popleft()
        if member.content.lacks(number):
            member.offers.add(number)
            member.shared.heard([number], self.now)
            self.look(member)
        return True

    def copy(self, member: Member) -> bool:
        """A piece comes from a fellow; False if none offers any."""
        numbers = [number for number in member.offers if member.content.lacks(number)]
        if not numbers:
            return False
        self._hold(member, min(numbers))
        self.look(member)
        return True

    def pass_time(self, seconds: float) -> None:
        """Time passes, and everybody notices."""
        self.now += seconds
        for member in self.living:
            self.look(member)

    def die(self, member: Member) -> None:
        """A seed is gone, with its offers; those who are left notice at once."""
        member.alive = False
        held = member.content.held
        for other in self.living:
            others = [one for one in self.living if one is not other]
            for number in held - set().union(*(one.content.held for one in others)):
                other.offers.discard(number)
            self.look(other)

    def _hold(self, member: Member, number: int) -> None:
        member.content.hold(number)
        member.offers.discard(number)
        for other in self.living:
            if other is not member:
                other.news.append(number)
