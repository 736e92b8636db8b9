"""The source beside the swarm: when a download has waited long enough for peers, and what then.

Theory of operation
===================

A download under a scheduler lives on its parents. If nothing comes from them within its *budget*
(`peer.core.budget`), the source is asked as well, so that no download is much slower than one that
had asked the source alone. The parents stay, and so does the scheduler's part: what the source
brought is reported as such.

*When.* The clock runs from the beginning, anew when the scheduler names parents as it was asked (it
may have been away, or have waited for a seed), and anew from the latest byte that came from a peer.
At the end of the budget the driver is first asked how far the transfers are, since a large piece
may be on its way on a thin link. An origin must not pay for a busy swarm, so three things hold the
download back:

- *Signs of life.* A parent that says it sends, or that has nothing to give yet and is there, or
  that has just got a piece, is at work: the download stands in its queue. While it was heard of
  within `ALIVE_S` the download waits `beside_alive_s` instead of the budget. A parent that says it
  sends nothing, though it was asked, is no sign of life.
- *Luck.* Each download draws its moment between the budget (or whatever it waits for) and twice
  that, few early and most late
  (exponential timers, as in Nonnenmacher and Biersack's "Scalable feedback for large groups",
  1999): of a thousand that wait for one dead seed a few go first, and what they bring is a sign of
  life for the others.
- *The scheduler.* As long as it has named nobody it may be triggering a seed, and holding a burst
  back until the first have begun: it gets at least `beside_unanswered_s`. Then the download goes to
  the source for good and says so, and the scheduler gives it to all who wait as a parent.

*What.* One request, to the end of what is missing in one stretch, from where a reader waits, else
from what no parent offers, else from the front. It claims only the next `beside_ahead` pieces, so
the parents may bring all others; where it meets a piece that is held, or on its way from a parent
and has begun, it stops and goes on elsewhere. So no piece is asked for twice, but one whose parent
has sent nothing of it for a budget's time: that one is stopped.

*How long.* Until the parents bring at least as much as the source does, both counted over the last
seconds. To begin again it takes another budget without a byte, twice as long as before.

If the source does not want to give the content, it is not asked again beside the swarm.
"""

from __future__ import annotations

from math import exp, expm1, log1p
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from peer.core.effect import AskProgress, DownloadEffect
from peer.core.event import (
    ParentConnected,
    ParentHolds,
    ParentLoad,
    PieceProgress,
    PieceStored,
)
from peer.core.source_plan import runs_of

if TYPE_CHECKING:
    from random import Random

    from odonata.wire.message import Download
    from peer.core.budget import Budget
    from peer.core.content import Content
    from peer.core.fetching import Fetching
    from peer.core.limits import DownloadLimits
    from peer.core.source_plan import SourcePlan

