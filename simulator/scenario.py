"""What a simulated swarm looks like and what goes wrong in it: plain values, checked once."""

from __future__ import annotations

from odonata.errors import CallerError
from odonata.piece import MIB
from odonata.wire.message import Value
from peer.core.limits import DownloadLimits
from peer.core.upload import SEED_SLOTS, SLOTS
from simulator.network import UNLIMITED

MBIT = 125_000.0
"""Bytes per second in a megabit per second."""


class Faults(Value, frozen=True, kw_only=True):
    """What goes wrong. Hosts go by name: `peer1`, `peer2`, ..., `seed1`, ...; times are seconds."""

    bad_digest: tuple[str, ...] = ()
    """These send wrong bytes, always."""
    crash_at_s: dict[str, float] = {}
    """These die at a time."""
    crash_at_pieces: dict[str, int] = {}
    """These die once they hold so many pieces."""
    scheduler_lost_at_s: float | None = None
    source_dies_after_bytes: int | None = None


class Scenario(Value, frozen=True, kw_only=True):
    """One content, some hosts, one source. Rates are bytes per second, times seconds."""

    size: int = 128 * MIB
    piece_length: int | None = None
    """None: by the rule."""
    peers: int = 8
    seeds: int = 1
    peer_up: float = 40 * MBIT
    peer_down: float = 40 * MBIT
    seed_up: float = 400 * MBIT
    seed_down: float = UNLIMITED
    source_up: float = 200 * MBIT
    source_ranges: bool = True
    source_says_length: bool = True
    delay_s: float = 0.001
    """One way, between any two."""
    arrival_s: float = 0.0
    """Peers arrive evenly spread over so long; 0: all at once."""
    peer_slots: int = SLOTS
    """Pieces a peer uploads at once; whoever else asks, waits in its queue."""
    seed_slots: int = SEED_SLOTS
    """The same for a seed: more, for its uplink is wider (swarm study: 16 for ten times a peer's).
    With four, a seed of 400 Mbit/s gives 8 peers of 40 Mbit/s a median of 1.46 times the bound,
    with sixteen 1.05."""
    faults: Faults = Faults()
    limits: DownloadLimits = DownloadLimits()

    def __post_init__(self) -> None:
        if self.size < 0 or self.peers < 1 or self.seeds < 0:
            raise CallerError(
                f"a swarm needs a size of at least 0 bytes, 1 peer and 0 seeds, "
                f"not {self.size}, {self.peers} and {self.seeds}"
            )
        rates = (self.peer_up, self.peer_down, self.seed_up, self.seed_down, self.source_up)
        if min(rates) <= 0:
            raise CallerError(f"every rate must be above 0 bytes/s, not {min(rates)}")
        hosts = {f"peer{i + 1}" for i in range(self.peers)}
        hosts |= {f"seed{i + 1}" for i in range(self.seeds)}
        faults = self.faults
        unknown = {*faults.bad_digest, *faults.crash_at_s, *faults.crash_at_pieces} - hosts
        if unknown:
            raise CallerError(
                f"no host is called {min(unknown)}: use peer1, peer2, ..., seed1, ..."
            )
        if self.delay_s < 0 or self.arrival_s < 0:
            raise CallerError(f"no time is below 0: {min(self.delay_s, self.arrival_s)} s")

    def bound_s(self) -> float:
        """The time that no swarm can beat, in seconds (swarm study's T*).

        The content must leave the seed, the source, enter the slowest downlink, and N copies of it
        must leave the uplinks of all.
        """
        total_up = self.seeds * self.seed_up + self.peers * self.peer_up
        one_copy = (self.size / self.source_up, self.size / self.peer_down)
        if self.seeds == 0:
            return max(*one_copy, self.peers * self.size / (self.source_up + total_up))
        of_seed = self.size / (self.seeds * self.seed_up)
        return max(*one_copy, of_seed, self.peers * self.size / total_up)
