"""Lines that fail: partitions, machines that are gone, messages that take long. Nothing is decided.

What can not get through waits, as TCP would send it again and again, and arrives in its order once
the way is free; who waits for it gives up first or does not. What was under way to a machine that
died is lost. Bulk data stands still between places that do not reach each other in both directions,
since nothing is sent on without an acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.network import Link, Network, Transfer
from simulator.wire import SCHEDULER, Wire

if TYPE_CHECKING:
    from random import Random

    from simulator.fault.plan import Cut
    from simulator.world import World


class HarshWire(Wire):
    """Lines with faults; `changed` is called when who reaches whom has changed."""

    def __init__(self, world: World, delay_s: float, dice: Random) -> None:
        super().__init__(world, delay_s)
        self.changed: Callable[[], None] = _nothing
        self._dice = dice
        self._cuts: dict[Cut, None] = {}
        self._gone: set[str] = set()
        self._delays: list[float] = []
        self._last_at_s: dict[tuple[str, str], float] = {}  # by stream and taker
        self._waiting: list[tuple[str, str, Callable[[], None], str]] = []

    def carry(
        self, giver: str, taker: str, action: Callable[[], None], *, stream: str = ""
    ) -> None:
        """See `Wire.carry`."""
        if not self.reaches(giver, taker):
            self._waiting.append((giver, taker, action, stream))
            return
        at_s = self.world.now + self.delay_s
        if stream and SCHEDULER in (giver, taker):
            if self._delays:
                at_s += self._dice.uniform(0.0, max(self._delays))
            at_s = max(at_s, self._last_at_s.get((stream, taker), 0.0))
            self._last_at_s[stream, taker] = at_s
        self.world.at(at_s, action)

    def reaches(self, giver: str, taker: str) -> bool:
        """Whether what `giver` sends gets to `taker`."""
        if giver in self._gone or taker in self._gone:
            return False
        return not any(_parts(cut, giver, taker) for cut in self._cuts)

    def joins(self, one: str, other: str) -> bool:
        """See `Wire.joins`."""
        return self.reaches(one, other) and self.reaches(other, one)

    def is_cut(self, cut: Cut) -> bool:
        """It has begun, and is not over."""
        return cut in self._cuts

    def cut(self, cut: Cut) -> None:
        self._cuts[cut] = None
        self.changed()

    def heal(self, cut: Cut) -> None:
        """It is over: what waited goes its way."""
        self._cuts.pop(cut, None)
        self._send_waiting()

    def lose(self, name: str) -> None:
        """A machine is gone."""
        self._gone.add(name)
        self.changed()

    def find(self, name: str) -> None:
        """The machine is back; what waited for it, or came from it, belonged to its last life."""
        self._gone.discard(name)
        self._waiting = [one for one in self._waiting if name not in one[:2]]
        self._send_waiting()

    def delay(self, up_to_s: float) -> None:
        """From now on messages to and from the scheduler take so much longer."""
        self._delays.append(up_to_s)

    def hurry(self, up_to_s: float) -> None:
        """No more of that."""
        self._delays.remove(up_to_s)

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for giver, taker, action, stream in waiting:
            self.carry(giver, taker, action, stream=stream)
        self.changed()


class HarshNetwork(Network):
    """Transfers stand still while their ends do not reach each other."""

    def __init__(self, world: World, wire: Wire, *, between_idcs: float) -> None:
        super().__init__(world, between_idcs=between_idcs)
        self._wire = wire
        self._still: list[Transfer] = []

    def send(self, giver: Link, taker: Link, n_bytes: int, on_done: Callable[[], None]) -> Transfer:
        """See `Network.send`."""
        transfer = super().send(giver, taker, n_bytes, on_done)
        if not self._wire.joins(giver.name, taker.name):
            self._hold(transfer)
        return transfer

    def look_again(self) -> None:
        """Who reaches whom has changed."""
        still, self._still = self._still, []
        for transfer in still:
            if self._wire.joins(transfer.giver.name, transfer.taker.name):
                self.release(transfer)
            elif transfer.is_held:
                self._still.append(transfer)
        for transfer in self.transfers():
            if not self._wire.joins(transfer.giver.name, transfer.taker.name):
                self._hold(transfer)

    def _hold(self, transfer: Transfer) -> None:
        self.hold(transfer)
        self._still.append(transfer)


def _parts(cut: Cut, giver: str, taker: str) -> bool:
    if giver in cut.one and taker in cut.other:
        return True
    return not cut.one_way and giver in cut.other and taker in cut.one


def _nothing() -> None:
    """Nobody wants to know."""
