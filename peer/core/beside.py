"""The source beside the swarm: when a download has waited long enough for peers, and what then.

Theory of operation
===================

A download under a scheduler lives on its parents. If too little comes from them within its *budget*
(`peer.core.budget`), the source is asked as well, so that no download is much slower than one that
had asked the source alone. The parents stay, and so does the scheduler's part: what the source
brought is reported as such.

*When.* `peer.core.patience` says how long parents are waited for, and what is too little from them.
As long as the scheduler has named nobody it may be triggering a seed, or holding a burst back until
the first have begun: it gets at least `beside_unanswered_s`. Then the download goes to the source
for good and says so, and the scheduler gives it to all who wait as a parent.

*What.* One request, to the end of what is missing in one stretch, from where a reader waits, else
from what no parent offers, else from the front. It claims only the next `beside_ahead` pieces, so
the parents may bring all others; where it meets a piece that is held, or on its way from a parent
and comes well, it stops and goes on elsewhere. So no piece is asked for twice, but one that comes
as a trickle, or whose parent has brought nothing for a budget's time: that one is stopped.

*How long.* Until the parents bring at least as much as the source does, both counted over the last
seconds. To begin again it takes another budget with too little, twice as long as before.

If the source does not want to give the content, it is not asked again beside the swarm.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from peer.core.event import ParentEvent, PieceStored
from peer.core.patience import Patience
from peer.core.source_plan import runs_of

if TYPE_CHECKING:
    from random import Random

    from odonata.wire.message import Download
    from peer.core.budget import Budget
    from peer.core.content import Content
    from peer.core.effect import DownloadEffect
    from peer.core.fetching import Fetching
    from peer.core.limits import DownloadLimits
    from peer.core.source_plan import SourcePlan

LOOK_EVERY_S: Final = 0.5
"""While the source is asked: how often the driver is asked how far the parents' transfers are."""
JUDGED_AFTER_S: Final = 1.0
JUDGED_AFTER_PIECES: Final = 2
"""Before it is said that the parents do as well as the source: one piece may be luck."""
RATE_MEMORY_S: Final = 2.0
"""Over how long rates are counted: some pieces of a fast link, one of a slow one."""
PATIENCE_FACTOR_MAX: Final = 16.0
"""What the budget is multiplied with at most, however often the source was stopped again."""
RATE_WINDOW_S: Final = 0.25
"""Over how long the source is watched before its rate is learned: some pieces of a fast one."""
PEERS_ONLY_PRIORITIES: Final = frozenset({1, 2})
"""Levels of a download that take what peers have, or nothing."""


