"""How long one download waits for its parents, before `peer.core.beside` asks the source as well.

Theory of operation
===================

The wait is the *budget* that the daemon has learned (`peer.core.budget`). It is counted from when
the scheduler named parents, then from when the first of the pieces that are on their way was asked
for, and anew whenever peers have brought enough since. Enough is a rate: so parents that trickle
are waited for no longer than those that are silent. Whether something has come of a large piece
the driver is asked at the end of the budget.

An origin must not pay for a busy swarm, so three things hold the download back:

- *Excuses.* A parent is at work for others if it says that it sends far more than it sends to us,
  or has just refused us a slot, or is giving the piece to somebody else first; so the download
  stands in its queue. And one that has nothing to give yet, and is there, is no worse than a seed
  that is just opening the source; but only as long as no other parent could bring a piece, or if
  peers have brought some before. So is one that will pass on what it is being sent: it has patience
  of its own, and if all whom it keeps waiting asked the source as well, the source would pay for
  each. (Of 16 hosts that waited for eight pieces, four did: 2.4 copies.) An excuse holds for
  `ALIVE_S`, all of them together for `beside_alive_s`. A parent of ours says how busy it is when
  somebody comes, a moment later, which the least budget leaves time for, and at least every second;
  one that was last heard of before it was asked for something is given the time to say it again.
- *Luck.* Each download draws its moment between the budget (or whatever it waits for) and twice
  that, few early and most late
  (exponential timers, as in Nonnenmacher and Biersack's "Scalable feedback for large groups",
  1999): of a thousand that wait for one dead seed a few go first, and what they bring is a sign of
  life for the others.
- *Experience.* Once peers have brought something, at least `STALL_MIN_S`, and as long as it takes
  to find a transfer late, since what is late is asked from other parents first.

What is learned of the budget is the longer of two waits: for the first word of any parent, and from
asking to the first byte. What passed while parents had nothing to give is not counted.
"""

from __future__ import annotations

from math import expm1, log1p
from typing import TYPE_CHECKING, Final

