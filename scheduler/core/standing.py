"""The life cycle of a host's standing as a parent, as a table, and what it is decided upon.

Theory of operation
===================

Every host is `Good` until its children's reports say otherwise. Then it is `Evicted` for a term:
nobody is sent to it while anybody else can help, and the children it had are given others. When the
term is over it is `OnProbation`: it is offered again, to one child at a time. A few good pieces
readmit it; a few bad ones evict it again, for twice as long, up to a bound. A host that was good
for an hour begins with the shortest term again.

    Good --Evict--> Evicted --EndTerm--> OnProbation --Readmit--> Good
                       ^                      |
                       +--------Evict---------+

A host that was accused of sending wrong bytes is put on probation at once (Good --Suspect-->
OnProbation), and is evicted for the longest term if it is convicted of that (`accusation`).

What counts against a host is a *suspicion*: a run of pieces that begins with a bad one. It is
dropped when as many good ones have followed, or when it has heard nothing bad for a minute. So what
a host did well before is no excuse, and what it does well now is. A suspicion is a verdict when

- at least 3 pieces were bad, at most 2 of them on the word of the same child (in a minute),
- they were bad for at least 2 different hosts' children, and
- their share, smoothed as a Beta with the prior (1/2, 1/2), is at least `BAD_SHARE`.

Which pieces are bad `judgement` says. Nothing here reads a clock or changes anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, inf, log, nan

from scheduler.core.history import DecayedRate
from scheduler.core.lifecycle import IllegalTransitionError

FIRST_TERM_S = 30.0
"""Of an eviction: longer than a hiccup (a restart, a burst of somebody else's traffic)."""
LONGEST_TERM_S = 600.0
"""Terms double up to this: what is broken for long costs one child every 10 min a few pieces."""
FORGIVEN_AFTER_S = 3600.0
"""A host that was good for so long gets the shortest term again."""

LEAST_BAD_PIECES = 3
BAD_PIECES_PER_CHILD = 2
"""That count, in `SUSPICION_S`: whoever is angry at everybody decides nothing alone."""
SUSPICION_S = 60.0
"""A suspicion that hears nothing bad for so long is dropped. A stock client's piece that is 50
times late takes a minute or more, and several of them come in that time."""
BAD_SHARE = 0.7
"""3 of 3 or of 4, 4 of 5, 5 of 6. Were pieces bad by chance, one in 300, a host that serves a piece
a second would be evicted once in a thousand hours; in clusters of failures (a switch, a restart)
chance has no part."""
ACCUSER_LIMIT = 32
"""Children whose word is counted; the oldest is forgotten first. More than serve at a time."""

PROBATION_GOOD_PIECES = 4
PROBATION_BAD_PIECES = 2
"""Whichever is reached first."""

NOW_HALF_LIFE_S = 1.0
"""Of the rate by which a drop is noticed: to 2 % of what it was takes 6 half-lives."""
REFERENCE_PIECES = 16
REFERENCE_BUSY_S = 5.0
"""From here on a host's own rate is a measure. In fewer pieces and less time it has seldom served
more than one child, and is not known."""
REFERENCE_MEMORY_S = 865.0
"""Busy seconds over which the reference follows the host: a half-life of 10 min."""
REFERENCE_PULL = log(2.0)
"""However far off, a rate pulls the reference as if it were off by a factor of 2. So a host that
drops to 2 % drags its own reference down by 5 % a minute, not by half."""


class HostState(StrEnum):
    """What a host is worth as a parent."""

    GOOD = "Good"
    EVICTED = "Evicted"
    ON_PROBATION = "OnProbation"


class HostTrigger(StrEnum):
    """What changes a host's standing."""

    EVICT = "Evict"
    END_TERM = "EndTerm"
    READMIT = "Readmit"
    SUSPECT = "Suspect"


HOST_TRANSITIONS: dict[tuple[HostState, HostTrigger], HostState] = {
    (HostState.GOOD, HostTrigger.EVICT): HostState.EVICTED,
    (HostState.GOOD, HostTrigger.SUSPECT): HostState.ON_PROBATION,
    (HostState.EVICTED, HostTrigger.END_TERM): HostState.ON_PROBATION,
    (HostState.ON_PROBATION, HostTrigger.READMIT): HostState.GOOD,
    (HostState.ON_PROBATION, HostTrigger.EVICT): HostState.EVICTED,
}


@dataclass(slots=True)
class Reference:
    """A host's own usual rate, followed on a log scale; NaN until enough of it was seen."""

    log_rate: float = nan
    piece_count: int = 0
    busy_s: float = 0.0

    @property
    def bytes_per_s(self) -> float:
        """The usual rate; NaN while it is not known, which compares as nothing."""
        return exp(self.log_rate)

    def follow(self, busy_s: float, rate_bytes_per_s: float, recent_bytes_per_s: float) -> None:
        """A piece kept the host busy for `busy_s` more; its rates are these now (NaN: unknown)."""
        self.piece_count = min(self.piece_count + 1, REFERENCE_PIECES)
        self.busy_s += busy_s
        if self.piece_count < REFERENCE_PIECES or self.busy_s < REFERENCE_BUSY_S:
            return
        if self.log_rate != self.log_rate:  # NaN
            self.log_rate = log(rate_bytes_per_s) if rate_bytes_per_s > 0 else nan
        elif recent_bytes_per_s > 0:
            pull = log(recent_bytes_per_s) - self.log_rate
            pull = min(max(pull, -REFERENCE_PULL), REFERENCE_PULL)
            self.log_rate += pull * min(busy_s / REFERENCE_MEMORY_S, 1.0)


@dataclass(slots=True)
class Accuser:
    """How often a child's word was taken since `since_s`."""

    since_s: float
    count: int = 0


@dataclass(slots=True)
class Suspicion:
    """A run of pieces that began with a bad one, and whose word counts for how much."""

    good: int = 0
    bad: int = 0
    child_id: str = ""
    is_shared: bool = False  # by a second child
    bad_at_s: float = -inf
    accusers: dict[str, Accuser] = field(default_factory=dict[str, Accuser])

    def heard_good(self) -> None:
        """A piece went well."""
        if self.bad:
            self.good += 1
            if self.good >= self.bad:
                self.drop()

    def heard_bad(self, now: float, child_id: str) -> bool:
        """A piece of host `child_id` went badly; return whether that makes a verdict."""
        if now - self.bad_at_s > SUSPICION_S:
            self.drop()
        if not self._believes(now, child_id):
            return False
        self.bad_at_s = now
        self.bad += 1
        self.child_id = self.child_id or child_id
        self.is_shared = self.is_shared or self.child_id != child_id
        share = (self.bad + 0.5) / (self.bad + self.good + 1.0)
        return self.is_shared and self.bad >= LEAST_BAD_PIECES and share >= BAD_SHARE

    def drop(self) -> None:
        """There is nothing in it. What each child said still counts as said."""
        self.good = self.bad = 0
        self.child_id = ""
        self.is_shared = False

    def _believes(self, now: float, child_id: str) -> bool:
        accuser = self.accusers.get(child_id)
        if accuser is None or now - accuser.since_s > SUSPICION_S:
            self.accusers.pop(child_id, None)
            accuser = self.accusers[child_id] = Accuser(since_s=now)
            if len(self.accusers) > ACCUSER_LIMIT:
                del self.accusers[next(iter(self.accusers))]
        accuser.count += 1
        return accuser.count <= BAD_PIECES_PER_CHILD


@dataclass(slots=True)
class Standing:
    """A host's standing since `since_s`. A term ends at `until_s`, which nothing else reads.

    `is_liar`: it was evicted for the bytes it sent, and not been good since.
    """

    state: HostState = HostState.GOOD
    since_s: float = 0.0
    until_s: float = inf
    term_s: float = 0.0  # of the latest eviction
    suspicion: Suspicion = field(default_factory=Suspicion)
    reference: Reference = field(default_factory=Reference)
    current: DecayedRate = field(default_factory=lambda: DecayedRate(NOW_HALF_LIFE_S))
    trial_good: int = 0
    trial_bad: int = 0
    why: str = ""  # it was evicted at last
    eviction_count: int = 0
    doubtful_eviction_count: int = 0
    is_liar: bool = False

    def move(self, trigger: HostTrigger, now: float, *, is_liar: bool = False) -> None:
        """Take `trigger` and begin anew with what the next state is decided upon.

        An eviction of one who `is_liar` is for the longest term.
        """
        target = HOST_TRANSITIONS.get((self.state, trigger))
        if target is None:
            raise IllegalTransitionError(f"a host in state {self.state} can't take {trigger}")
        if target is HostState.EVICTED:
            self.term_s = LONGEST_TERM_S if is_liar else self._next_term_s(now)
            self.is_liar = is_liar
        elif target is HostState.GOOD:
            self.is_liar = False
        self.state, self.since_s = target, now
        self.until_s = now + self.term_s if target is HostState.EVICTED else inf
        self.suspicion = Suspicion()
        self.trial_good = self.trial_bad = 0

    def _next_term_s(self, now: float) -> float:
        was_good_s = now - self.since_s if self.state is HostState.GOOD else 0.0
        if not self.term_s or was_good_s > FORGIVEN_AFTER_S:
            return FIRST_TERM_S
        return min(2 * self.term_s, LONGEST_TERM_S)