class Rate:
    """Bytes per second over the last `RATE_MEMORY_S`, the latest counting most."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._at = 0.0

    def add(self, n_bytes: int, now: float) -> None:
        """So many bytes have come."""
        self._sum = self.per_s(now) * RATE_MEMORY_S + n_bytes
        self._at = now

    def per_s(self, now: float) -> float:
        """The rate now."""
        return self._sum * exp((self._at - now) / RATE_MEMORY_S) / RATE_MEMORY_S


class Beside:
    """Of one download. `steer` it after every event while it lives on parents."""

    def __init__(
        self,
        *,
        limits: DownloadLimits,
        content: Content,
        source: SourcePlan,
        fetching: Fetching,
        budget: Budget,
        download: Download,
        rng: Random,
    ) -> None:
        """The plan and the parents are those of the download."""
        self.on = False
        self.because = ""
        """Why the source was asked the last time."""
        self._limits = limits
        self._content = content
        self._source = source
        self._fetching = fetching
        self._budget = budget
        self._host = urlsplit(download.url).netloc
        self._patience = Patience(
            limits=limits, fetching=fetching, budget=budget, host=self._host, rng=rng
        )
        # Who was triggered goes to the source as it is.
        is_willing = download.priority not in PEERS_ONLY_PRIORITIES
        is_willing = is_willing and not download.need_back_to_source
        self._refused = not (limits.beside and is_willing)
        self._counts = False  # among the downloads that go on
        self._factor = 1.0
        self._looked_at = 0.0
        self._watched_since: float | None = None  # the source
        self._watched = 0
        self._on_since = 0.0
        self._from_peers = self._from_source = Rate()
        self._brought = 0

    # --- what happens ---------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The download has begun."""
        self._counts = True
        self._budget.begun()
        self._patience.begin(now)

    def leave(self, now: float) -> None:
        """The download is over."""
        if not self._counts:
            return
        self._counts = False
        self._budget.ended()
        if self._watched_since is not None:
            self._learn_rate(self._watched_since, now)
            self._budget.leaves_source(self._host)

    def wake(self, due_at: float | None, now: float) -> None:
        """Something happened at last, with an alarm for `due_at`."""
        if due_at is not None and due_at < now:
            self._budget.woken(now - due_at, now)

    def hear(self, event: ParentEvent, now: float) -> None:
        """Something of a parent."""
        self._patience.hear(event, now)
        if isinstance(event, PieceStored):
            self._from_peers.add(event.piece.length, now)
            self._brought += 1

    def named(self, now: float, *, has_lost: bool) -> None:
        """The scheduler has named parents when it was asked: these have their time, too.

        `has_lost`: the download has lost a scheduler. So have the others of its task, all of whom
        find their parents anew now; the source would pay for each.
        """
        if not self.on:
            least_s = self._limits.beside_unanswered_s if has_lost else 0.0
            self._patience.begin(now, factor=self._factor, least_s=least_s)

    def source_brought(self, n_bytes: int, now: float) -> None:
        """A piece came from the source."""
        self._from_source.add(n_bytes, now)
        if self._watched_since is None:
            self._watch(now)
            return
        self._watched += n_bytes
        if now - self._watched_since >= RATE_WINDOW_S:
            self._learn_rate(self._watched_since, now)

    def source_answered(self, took_s: float, now: float) -> None:
        """The source began to answer, on whatever grounds it was asked."""
        self._budget.source_answered(self._host, took_s, now)
        if self._watched_since is None:
            self._watch(now)

    def refuse(self, out: list[DownloadEffect]) -> None:
        """The source is of no use here."""
        self._refused, self.on = True, False
        self._source.forgive(out)

    def end(self) -> None:
        """The download goes to the source for good: what is on its way goes on."""
        self.on = False
        self._source.unclaim()

    # --- questions ------------------------------------------------------------------------------

    def is_answer_overdue(self, asked_at: float, now: float) -> bool:
        """The scheduler, asked then, has named nobody for too long."""
        at = self._overdue_at(asked_at, now)
        return at is not None and at <= now

    def next_wake(self, asked_at: float | None, now: float) -> float | None:
        """When time alone may change something; `asked_at`: the scheduler owes an answer."""
        if self._refused:
            return None
        if self.on:
            return self._looked_at + LOOK_EVERY_S if self._fetching.flights else None
        if asked_at is None:
            return self._patience.next_wake(now)
        return self._overdue_at(asked_at, now)

    # --- after every event ----------------------------------------------------------------------

    def steer(self, now: float, out: list[DownloadEffect], *, may_begin: bool) -> None:
        """Begin, go on, or stop. `may_begin`: the download may ask the source at all."""
        may_begin = may_begin and not self._refused
        if not self.on and may_begin and self._patience.is_over(now, out):
            self.on = True
            self.because = self._patience.account(now)
            self._looked_at = now
            self._on_since, self._brought = now, 0
            self._from_peers, self._from_source = Rate(), Rate()
        if not self.on:
            return
        self._source.tend(now, out)
        if self._source.error is not None:
            self.refuse(out)
        elif self._peers_do_as_well(now):
            self.on = False
            self._source.close(out)
            self._factor = min(2.0 * self._factor, PATIENCE_FACTOR_MAX)
            self._patience.begin(now, factor=self._factor)
        else:
            self._go_on(now, out)

    # --- inside: when ---------------------------------------------------------------------------

    def _overdue_at(self, asked_at: float, now: float) -> float | None:
        if self._refused:
            return None
        wait_s = max(self._patience.wait_s(now), self._limits.beside_unanswered_s)
        return asked_at + wait_s * self._patience.draw

    def _peers_do_as_well(self, now: float) -> bool:
        if now - self._on_since < JUDGED_AFTER_S or self._brought < JUDGED_AFTER_PIECES:
            return False
        return self._from_peers.per_s(now) >= self._from_source.per_s(now)

    # --- inside: what ---------------------------------------------------------------------------

    def _go_on(self, now: float, out: list[DownloadEffect]) -> None:
        source, ahead = self._source, self._limits.beside_ahead
        if now >= self._looked_at + LOOK_EVERY_S:
            self._looked_at = now
            self._fetching.ask_progress(out)
        source.claim(ahead, lambda number: self._is_free(number, now), out)
        if not source.busy or (source.retry_due is not None and source.retry_due <= now):
            self._ask(now, out)
            source.claim(ahead, lambda number: self._is_free(number, now), out)
        self._fetching.leave_to_source(now, out)

    def _ask(self, now: float, out: list[DownloadEffect]) -> None:
        """The next request, if anything is left that no parent is bringing."""
        missing, source = self._content.missing(), self._source
        if missing is None:
            if self._content.parts_only:
                source.open(now, out)
            else:
                source.start(self._content.first_missing_from(0) or 0, None, now, out)
            return
        free = [number for number in missing if self._is_free(number, now)]
        if source.ignores_ranges and (free[:1] != [0] or missing[0] != 0):
            self.refuse(out)  # it begins at the first byte, whatever is asked for
            return
        first = self._first_of(free)
        if first is not None:
            run = next(run for run in runs_of(free) if run.covers(first))
            source.start(first, run.last, now, out)

    def _first_of(self, free: list[int]) -> int | None:
        reader = self._fetching.reader
        if reader is not None:
            at_reader = next((number for number in free if number >= reader.number), None)
            if at_reader is not None:
                return at_reader
        offered = self._fetching.offered()
        return next((n for n in free if n not in offered), next(iter(free), None))

    def _is_free(self, number: int, now: float) -> bool:
        """It is missing, and no parent is bringing it."""
        if not self._content.lacks(number):
            return False
        wait_s, enough = self._patience.wait_s(now), self._patience.enough_bytes_per_s(now)
        return not self._fetching.is_coming(number, now, wait_s, enough)

    # --- inside: what the source can do ---------------------------------------------------------

    def _watch(self, now: float) -> None:
        self._watched_since, self._watched = now, 0
        self._budget.asks_source(self._host)

    def _learn_rate(self, since: float, now: float) -> None:
        if self._watched and now > since:
            self._budget.source_brought(self._host, self._watched / (now - since), now)
        self._watched_since, self._watched = now, 0