from peer.core.budget import STALL_MIN_S
from peer.core.event import (
    FailureReason,
    ParentConnected,
    ParentEvent,
    ParentHolds,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from peer.core.budget import Budget
    from peer.core.effect import DownloadEffect
    from peer.core.fetching import Fetching
    from peer.core.limits import DownloadLimits
    from peer.core.parents import ParentState

ALIVE_S: Final = 2.5
"""How long an excuse holds: parents tell their load every second. Longer where many downloads go
on, and words wait to be read."""
SUPPRESSION: Final = 7.0
"""The logarithm of how many downloads (1100) may wait for the same thing, so that no more than a
few go in the first tenth of the window."""
LOOK_S: Final = 0.1
"""For the driver to say how far the transfers are: it does so at once, on a busy machine later."""
WORD_S: Final = 1.2
"""A parent that tells its load does so again within this..."""
WORD_LAG_S: Final = 0.05
"""...and a round trip. What it tells so soon, and two round trips, after it was asked for something
is how it was before: the question takes a connection, and until then it had nothing to give..."""
WORD_LAG_MAX_S: Final = 0.5
"""...but a first meeting may have taken longer than a round trip."""
CONFIRM_S: Final = 0.05
"""At least so long, for what has come to be read, and to find out whether we are woken in time."""
FRESH_S: Final = 0.5
"""After this it has to say so anew."""
UNMET_S: Final = 1.5
"""Where no parent has said a word yet, at least. To open a connection takes a moment of a parent's
processor, and in a burst everybody opens everybody's: it is more often busy than gone. (Of fifty
daemons that began at once on two cores, one had waited 0.7 s for eight parents.)"""
JUST_BEGUN_S: Final = 0.05
"""What has come for no longer than this has no rate yet."""
OTHERS_FACTOR: Final = 2.0
"""A parent that sends so many times what it sends to us is at work for others."""

KEPT_BYTES: Final = 512 * 1024.0
"""What systems keep of a transfer that does not move counts as sent, and so as the load of the
second in which it began..."""
KEPT_S: Final = 1.1
"""...which is over in what a parent tells so long after it was asked. (Counted for longer, nobody
was ever at work who has less than 5 Mbit/s: of 16 hosts behind a thin seed, five asked the source
for a content that was on its way to them.)"""

LOAD_EARLY_S: Final = 0.1
"""How soon after its first word a parent says how busy it is. When many children come at once
nobody is served yet, and each must know soon whether others are, or it was forgotten."""

WORDS_SHOWN: Final = 3
"""Of so many parents that owe something it is said why they were no excuse."""

_AT_WORK: Final = frozenset({FailureReason.REFUSED, FailureReason.GIVEN})


def load_pauses_s(interval_s: float) -> Iterator[float]:
    """What a parent waits from one word on its load to the next: ever longer, to `interval_s`."""
    pause_s = LOAD_EARLY_S
    while True:
        yield min(pause_s, interval_s)
        pause_s = min(2 * pause_s, interval_s)


class Patience:
    """Of one download. `hear` every event of a parent, before anybody else does."""

    def __init__(
        self,
        *,
        limits: DownloadLimits,
        fetching: Fetching,
        budget: Budget,
        host: str,
        rng: Random,
    ) -> None:
        """`host`: the origin's."""
        self._limits = limits
        self._fetching = fetching
        self._budget = budget
        self._host = host
        self._rng = rng
        self.draw = 1.0
        self._factor = 1.0
        self._least_s = 0.0
        self._since = 0.0  # when the wait began
        self._offered_at = 0.0  # a parent offered something, and nothing was on its way
        self._met_at: float | None = None  # a parent said its first word in this wait
        self._lag_s = WORD_LAG_S  # until its word on its load may tell of us
        self._has_begun = False  # a byte came from a peer
        self._is_proved = False  # enough came from peers, once
        self._got = 0  # bytes since the wait began
        self._got_since: float | None = None  # and when the first of them came
        self._refused_at: float | None = None
        self._seen: dict[tuple[str, int], int] = {}  # how far transfers were
        self._looked_at: float | None = None
        self._looking: set[tuple[str, int]] = set()  # whom the driver was asked for

    # --- what happens ---------------------------------------------------------------------------

    def begin(self, now: float, *, factor: float = 1.0, least_s: float = 0.0) -> None:
        """Wait from now on, `factor` budgets and no less than `least_s`."""
        self._factor, self._least_s = factor, least_s
        self._met_at = None
        self._restart(now)

    def hear(self, event: ParentEvent, now: float) -> None:
        """Something of a parent."""
        match event:
            case PieceStored():
                came = event.piece.length - self._seen.pop((event.peer_id, event.piece.number), 0)
                self._receive(came, event.began_s or 0.0, now)
                if self._has_enough(now):
                    self._prove(now)
            case PieceProgress():
                key = event.peer_id, event.number
                self._looking.discard(key)
                came = event.received - self._seen.get(key, 0)
                if event.began_s is not None and came > 0:
                    self._seen[key] = event.received
                    self._receive(came, event.began_s, now)
            case PieceNotFetched():
                self._seen.pop((event.peer_id, event.number), None)
                if event.reason in _AT_WORK:
                    self._refused_at = now
            case ParentHolds() if self._owed_since() is None:
                self._offered_at = now
            case ParentConnected() if self._met_at is None:
                self._met_at = now
                self._lag_s = min(WORD_LAG_S + 2.0 * (now - self._since), WORD_LAG_MAX_S)
            case _:
                pass

    # --- questions ------------------------------------------------------------------------------

    def wait_s(self, now: float) -> float:
        """What a download waits for at least."""
        wait_s = self._budget.budget_s(self._host, now)
        if self._is_proved:
            wait_s = max(wait_s, STALL_MIN_S)
        return max(wait_s * self._factor, self._least_s)

    def enough_bytes_per_s(self, now: float) -> float:
        """What peers must bring at least."""
        return self._budget.trickle_bytes_per_s(self._host, now)

    def next_wake(self, now: float) -> float:
        """When time alone may end it."""
        at = self._due_at(now)
        if now < at or self._looked_at is None:
            return at
        return max(self._looked_until(self._looked_at), self._excused_until(now))

    def is_over(self, now: float, out: list[DownloadEffect]) -> bool:
        """Too little has come within the budget; the driver was asked how far the transfers are."""
        if now < self._due_at(now):
            return False
        if self._looked_at is None or now - self._looked_at > FRESH_S:
            self._looked_at = now
            self._looking = set(self._fetching.ask_progress(out))
        if now < self._looked_until(self._looked_at):
            return False
        self._looking.clear()
        if self._has_enough(now):
            self._prove(now)
            return False
        return now >= self._excused_until(now)

    def account(self, now: float) -> str:
        """What this wait came to, for people: why the source is asked, if it is."""
        parents = self._fetching.parents
        flights = sum(len(p.in_flight) for p in parents)
        enough = self.enough_bytes_per_s(now)
        return (
            f"waited {now - self._since:.2f} s for {len(parents)} parents ({flights} pieces asked "
            f"for): {self._got} bytes came, {enough:.0f} a second are enough"
            f"{', more had come before' if self._is_proved else ''}"
            f"{self._last_words(now)}"
        )

    def _last_words(self, now: float) -> str:
        """What the parents that owe something said last of what they send, for people."""
        owing = [p for p in self._fetching.parents if p.in_flight][:WORDS_SHOWN]
        return "".join(
            f"; {p.parent.host.ip} sent {p.used:.0f} a second as it said "
            f"{now - p.used_told_at:.2f} s ago"
            if p.used is not None
            else f"; {p.parent.host.ip} did not say what it sends"
            for p in owing
        )

    # --- inside ---------------------------------------------------------------------------------

    def _restart(self, now: float) -> None:
        self._since = now
        self._got, self._got_since = 0, None
        self._looked_at = None
        self._looking.clear()
        self.draw = 1.0 + log1p(self._rng.random() * expm1(SUPPRESSION)) / SUPPRESSION

    def _looked_until(self, looked_at: float) -> float:
        """When it is known how far the transfers are, or never."""
        return looked_at + (LOOK_S if self._looking else CONFIRM_S)

    def _prove(self, now: float) -> None:
        self._is_proved = True
        self._restart(now)

    def _has_enough(self, now: float) -> bool:
        """What has come is no trickle, or has only just begun."""
        if self._got_since is None:
            return False
        took_s = now - self._got_since
        return took_s <= JUST_BEGUN_S or self._got >= self.enough_bytes_per_s(now) * took_s

    def _receive(self, n_bytes: int, began_s: float, now: float) -> None:
        """So many bytes came, of a piece whose first byte came `began_s` ago."""
        self._got += n_bytes
        began_at = max(now - began_s, self._since)
        if not self._has_begun:
            self._has_begun = True
            self._learn(began_at, now)
        self._got_since = began_at if self._got_since is None else min(self._got_since, began_at)

    def _learn(self, first_at: float, now: float) -> None:
        owed_since = self._owed_since()
        took_s = first_at - (self._since if owed_since is None else owed_since)
        if self._met_at is not None:
            took_s = max(took_s, self._met_at - self._since)
        self._budget.peers_began(took_s, now)

    def _owed_since(self) -> float | None:
        """When the oldest of the pieces on their way was asked for, and its parent had it."""
        flights = (flight for p in self._fetching.parents for flight in p.in_flight.values())
        return min((flight.owed_since for flight in flights), default=None)

    def _due_at(self, now: float) -> float:
        """When it is over, if there is no excuse."""
        owed_since = self._owed_since()
        since = max(self._since, self._offered_at if owed_since is None else owed_since)
        wait_s = self.wait_s(now)
        late_s = self._fetching.late_s
        if self._is_proved and late_s is not None:
            wait_s = max(wait_s, late_s)
        if not any(p.is_met for p in self._fetching.parents):
            wait_s = max(wait_s, UNMET_S)
        return since + wait_s * self.draw

    def _excused_until(self, now: float) -> float:
        parents = self._fetching.parents
        owing = [p for p in parents if p.in_flight or p.offers]
        moments = [p.used_told_at for p in owing if self._is_at_work(p, now)]
        if self._is_proved or all(map(self._is_empty, owing)):
            moments += [p.heard_at for p in parents if self._is_empty(p)]
        if self._refused_at is not None:
            moments.append(self._refused_at)
        alive_s = (ALIVE_S + self._budget.strain_s(now)) * self.draw
        until = max(moments, default=self._since - alive_s) + alive_s
        words = (self._word_due_at(p, now) for p in owing)
        until = max([until, *(at for at in words if at is not None)])
        return min(until, self._since + self._limits.beside_alive_s * self.draw)

    def _is_at_work(self, state: ParentState, now: float) -> bool:
        """For others."""
        return self._sends_much(state, now, besides=self._kept_bytes(state))

    def _sends_much(self, state: ParentState, now: float, besides: float = 0.0) -> bool:
        """Far more than it sends to us, and `besides`."""
        took_s = 0.0 if self._got_since is None else now - self._got_since
        ours = self._got / max(took_s, JUST_BEGUN_S)
        least = max(self._limits.slowest_rate_bytes_per_s, OTHERS_FACTOR * ours)
        return state.used is not None and state.used >= least + besides

    def _kept_bytes(self, state: ParentState) -> float:
        """How much of what it says it sent in the last second may have been kept of ours."""
        since = state.used_told_at - KEPT_S
        young = (flight for flight in state.in_flight.values() if flight.owed_since > since)
        return sum(min(KEPT_BYTES, flight.length) for flight in young)

    def _word_due_at(self, state: ParentState, now: float) -> float | None:
        """When a parent that tells its load will have told what it was since we asked it.

        Who sends something, which may be what is kept of ours, has to say so once more.
        """
        flight, told_at = next(iter(state.in_flight.values()), None), state.used_told_at
        if flight is None or state.used is None:
            return None
        strain_s = self._budget.strain_s(now)
        word_s = WORD_S + self._lag_s + strain_s
        owed_since = flight.owed_since
        if told_at < owed_since + self._lag_s:
            was_regular = told_at >= owed_since - ALIVE_S - strain_s
            return owed_since + word_s if was_regular else None
        if told_at <= owed_since + KEPT_S and self._sends_much(state, now):
            return owed_since + KEPT_S + word_s
        return None

    def _is_empty(self, state: ParentState) -> bool:
        """It is there, and has nothing to give yet, but what it is being sent itself."""
        can_give = state.finished or state.offers or state.oldest is not None
        return state.is_met and not can_give
