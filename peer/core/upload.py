"""Who is served next: the upload slots of a host and the queue in front of them. No I/O, no clock.

A slot is one piece on its way out. Few slots are better than many: with 24 children sharing a link,
all of them finish their first piece late and at the same time, and nobody can pass anything on
meanwhile; served four at a time, the first four have it six times as early. (In the model of a
swarm behind a thin seed, four slots instead of none took the median from 3.6 to 2.9 times the
bound, and 4, 8, 16 slots gave 1.29, 1.36, 1.40 for tuned peers.)

Whoever finds no slot waits here: stock children take a refusal for a failure of the parent. A child
that says it has other parents is refused instead, and goes there (ADR 24). Of those who wait, the
child that has the fewest slots goes first, so that one with many tasks or many requests does not
crowd out the others; then the piece that was sent the least often, so that a seed hands out
different pieces before it repeats one; among equals the one that came first. Whoever has waited for
`patience_s` comes before all that. The queue is bounded; beyond it a child is refused at once.

A child that asks exclusively is not served either while the piece is given to another one, or about
to be, unless there is nothing else to do (`giving`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from odonata.wire.message import Value
from peer.core.giving import Giving

SLOTS = 4
"""As many as a child of ours has in flight."""

SEED_SLOTS = 4 * SLOTS
"""A seed's uplink is wider as a rule. If it is not, 16 cost little: 3.6 instead of 3.3 times the
bound for 8 simulated peers, the same for 16; if it is ten times wider, they win 1.46 -> 1.06."""

WAITING_MAX = 32
"""Children in the queue: eight rounds of four. With 4 MiB and 10 MB/s that is a wait of 14 s, well
below the time that a child allows for a piece; a longer queue would end in blame."""

PATIENCE_S = 5.0
"""After this long a wait the rarest-first order no longer holds somebody back."""

PASSED_ON_MAX = 8
"""Pieces on their way out that are still on their way in, beside the slots: such a sending waits
for what comes, as a rule, and would keep a slot from those that fill the link. More of them on one
uplink hold back all who wait behind this host. (16 peers, 16 pieces, simulated: 4, 8 and 16 took
1.56, 1.29 and 1.41 times the bound.)"""

PASSED_ON_CHILDREN = 2
"""Of one piece, to so many children, who pass it on to others: a tree for each piece, in which half
of the hosts send two copies and half none, and all together the same. (1, 2, 3 and 4: 1.37, 1.39,
1.41 and 1.45; with one, each piece has as many stations as there are hosts.)"""

SENT_MEMORY = 65_536
"""Pieces whose sendings are remembered, about 10 MB; the longest unasked goes first."""


class Asking(Value, frozen=True, kw_only=True):
    """One child's request for one piece. `ticket` names it in this queue.

    `child` is whatever tells children apart: a host id, or an address.
    """

    ticket: int
    child: str
    piece: Hashable
    asked_at_s: float


class TaskPiece(NamedTuple):
    """A piece of one of several tasks."""

    task_id: str
    number: int


class UploadQueue:
    """Slots and the queue. `ask` and `leave` return or name the tickets that may go."""

    def __init__(
        self,
        slots: int = SLOTS,
        *,
        waiting_max: int = WAITING_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        assert slots > 0
        self._slots = slots
        self._waiting_max = waiting_max
        self._patience_s = patience_s
        self._waiting: dict[int, Asking] = {}
        self._sending: dict[int, Asking] = {}
        self._slots_of: Counter[str] = Counter()
        self._sent: OrderedDict[Hashable, int] = OrderedDict()
        self._next_ticket = 0
        self._passed_on: Counter[Hashable] = Counter()
        self._giving = Giving()

    @property
    def sending(self) -> int:
        """Slots in use."""
        return len(self._sending)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def given(self, piece: Hashable, child: str, now_s: float) -> list[Hashable]:
        """What is given to others than `child`; nothing if it may have `piece`."""
        if not self._waiting and not self._giving.is_needed(now_s):
            return []
        queued = (one.piece for one in self._waiting.values() if one.child != child)
        pieces = [*self._giving.to_others(child, now_s), *queued]
        return pieces if piece in pieces else []

    def ask(
        self,
        piece: Hashable,
        now_s: float,
        *,
        child: str = "",
        is_patient: bool = True,
        insists: bool = False,
    ) -> int | None:
        """Join with a request of `child` for `piece`; None: refuse.

        The ticket goes at once if `goes(ticket)`, otherwise when a `leave` returns it. Who is not
        patient is refused rather than queued. `insists`: queued although the queue is full, for who
        is served in parts and had the first one.
        """
        waiting_max = self._waiting_max if is_patient else 0
        full = len(self._sending) >= self._slots and len(self._waiting) >= waiting_max
        if full and not insists:
            return None
        self._next_ticket += 1
        asking = Asking(ticket=self._next_ticket, child=child, piece=piece, asked_at_s=now_s)
        if len(self._sending) < self._slots:
            self._send(asking, now_s)
        else:
            self._waiting[asking.ticket] = asking
        return asking.ticket

    def goes(self, ticket: int) -> bool:
        """Whether the ticket has a slot."""
        return ticket in self._sending

    def leave(self, ticket: int, now_s: float, *, is_whole: bool = True) -> int | None:
        """Take the ticket's request away, served or not; returns the one that may go now.

        Not `is_whole`: the child has not got the piece.
        """
        self._waiting.pop(ticket, None)
        left = self._sending.pop(ticket, None)
        if left is None:
            return None
        self._giving.end(ticket, now_s, is_whole=is_whole)
        self._slots_of[left.child] -= 1
        if not self._slots_of[left.child]:
            del self._slots_of[left.child]
        if not self._waiting:
            return None
        following = min(self._waiting.values(), key=lambda asking: self._order(asking, now_s))
        del self._waiting[following.ticket]
        self._send(following, now_s)
        return following.ticket

    def pass_on(self, piece: Hashable) -> bool:
        """Begin to pass on a piece that is still coming; False: refuse. `passed_on` ends it."""
        passed_on = self._passed_on
        if passed_on[piece] >= PASSED_ON_CHILDREN or passed_on.total() >= PASSED_ON_MAX:
            return False
        passed_on[piece] += 1
        return True

    def passed_on(self, piece: Hashable) -> None:
        """It is not being passed on to one of its children any more."""
        self._passed_on[piece] -= 1
        if not self._passed_on[piece]:
            del self._passed_on[piece]

    def _order(self, asking: Asking, now_s: float) -> tuple[int, int, int]:
        if now_s - asking.asked_at_s >= self._patience_s:
            return -1, 0, asking.ticket
        return self._slots_of[asking.child], self._sent.get(asking.piece, 0), asking.ticket

    def _send(self, asking: Asking, now_s: float) -> None:
        self._sending[asking.ticket] = asking
        self._giving.begin(asking.ticket, asking.piece, asking.child, now_s)
        self._slots_of[asking.child] += 1
        self._sent[asking.piece] = self._sent.pop(asking.piece, 0) + 1
        if len(self._sent) > SENT_MEMORY:
            self._sent.popitem(last=False)
