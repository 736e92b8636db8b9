"""Links and transfers: who shares which uplink and downlink, and how long bytes take.

Every host has one uplink and one downlink; the core of the network is never full. Transfers share
them max-min fairly, as many long TCP connections of equal delay do about; rates change only when a
transfer begins or ends. No loss, no slow start, no header bytes: real links carry 4 to 6 % less.
Cost: each change computes all rates anew, so this is for hundreds of hosts, not for tens of
thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.world import Timer, World

UNLIMITED = 1e12
"""Bytes per second of a link that is no limit; a number, so that arithmetic stays plain."""

DONE_BYTES = 1e-3
"""Less than this is rounding: a transfer with so little left has arrived."""


@dataclass(slots=True, eq=False)
class Link:
    """A host's place in the network; rates in bytes per second, delay one way in seconds."""

    name: str
    up: float = UNLIMITED
    down: float = UNLIMITED
    delay_s: float = 0.0
    sent: float = 0.0  # bytes that left by the uplink
    used: float = 0.0  # bytes per second that leave by it now


@dataclass(slots=True, eq=False)
class Transfer:
    """Bytes on their way."""

    giver: Link
    taker: Link
    left: float
    on_done: Callable[[], None]
    rate: float = 0.0


class Network:
    """All transfers of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._transfers: dict[Transfer, None] = {}
        self._givers: dict[Link, None] = {}
        self._counted_at = 0.0
        self._next: Timer | None = None
        self._changed = False

    def send(self, giver: Link, taker: Link, n_bytes: int, on_done: Callable[[], None]) -> Transfer:
        """Send `n_bytes`; `on_done` is called when the last one has arrived."""
        transfer = Transfer(giver=giver, taker=taker, left=float(n_bytes), on_done=on_done)
        self._transfers[transfer] = None
        self._change()
        return transfer

    def stop(self, transfer: Transfer) -> None:
        """Stop it; what has passed has passed."""
        if transfer in self._transfers:
            self._advance()
            del self._transfers[transfer]
            self._change()

    def settle(self) -> None:
        """Count what has passed until now."""
        self._advance()

    def _change(self) -> None:
        """All changes of one moment are answered by one new computation."""
        if not self._changed:
            self._changed = True
            self._world.after(0.0, self._compute)

    def _advance(self) -> None:
        elapsed_s = self._world.now - self._counted_at
        self._counted_at = self._world.now
        if elapsed_s <= 0:
            return
        for transfer in self._transfers:
            passed = min(transfer.rate * elapsed_s, transfer.left)
            transfer.left -= passed
            transfer.giver.sent += passed

    def _compute(self) -> None:
        self._changed = False
        self._advance()
        rates = fair_rates(list(self._transfers))
        for link in self._givers:
            link.used = 0.0
        self._givers = dict.fromkeys(t.giver for t in rates)
        for transfer, rate in rates.items():
            transfer.rate = rate
            transfer.giver.used += rate
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._transfers:
            wait_s = min(t.left / t.rate for t in self._transfers)
            self._next = self._world.after(wait_s, self._arrive)

    def _arrive(self) -> None:
        self._next = None
        self._advance()
        # Below what the clock can tell apart, left over bytes would never pass: they have arrived.
        grain_s = 1e-9
        done = [t for t in self._transfers if t.left <= max(DONE_BYTES, t.rate * grain_s)]
        for transfer in done:
            transfer.giver.sent += transfer.left
            transfer.left = 0.0
            del self._transfers[transfer]
        self._change()
        for transfer in done:
            transfer.on_done()


def fair_rates(transfers: list[Transfer]) -> dict[Transfer, float]:
    """Max-min fair rates by progressive filling: the tightest link first."""
    room: dict[tuple[bool, Link], float] = {}
    users: dict[tuple[bool, Link], dict[Transfer, None]] = {}
    for transfer in transfers:
        for key, capacity in (
            ((True, transfer.giver), transfer.giver.up),
            ((False, transfer.taker), transfer.taker.down),
        ):
            room.setdefault(key, capacity)
            users.setdefault(key, {})[transfer] = None
    rates: dict[Transfer, float] = {}
    while users:
        tightest = min(users, key=lambda key: room[key] / len(users[key]))
        share = room[tightest] / len(users[tightest])
        for transfer in list(users[tightest]):
            rates[transfer] = share
            for key in ((True, transfer.giver), (False, transfer.taker)):
                room[key] = max(0.0, room[key] - share)
                del users[key][transfer]
                if not users[key]:
                    del users[key]
    return rates
