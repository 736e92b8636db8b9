"""The clients of a simulated swarm: ours, and one that follows the rules of Dragonfly's.

Both are the same production core; only the numbers it obeys differ. What our client's rules are
worth, a study finds out by running a world with either.
"""

from __future__ import annotations

from math import inf
from typing import Final

from msgspec.structs import replace

from odonata.errors import CallerError
from odonata.wire.message import Value
from peer.core.limits import DownloadLimits
from peer.core.upload import SEED_SLOTS, SLOTS
from simulator.scenario import Scenario

UNLIMITED_SLOTS: Final = 1_000_000
"""Dragonfly's server refuses nobody and makes nobody wait."""

_NEVER_S: Final = 1e9


class Client(Value, frozen=True, kw_only=True):
    """How peers behave: what they fetch, and how many they serve at once."""

    name: str
    limits: DownloadLimits
    peer_slots: int
    seed_slots: int
    is_ours: bool
    """The scheduler may send it answers that it did not ask for."""

    def on(self, scenario: Scenario) -> Scenario:
        """The same scenario with this client on every peer and seed."""
        return replace(
            scenario,
            limits=self.limits,
            peer_slots=self.peer_slots,
            seed_slots=self.seed_slots,
            is_ours=self.is_ours,
        )


OWN: Final = Client(
    name="own",
    limits=DownloadLimits(),
    peer_slots=SLOTS,
    seed_slots=SEED_SLOTS,
    is_ours=True,
)

# Dragonfly's client 1.5: eight pieces in flight, in ascending order, each from a parent drawn by
# the idle bandwidth it says it has. It never asks twice for a piece that is slow: a piece may take
# six minutes, and nothing but the end of all lists makes it ask the scheduler again.
STOCK: Final = Client(
    name="stock",
    limits=DownloadLimits(
        concurrent_piece_count=8,
        pieces_per_parent=8,
        quick_pieces_per_parent=8,
        order="ascending",
        first="piece",
        weight="told",
        seed_once=False,
        hedge=False,
        replace_slow=False,
        beside=False,
        widen=False,
        ask_early=False,
        ask_ahead=False,
        pass_on=False,
        rest=False,
        source_streams=1,
        hopeless_s=_NEVER_S,
        piece_timeout_s=360.0,
        slowest_rate_bytes_per_s=inf,
        stall_timeout_s=3600.0,
        schedule_timeout_s=3 * 3600.0,
    ),
    peer_slots=UNLIMITED_SLOTS,
    seed_slots=UNLIMITED_SLOTS,
    is_ours=False,
)

CLIENTS: Final = {client.name: client for client in (OWN, STOCK)}


def client_named(name: str) -> Client:
    """Return the client of that name; CallerError if there is none."""
    if name not in CLIENTS:
        raise CallerError(f"there is no client {name!r}: choose one of {', '.join(CLIENTS)}")
    return CLIENTS[name]