ALIVE_S: Final = 2.5
"""How long a sign of life holds: parents tell their load every second."""
SUPPRESSION: Final = 7.0
"""The logarithm of how many downloads (1100) may wait for the same thing, so that no more than a
few go in the first tenth of the window."""
LOOK_S: Final = 0.1
"""For the driver to say how far the transfers are: it does so at once, on a busy machine later."""
JUDGED_AFTER_S: Final = 1.0
JUDGED_AFTER_PIECES: Final = 2
"""Before it is said that the parents do as well as the source: one piece may be luck."""
RATE_MEMORY_S: Final = 2.0
"""Over how long rates are counted: some pieces of a fast link, one of a slow one."""
PATIENCE_FACTOR_MAX: Final = 16.0
"""What the budget is multiplied with at most, however often the source was stopped again."""
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
        self._limits = limits
        self._content = content
        self._source = source
        self._fetching = fetching
        self._budget = budget
        self._host = urlsplit(download.url).netloc
        self._rng = rng
        # Who was triggered goes to the source as it is.
        is_willing = download.priority not in PEERS_ONLY_PRIORITIES
        is_willing = is_willing and not download.need_back_to_source
        self._refused = not (limits.beside and is_willing)
        self._begun_at = 0.0
        self._has_bytes = False  # a byte came from a peer
        self._quiet_since = 0.0
        self._alive_at: float | None = None
        self._looked_at: float | None = None
        self._seen: dict[tuple[str, int], int] = {}  # how far transfers were
        self._wait_s = 0.0
        self._draw = 1.0
        self._factor = 1.0
        self._on_since = 0.0
        self._from_peers = self._from_source = Rate()
        self._brought = 0

    # --- what happens ---------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The download has begun."""
        self._begun_at = now
        self._begin_anew(now)

    def hear(
        self,
        event: PieceStored | PieceProgress | ParentConnected | ParentHolds | ParentLoad,
        now: float,
    ) -> None:
        """Something of a parent."""
        match event:
            case PieceStored():
                self._see_bytes(now if event.began_s is None else now - event.began_s, now)
                self._from_peers.add(event.piece.length, now)
                self._brought += 1
            case PieceProgress():
                key = event.peer_id, event.number
                if event.began_s is not None and event.received > self._seen.get(key, -1):
                    self._seen[key] = event.received
                    self._see_bytes(now - event.began_s, now)
            case ParentLoad():
                state = self._fetching.parents.get(event.peer_id)
                is_idle = event.used_rate_bytes_per_s <= 0
                if state is not None and not (is_idle and state.in_flight):
                    self._alive_at = now
            case _:
                if self._fetching.parents.get(event.peer_id) is not None:  # not dropped meanwhile
                    self._alive_at = now

    def named(self, now: float, *, has_lost: bool) -> None:
        """The scheduler has named parents when it was asked: these have their time, too.

        `has_lost`: the download has lost a scheduler. So have the others of its task, all of whom
        find their parents anew now; the source would pay for each.
        """
        if self.on:
            return
        self._begin_anew(now)
        if has_lost:
            self._wait_s = max(self._wait_s, self._limits.beside_unanswered_s)

    def source_brought(self, n_bytes: int, now: float) -> None:
        """A piece came from the source."""
        self._from_source.add(n_bytes, now)

    def source_answered(self, took_s: float, now: float) -> None:
        """The source began to answer, on whatever grounds it was asked."""
        self._budget.source_answered(self._host, took_s, now)

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
        at = self._overdue_at(asked_at)
        return at is not None and at <= now

    def next_wake(self, asked_at: float | None) -> float | None:
        """When time alone may change something; `asked_at`: the scheduler owes an answer."""
        if self.on:
            return None
        at = self._due_at() if asked_at is None else self._overdue_at(asked_at)
        if at is not None and self._looked_at is not None:
            at = max(at, self._looked_at + LOOK_S)
        return at

    # --- after every event ----------------------------------------------------------------------

    def steer(self, now: float, out: list[DownloadEffect], *, may_begin: bool) -> None:
        """Begin, go on, or stop. `may_begin`: the download may ask the source at all."""
        if not self.on and may_begin and self._is_due(now, out):
            self.on = True
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
            self._begin_anew(now)
        else:
            self._go_on(now, out)

    # --- inside: when ---------------------------------------------------------------------------

    def _begin_anew(self, now: float) -> None:
        self._quiet_since = now
        self._looked_at = None
        self._wait_s = self._budget.budget_s(self._host, now) * self._factor
        self._draw = 1.0 + log1p(self._rng.random() * expm1(SUPPRESSION)) / SUPPRESSION

    def _see_bytes(self, first_at: float, now: float) -> None:
        if not self._has_bytes:
            self._has_bytes = True
            self._budget.peers_began(first_at - self._begun_at, now)
        self._alive_at = self._quiet_since = now
        self._looked_at = None

    def _overdue_at(self, asked_at: float) -> float | None:
        if self._refused:
            return None
        return asked_at + max(self._wait_s, self._limits.beside_unanswered_s) * self._draw

    def _due_at(self) -> float | None:
        """When the budget is over, as things stand."""
        if self._refused:
            return None
        wait_s = self._wait_s
        late_s = self._fetching.late_s
        if self._has_bytes and late_s is not None:
            wait_s = max(wait_s, late_s)  # what is late is asked from other parents first
        at = self._quiet_since + wait_s * self._draw
        if self._alive_at is not None:
            latest = self._quiet_since + self._limits.beside_alive_s * self._draw
            at = max(at, min(self._alive_at + ALIVE_S * self._draw, latest))
        return at

    def _is_due(self, now: float, out: list[DownloadEffect]) -> bool:
        """The budget is over, and no transfer was on its way that has moved."""
        at = self._due_at()
        if at is None or now < at:
            return False
        if self._looked_at is None:
            self._looked_at = now
            flights = [(p.peer_id, n) for p in self._fetching.parents for n in p.in_flight]
            out.extend(AskProgress(peer_id=who, number=number) for who, number in flights)
            return not flights
        return now >= self._looked_at + LOOK_S

    def _peers_do_as_well(self, now: float) -> bool:
        if now - self._on_since < JUDGED_AFTER_S or self._brought < JUDGED_AFTER_PIECES:
            return False
        return self._from_peers.per_s(now) >= self._from_source.per_s(now)

    # --- inside: what ---------------------------------------------------------------------------

    def _go_on(self, now: float, out: list[DownloadEffect]) -> None:
        source, ahead = self._source, self._limits.beside_ahead
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
        return not self._fetching.is_coming(number, now, self._wait_s)
