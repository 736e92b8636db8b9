"""Whether what this host sends still gets out, or only stands in the way of what it gets.

Theory of operation
===================

A host that downloads has to acknowledge what it gets, by its uplink: some 2 % of what comes. An
uplink that gives way (another tenant, a failing radio, a limit that somebody set) is full of pieces
for children all the same, and the acknowledgements wait among them, so that its own download slows
down with it. The children lose nothing if they are turned away: others serve them sooner.

So the host looks at itself, once in `LOOK_S`. If for `LOOKS` looks in a row it has been sending to
several children, and what has arrived at them all together is less than `CHOKED_SHARE` of the most
in as long a time lately, its uplink has given way; then it rests: it breaks off what it sends, and
refuses whoever asks, for `REST_S`, or until nothing comes any more. After that it tries again.

Several children, since one may be slow itself; and not by what it sends to each, since who serves
few is not slow. A host that has always been slow has nothing to compare itself with, and does not
rest: its uplink is narrow, but what it gives still counts.
"""

from __future__ import annotations

from collections import deque
from math import inf

LOOK_S = 0.5
"""Some round trips, on links with a queue in front of them."""

LOOKS = 3
"""In a row: a connection that has lost its last segments is silent for one or two. But no more than
that: who sends to this host hears nothing meanwhile, and waits twice as long each time."""

MEMORY_LOOKS = 120
"""How long "lately" is, in looks at which something was being sent. Who served a neighbour then,
and now serves somebody far away, must not take that for ever for a choked uplink."""

CHOKED_SHARE = 0.03
"""Acknowledgements take 2.3 % of a link that carries as much both ways (66 bytes for two segments).
A host that sends more than that has room for them."""

CHILDREN_MIN = 2
"""As many are being sent to at each look."""

REST_S = 30.0
"""To try again costs this host some ten seconds: as many as its parents take to send at their rate
again. What gives way for a moment is told apart by `LOOKS`; what does for longer, often stays so
for minutes."""


class Uplink:
    """Of one host. No I/O, no clock."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, bool]] = deque(maxlen=LOOKS)
        self._sums: deque[int] = deque(maxlen=MEMORY_LOOKS)
        self._rests_until = -inf

    def is_resting(self, now: float) -> bool:
        """Nothing is to be sent."""
        return now < self._rests_until

    def look(self, arrived_bytes: int, children: int, now: float, *, is_receiving: bool) -> bool:
        """`LOOK_S` after the last one, or after sending began. True: from now on it rests.

        `arrived_bytes` since then, at all children; `children`: those being sent to just now.
        """
        if self.is_resting(now):
            if not is_receiving:
                self._rests_until = -inf
            return False
        self._looks.append((arrived_bytes, is_receiving and children >= CHILDREN_MIN))
        if len(self._looks) < LOOKS:
            return False
        total = sum(count for count, _ in self._looks)
        self._sums.append(total)
        is_tried = all(counts for _, counts in self._looks)
        if not is_tried or total >= CHOKED_SHARE * max(self._sums):
            return False
        self._rests_until = now + REST_S
        self._looks.clear()
        return True

    def pause(self) -> None:
        """Nothing is being sent: what was seen before says what can be sent, and no more."""
        self._looks = deque([(count, False) for count, _ in self._looks], maxlen=LOOKS)
