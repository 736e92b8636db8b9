"""What a host is giving to somebody, or has just given. No I/O, no clock.

Where an uplink is the scarcest thing of a swarm, a second copy of a piece that leaves it costs
everybody the time of a new piece: whoever lacks it has it sooner from the child that is being sent
it. But as long as it is on its way nobody knows of it but its sender; so the sender tells. A child
may ask *exclusively*: if the piece is given to another child, it hears so instead of getting it,
with all other pieces of which the same is true, and asks for something else. (16 hosts behind a
seed as thin as they are, 64 pieces, simulated: of 107 pieces that left the seed 43 were repeats,
of 65 one is; the median falls from 1.65 to 1.22 times the bound.)

A piece counts as given from the beginning of its sending until it has had the time to spread:
`GIVEN_FACTOR` times as long as a sending takes here. Not longer, whatever has become of it: its
child may be slow, hang, or keep to itself what it has. If the sending breaks off, it is not given.

All that is for an uplink that is needed. When nothing new has been asked for during
`NOTHING_NEW_S`, and nothing is being sent, a second copy costs nobody anything, and whoever asks
gets it: one at a time, so that what is new never waits for more than one of them. (Five peers, one
of them slow: it had been given a piece of each layer first, and the others waited 10 s for it
beside a seed that did nothing.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf

from odonata.wire.message import Value

GIVEN_FACTOR = 8.0
"""For the sending, which seems shorter than it is, since the kernel takes the last bytes long
before they are out; and for the piece to reach others, which takes four generations. (Simulated as
above: 4, 8 and 16 are the same; also where peers are uneven, degrade, vanish or come late.)"""

GIVEN_MIN_S = 5.0
"""Where sendings take milliseconds, too: whoever is busy with something else passes it on later."""

GIVEN_MAX_S = 30.0
"""Nobody waits longer for a child that took a piece and hangs. Within that a sending of 4 MiB at
1 Mbit/s, and most others, are over."""

NOTHING_NEW_S = 0.5
"""As long as a child waits that was told of a gift (`given_pause_s`): while there is something that
nobody was given, one of them asks for it sooner."""

GIFTS_MAX = 4096
"""Remembered at once; the oldest goes first. Of more sendings in five seconds none takes long."""

NEWEST_WEIGHT = 0.2
"""Of the newest sending in the mean: the last five or so count."""


class Gift(Value, frozen=True, kw_only=True):
    """A piece given to `child`; it counts until `until_s`."""

    child: str
    until_s: float


class Giving:
    """Sendings begin and end, by ticket; `to_others` tells what is given."""

    def __init__(self) -> None:
        self._gifts: OrderedDict[Hashable, Gift] = OrderedDict()  # the latest of each piece
        self._sending: dict[int, tuple[Hashable, float]] = {}  # ticket -> piece, since when
        self._usual_s: float | None = None
        self._new_at_s = -inf  # when the sending of something began that was nobody's gift

    @property
    def counts_for_s(self) -> float:
        """How long a gift counts that begins now."""
        usual_s = GIVEN_FACTOR * (self._usual_s or 0.0)
        return min(max(usual_s, GIVEN_MIN_S), GIVEN_MAX_S)

    def begin(self, ticket: int, piece: Hashable, child: str, now_s: float) -> None:
        """The sending of `piece` to `child` begins."""
        self._forget_old(now_s)
        if piece not in self._gifts:
            self._new_at_s = now_s
        self._sending[ticket] = piece, now_s
        self._gifts[piece] = Gift(child=child, until_s=now_s + self.counts_for_s)
        self._gifts.move_to_end(piece)
        if len(self._gifts) > GIFTS_MAX:
            self._gifts.popitem(last=False)

    def end(self, ticket: int, now_s: float, *, is_whole: bool) -> None:
        """The sending is over; not `is_whole`: the child has not got the piece."""
        piece, since_s = self._sending.pop(ticket)
        if is_whole:
            took_s = now_s - since_s
            usual_s = took_s if self._usual_s is None else self._usual_s
            self._usual_s = usual_s + NEWEST_WEIGHT * (took_s - usual_s)
        elif not any(piece == other for other, _ in self._sending.values()):
            self._gifts.pop(piece, None)

    def is_needed(self, now_s: float) -> bool:
        """Whether a second copy would be at the expense of something else."""
        return bool(self._sending) or now_s - self._new_at_s < NOTHING_NEW_S

    def to_others(self, child: str, now_s: float) -> list[Hashable]:
        """Pieces that are given to somebody else than `child`."""
        self._forget_old(now_s)
        return [
            piece
            for piece, gift in self._gifts.items()
            if gift.child != child and gift.until_s > now_s
        ]

    def _forget_old(self, now_s: float) -> None:
        """From the oldest to the first that still counts: a step for each that was begun."""
        while self._gifts:
            piece, gift = next(iter(self._gifts.items()))
            if gift.until_s > now_s:
                return
            del self._gifts[piece]
