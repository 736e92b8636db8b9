"""What to ask the source for, piece by piece and attempt by attempt. It does not touch the source.

Missing pieces are asked for in runs: requests for contiguous stretches, never two for the same
piece. How many at once, and how long they are, `source_streams` says. A source that ignores Range
gets one request from the start, and what is held is read past. A failed run is planned anew from
its first missing piece after a pause, or, if others go on, when one of those has ended; every piece
that arrives forgives the failures before it.

A seed that shares a source with others (`source_share`) asks for its share only, and stops a run
at the first piece that has become somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from odonata.errors import SourceError
from odonata.piece import piece_count
from odonata.wire.message import Download, Piece, SourceAnswer
from peer.core.content import Content
from peer.core.effect import DownloadEffect, FetchSource, OpenSource, StopSource
from peer.core.event import SourceFailed
from peer.core.limits import DownloadLimits
from peer.core.source_share import Grid, SharedSource
from peer.core.source_streams import Streams

if TYPE_CHECKING:
    from random import Random


@dataclass(slots=True, frozen=True)
class Run:
    """Pieces `first`..`last`, both included; `last` None: to the end, wherever that is."""

    first: int
    last: int | None

    def covers(self, number: int) -> bool:
        return self.first <= number and (self.last is None or number <= self.last)


def runs_of(numbers: list[int]) -> list[Run]:
    """Contiguous stretches of ascending `numbers`."""
    runs: list[Run] = []
    for number in numbers:
        if runs and runs[-1].last == number - 1:
            runs[-1] = Run(runs[-1].first, number)
        else:
            runs.append(Run(number, number))
    return runs


class SourcePlan:
    """The source side of one download. Methods append their effects to `out`."""

    def __init__(
        self,
        *,
        limits: DownloadLimits,
        content: Content,
        rng: Random,
        streams: Streams | None = None,
        shared: SharedSource | None = None,
    ) -> None:
        """`streams`: how many requests, None: one. `shared`: other seeds take their shares."""
        self.shared = shared
        self.streams = streams or Streams(limits, "")
        self.error: SourceError | None = None  # set once the source is given up
        self.answer: SourceAnswer | None = None  # what it said last when it failed
        self._limits = limits
        self._content = content
        self._rng = rng
        self._ranges: bool | None = None  # unknown until it has answered once
        self._open: int | None = None  # first piece of an OpenSource that nobody continued yet
        self._open_end: int | None = None  # the byte where that ends; None: at the end
        self._runs: dict[int, Run] = {}
        self._asked_to: dict[int, int | None] = {}  # where a run would end if nobody stopped it
        self._next: dict[int, int] = {}  # the piece that a run brings next
        self._failures = 0
        self._retry_at: float | None = None
        self._heard_at = 0.0
        self._asked_at: float | None = None  # None: it has answered

    # --- asking ---------------------------------------------------------------------------------

    def open(self, now: float, out: list[DownloadEffect]) -> None:
        """Ask for the head of the content; the body that comes with it is its beginning, or all."""
        end = self.streams.first_bytes(self._content.piece_length)
        if end is not None:
            self.open_at(0, 0, end, now, out)
            return
        self._open, self._open_end = 0, None
        self._retry_at = None
        self._heard_at = self._asked_at = now
        out.append(OpenSource(first=0))

    def open_share(self, told_length: int | None, now: float, out: list[DownloadEffect]) -> None:
        """Ask for the head of the content; or, of a seed that was told its length, for its share.

        Then nothing is asked for that others bring, and the answer says what the head says, too.
        """
        if self.shared is None or not told_length:
            self.open(now, out)
            return
        piece_length = self._content.piece_length or self._content.by_rule(told_length)
        grid = Grid(piece_count(told_length, piece_length), self.shared.count)
        share = grid.span(self.shared.index)
        block = self.streams.block(len(share), piece_length) or len(share)
        end = min(share.start + block, share.stop) * piece_length
        is_last = end >= told_length
        self.open_at(share.start, share.start * piece_length, None if is_last else end, now, out)

    def open_at(
        self, first: int, offset: int, end: int | None, now: float, out: list[DownloadEffect]
    ) -> None:
        """Ask for the bytes from `offset` to `end`, where piece `first` begins."""
        self._open, self._open_end = first, end
        self._retry_at = None
        self._heard_at = self._asked_at = now
        out.append(OpenSource(first=first, offset=offset, end=end))

    def close(self, out: list[DownloadEffect]) -> None:
        """Stop whatever is open or running."""
        out.extend(StopSource(first=first) for first in self._firsts())
        for first in tuple(self._runs):
            self._forget(first)
        self._open = self._asked_at = None
        self._retry_at = None

    def advance(
        self,
        elsewhere: Container[int],
        reader: int | None,
        now: float,
        out: list[DownloadEffect],
        *,
        has_fellow: bool = False,
    ) -> None:
        """Start what can be started. `elsewhere`: pieces that come from parents; `reader` first.

        `has_fellow`: somebody who shares the source is among the parents.
        """
        if self.error is not None or (self._retry_at is not None and now < self._retry_at):
            return
        self._retry_at = None
        if self._content.missing() is None and self._wants_head:
            if not self._firsts():
                self.open(now, out)
            return
        if self.shared is not None and self._content.count is not None:
            runs = self._shared_runs(self.shared, elsewhere, now, out, has_fellow=has_fellow)
        elif self._may_begin:
            runs = self._planned(elsewhere, reader)
        else:
            return
        for run in self._blocks(runs, reader):
            if not self._may_begin:
                return
            self._start(run, now, out)

    # --- beside the swarm (`peer.core.beside`) --------------------------------------------------

    def start(self, first: int, last: int | None, now: float, out: list[DownloadEffect]) -> None:
        """One request, from a piece that is missing to one that is (None: to the end)."""
        self._retry_at = None
        self._start(Run(first, last), now, out)

    def claim(self, ahead: int, is_free: Callable[[int], bool], out: list[DownloadEffect]) -> None:
        """Let each run cover no more than the next `ahead` pieces, of those that are free.

        It stops if its very next piece is not. What it asked for stays as it is.
        """
        for first, following in tuple(self._next_of_runs()):
            end = self._end_of(first)
            stop = following + ahead if end is None else min(following + ahead, end)
            stop = next((n for n in range(following, stop) if not is_free(n)), stop)
            if stop == following and following != end:
                out.append(StopSource(first=first))
                self._forget(first)
            else:
                self._runs[first] = Run(first, stop - 1)

    def unclaim(self) -> None:
        """Runs cover again what they were begun for."""
        for first in self._runs:
            self._runs[first] = Run(first, self._asked_to[first])

    def forgive(self, out: list[DownloadEffect]) -> None:
        """Stop, and forget that it failed."""
        self.close(out)
        self.error, self._failures = None, 0

    # --- the source answers ---------------------------------------------------------------------

    def answered(self, now: float) -> float | None:
        """It began to answer: how long after it was asked, in seconds; None if that is no news."""
        asked_at, self._asked_at = self._asked_at, None
        if asked_at is None:
            return None
        self.streams.answered(now - asked_at)
        return now - asked_at

    def on_opened(self, *, ranges: bool, now: float, out: list[DownloadEffect]) -> None:
        """It began to answer. If it ignores ranges, runs of parts become one run of everything."""
        self._heard_at = now
        self._ranges = ranges
        if ranges or not self._runs or (len(self._runs) == 1 and self._is_whole(0)):
            return
        self.close(out)

    def on_stored(self, piece: Piece, now: float) -> None:
        """A piece of it is on the disk."""
        self._heard_at = now
        self._failures = 0
        for first in self._runs:
            if self._next[first] == piece.number:
                self._next[first] = piece.number + 1
                self.streams.stored(first, piece, now)
        if self.shared is not None:
            self.shared.stored(piece.number, now)

    def on_ended(self, first: int, now: float, out: list[DownloadEffect]) -> None:
        """A run is over. If it did not bring what it should, it failed: never a short file."""
        self._heard_at = now
        run = self._forget(first)
        short = None if run is None else self._short_of(run)
        if short is not None:
            self.on_failed(SourceFailed(first=first, reason=short), now, out)

    def on_failed(self, event: SourceFailed, now: float, out: list[DownloadEffect]) -> None:
        """A run, or the opening, failed: again after a pause, or never. Not if others go on."""
        run = self._forget(event.first)
        self._asked_at = None
        if self._open == event.first:
            self._open = None
        if run is not None and self._runs:
            self.streams.failed_beside(len(self._runs), now)
            return
        self.answer = event.answer
        self._failures += 1
        if event.fatal or self._failures >= self._limits.source_attempts:
            self._give_up(event, out)
            return
        limits = self._limits
        pause_s = limits.source_backoff_s * 2.0 ** min(self._failures - 1, 16)
        pause_s = min(pause_s, limits.source_backoff_max_s)
        # Drawn, lest all peers that lost one source come back to it at one moment.
        self._retry_at = now + pause_s * self._rng.uniform(0.75, 1.25)

    def tend(self, now: float, out: list[DownloadEffect]) -> None:
        """Time passed: a source that says nothing at all has failed."""
        firsts = self._firsts()
        if not firsts or now - self._heard_at < self._limits.source_silence_s:
            return
        out.append(StopSource(first=firsts[0]))
        reason = f"nothing came from the source for {self._limits.source_silence_s:g} s"
        self.on_failed(SourceFailed(first=firsts[0], reason=reason), now, out)

    def forget_open(self, first: int) -> None:
        """The request that was open broke before anybody needed it: no harm done."""
        if self._open == first:
            self._open = None

    def contradicted(self, why: str, out: list[DownloadEffect]) -> None:
        """The source has other content now than what is held."""
        reason = f"the content changed at the source: {why}; delete the task and ask again"
        self._give_up(SourceFailed(first=0, reason=reason, fatal=True), out)

    # --- questions ------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """An OpenSource was asked for, and nobody continued it yet."""
        return self._open is not None

    @property
    def ignores_ranges(self) -> bool:
        """It has answered once, and begins with the first byte whatever it is asked for."""
        return self._ranges is False

    @property
    def retry_due(self) -> float | None:
        """When the next attempt may be made, None if no attempt is pending."""
        return self._retry_at

    @property
    def busy(self) -> bool:
        """A request is going on, or will after a pause."""
        return bool(self._firsts()) or self._retry_at is not None

    def told_size(self, download: Download) -> int | None:
        """What whoever triggered this seed has heard from the first one that shares the source."""
        is_later = self.shared is not None and bool(self.shared.index)
        return download.actual_content_length if is_later else None

    def is_told_wrong(self, download: Download, content_length: int | None) -> bool:
        """The source has something else than what this seed was told: it goes by the source."""
        told = self.told_size(download)
        return told is not None and content_length is not None and content_length != told

    def covers(self, number: int) -> bool:
        """The source is bringing this piece."""
        if not self._runs:  # as a rule, and this is asked for each piece that might be asked for
            return False
        return any(run.covers(number) for run in self._runs.values())

    def next_wake(self) -> float | None:
        if self._retry_at is not None:
            return self._retry_at
        moments = [] if self.shared is None else [self.shared.next_wake()]
        if self._runs or self._open is not None:
            moments.append(self._heard_at + self._limits.source_silence_s)
        return min((moment for moment in moments if moment is not None), default=None)

    # --- inside ---------------------------------------------------------------------------------

    def _short_of(self, run: Run) -> str | None:
        missing = self._content.missing()
        if missing is None:
            return "the source ended and did not say how long the content is"
        left = next((n for n in missing if run.covers(n)), None)
        return None if left is None else f"the source ended before piece {left}"

    def _firsts(self) -> list[int]:
        """First pieces of everything that is asked for."""
        return [*self._runs, *([] if self._open is None else [self._open])]

    def _planned(self, elsewhere: Container[int], reader: int | None) -> list[Run]:
        missing = self._content.missing()
        if missing is None:
            # No end in sight: everything from the first piece that is not held, in one run.
            first = self._content.first_missing_from(0)
            return [] if first is None or self._runs else [self._whole_if_needed(Run(first, None))]
        left = [n for n in missing if n not in elsewhere and not self.covers(n)]
        if not self._content.learned and not missing:
            left = [0]  # an empty range: what is wanted are the facts
        if not left or self.covers(left[0]):
            return []
        if self._ranges is False:
            return [] if self._runs else [self._whole_if_needed(Run(left[0], left[-1]))]
        runs = runs_of(left)
        if reader is not None:
            runs.sort(key=lambda run: (run.last is not None and run.last < reader, run.first))
        return runs

    def _shared_runs(
        self,
        shared: SharedSource,
        elsewhere: Container[int],
        now: float,
        out: list[DownloadEffect],
        *,
        has_fellow: bool,
    ) -> list[Run]:
        """Stop what is not ours any more; return what is, and not on its way yet."""
        shared.measure(self._content.count or 0)
        left = [n for n in self._content.missing() or () if n not in elsewhere]
        ours = shared.choose(
            left,
            ranges=self._ranges,
            has_fellow=has_fellow,
            now=now,
            at_once=self.streams.at_once,
            reach=self.streams.reach,
        )
        if self._ranges is False:
            if self._runs or not ours:
                return []
            return [self._whole_if_needed(Run(ours[0], ours[-1]))]
        self._stop_at_others(frozenset(ours), out)
        return runs_of([n for n in ours if not self.covers(n)])

    def _stop_at_others(self, ours: frozenset[int], out: list[DownloadEffect]) -> None:
        """Let each run end before the first piece that it must not bring, now if that is next."""
        for first, following in tuple(self._next_of_runs()):
            end = self._end_of(first) or 0
            stop = next((n for n in range(following, end) if n not in ours), None)
            if stop is None:
                self._runs[first] = Run(first, self._asked_to[first])
            elif stop == following:
                out.append(StopSource(first=first))
                self._forget(first)
            else:
                self._runs[first] = Run(first, stop - 1)

    def _next_of_runs(self) -> list[tuple[int, int]]:
        """First piece of each run, and the one that it brings next."""
        return [(first, self._next[first]) for first in self._runs]

    def _end_of(self, first: int) -> int | None:
        """The piece after the last one that a run was begun for; None: that is not known."""
        last = self._asked_to[first]
        return self._content.count if last is None else last + 1

    def _whole_if_needed(self, run: Run) -> Run:
        return run if self._ranges is not False else Run(0, run.last)

    @property
    def _may_begin(self) -> bool:
        at_last = any(first < self._next[first] == run.last for first, run in self._runs.items())
        return self.streams.may_begin(is_last_on_its_way=at_last)

    @property
    def _wants_head(self) -> bool:
        """Nothing else is asked for before something is known of the content."""
        # Where parts lie is known once the head is here: nothing before them is read. And the
        # first of several requests is not to bring what others are for.
        is_first = self._ranges is None and self._content.first_missing_from(0) == 0
        return self._content.parts_only or (self.streams.is_parallel and is_first)

    def _blocks(self, runs: list[Run], reader: int | None) -> list[Run]:
        """`runs` cut into what is asked for at once, in the order in which it is asked for."""
        piece_length = self._content.piece_length
        if self._ranges is False or not piece_length or any(run.last is None for run in runs):
            return runs
        left = sum(run.last - run.first + 1 for run in runs if run.last is not None)
        length = self.streams.block(left, piece_length)
        if length is None:
            return runs
        blocks = [
            Run(first, min(first + length - 1, run.last))
            for run in runs
            if run.last is not None
            for first in range(run.first, run.last + 1, length)
        ]
        if reader is not None:
            blocks.sort(key=lambda run: (run.last is not None and run.last < reader, run.first))
        return blocks

    def _within_open(self, run: Run) -> Run | None:
        """What the request that is open brings of `run`, in whole pieces; None: nothing."""
        end, count, piece_length = self._open_end, self._content.count, self._content.piece_length
        if end is None or self._ranges is not True or count is None or not piece_length:
            return run
        last = end // piece_length - 1
        if last >= count - 1 or end >= (self._content.content_length or 0):
            return run
        last = last if run.last is None else min(last, run.last)
        return None if last < run.first else Run(run.first, last)

    def _is_whole(self, first: int) -> bool:
        """A run goes from the first piece as far as it would if it were the only one."""
        if first or 0 not in self._runs:
            return False
        return not self.streams.is_parallel or self._end_of(0) == self._content.count

    def _forget(self, first: int) -> Run | None:
        """A run is over."""
        self.streams.end(first)
        return self._runs.pop(first, None)

    def _start(self, run: Run, now: float, out: list[DownloadEffect]) -> None:
        within = self._within_open(run) if self._open == run.first else None
        if self._open is not None and within is None:
            out.append(StopSource(first=self._open))
            self._asked_at = now
        elif self._open is None and self._asked_at is None:
            self._asked_at = now
        self._open = None
        run = within or run
        if self.shared is not None and not self._runs:
            self.shared.paused()
        self.streams.begin(run.first, now)
        self._runs[run.first] = run
        self._asked_to[run.first] = run.last
        self._next[run.first] = run.first
        self._heard_at = now
        count = self._content.count
        to_end = run.last is None or (count is not None and run.last == count - 1)
        skip = tuple(sorted(n for n in self._content.held if run.covers(n)))
        out.append(FetchSource(first=run.first, last=None if to_end else run.last, skip=skip))

    def _give_up(self, event: SourceFailed, out: list[DownloadEffect]) -> None:
        answer = event.answer
        self.error = SourceError(
            f"source failed: {event.reason}",
            status_code=None if answer is None else answer.status_code,
            header=None if answer is None else dict(answer.header),
        )
        self.answer = answer
        self.close(out)
