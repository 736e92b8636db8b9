"""What a simulated swarm looks like and what goes wrong in it: plain values, checked once."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from odonata.errors import CallerError
from odonata.piece import MIB
from odonata.wire.message import Value
from peer.core.limits import DownloadLimits
from peer.core.upload import SEED_SLOTS, SLOTS, WAITING_MAX
from simulator.bound import bound_s
from simulator.network import UNLIMITED

MBIT = 125_000.0
"""Bytes per second in a megabit per second."""


class Faults(Value, frozen=True, kw_only=True):
    """What goes wrong. Hosts go by name: `peer1`, `peer2`, ..., `seed1`, ...; times are seconds."""

    bad_digest: tuple[str, ...] = ()
    """These send wrong bytes, always."""
    forgery: tuple[str, ...] = ()
    """These do, too, and name the digest that the wrong bytes have: it is even the right CRC-32."""
    crash_at_s: dict[str, float] = {}
    """These die at a time."""
    crash_at_pieces: dict[str, int] = {}
    """These die once they hold so many pieces."""
    scheduler_lost_at_s: float | None = None
    source_dies_after_bytes: int | None = None


class Degrading(Value, frozen=True, kw_only=True):
    """Some peers' uplinks are divided by a factor at a time, for good or for a while."""

    share: float
    """Of the peers."""
    factor: float
    at_s: float
    """From the beginning of the first file."""
    lasts_s: float | None = None
    """None: for good."""


class Vanishing(Value, frozen=True, kw_only=True):
    """Some peers crash and do not come back."""

    share: float
    """Of the peers."""
    at_s: float
    """From the beginning of the first file, each drawn within half of it around it."""


class Joining(Value, frozen=True, kw_only=True):
    """Some peers come only later: those that replace others, as a rule."""

    share: float
    """Of the peers; none of those that vanish."""
    at_s: float
    """From the beginning of the first file, each drawn within half of it around it."""


class Scenario(Value, frozen=True, kw_only=True):
    """Some hosts, one source, and contents to fetch. Rates are bytes per second, times seconds.

    What is unknown to the scheduler (hidden, degrading, vanishing hosts) is drawn anew for each
    world by its seed.
    """

    question: str = ""
    """What a study of this scenario is to find out."""
    size: int = 128 * MIB
    """Of each content; with `sizes`, of the largest."""
    sizes: tuple[int, ...] = ()
    """Of all contents, one by one, where they are not alike; () else."""
    files: int = 1
    """Contents that are fetched one after the other, by all peers, each from a cold start."""
    judged_from: int = 1
    """The first file that counts, from 1: before, the scheduler gets to know the hosts."""
    pause_s: float = 10.0
    """Between the end of one file and the beginning of the next."""
    at_once: int = 1
    """Contents that a host fetches at once..."""
    shuffled: bool = False
    """...and whether each host has an order of its own. The simulator has all hosts fetch them in
    turn all the same."""
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
    uplink_sigma: float = 0.0
    """Peers' uplinks are lognormal around `peer_up` with this sigma; no downlink is thinner than
    its host's uplink (swarm study: 0.8)."""
    hidden_slow_share: float = 0.0
    """Of the peers: their uplinks are divided by `hidden_slow_factor`, which nobody is told."""
    hidden_slow_factor: float = 10.0
    degrading: Degrading | None = None
    vanishing: Vanishing | None = None
    joining: Joining | None = None
    announced: Literal["nominal", "nothing"] = "nominal"
    """What hosts say of their uplinks: what they would have if nothing was hidden, or nothing."""
    announce_interval_s: float = 300.0
    """How often hosts announce themselves (Dragonfly's default)."""
    idcs: int = 1
    """Data centres; peers are dealt to them in turn, all seeds and the source are in the first."""
    between_idcs: float = UNLIMITED
    """Rate of the one link between all data centres."""
    labelled: bool = True
    """Hosts say in which data centre they are."""
    delay_s: float = 0.001
    """One way, between any two."""
    source_delay_s: float | None = None
    """One way, to the source and back from it; None: as between any two."""
    loss_share: float = 0.0
    """Of the packets between any two. The simulator knows no packets: it loses none."""
    arrival_s: float = 0.0
    """Peers arrive evenly spread over so long; 0: all at once."""
    peer_slots: int = SLOTS
    """Pieces a peer uploads at once; whoever else asks, waits in its queue."""
    seed_slots: int = SEED_SLOTS
    """The same for a seed: more, for its uplink is wider (swarm study: 16 for ten times a peer's).
    With four, a seed of 400 Mbit/s gives 8 peers of 40 Mbit/s a median of 1.46 times the bound,
    with sixteen 1.05."""
    waiting_max: int = WAITING_MAX
    """Children in the queue in front of the slots of a peer or seed; 0: they are refused."""
    faults: Faults = Faults()
    """In the first file."""
    limits: DownloadLimits = DownloadLimits()
    is_ours: bool = True
    """The peers are ours: they take answers that they did not ask for."""
    seeds_share: bool = True
    """The seeds are ours: several fetch a content together, if the scheduler wants them to."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_rates()
        self._check_faults()
        times = (self.delay_s, self.source_delay_s or 0.0, self.arrival_s, self.pause_s)
        if min(times) < 0:
            raise CallerError(f"no time is below 0: {min(times)} s")

    def _check_counts(self) -> None:
        if self.size < 0 or self.peers < 1 or self.seeds < 0:
            raise CallerError(
                f"a swarm needs a size of at least 0 bytes, 1 peer and 0 seeds, "
                f"not {self.size}, {self.peers} and {self.seeds}"
            )
        if not 1 <= self.judged_from <= self.files:
            raise CallerError(
                f"judged_from is {self.judged_from}: it must be a file from 1 to {self.files}"
            )
        if self.idcs < 1:
            raise CallerError(f"idcs is {self.idcs}: there is at least one data centre")
        if self.at_once < 1:
            raise CallerError(f"at_once is {self.at_once}: there is at least one content at a time")
        if self.sizes and (len(self.sizes) != self.files or max(self.sizes) != self.size):
            raise CallerError(
                f"{len(self.sizes)} sizes of at most {max(self.sizes)} bytes are given for "
                f"{self.files} files of at most {self.size}: they must agree"
            )
        if self.sizes and min(self.sizes) < 0:
            raise CallerError(f"no content has a size of {min(self.sizes)} bytes")

    def _check_rates(self) -> None:
        rates = (self.peer_up, self.peer_down, self.seed_up, self.seed_down, self.source_up)
        if min(*rates, self.between_idcs) <= 0:
            raise CallerError(
                f"every rate must be above 0 bytes/s, not {min(*rates, self.between_idcs)}"
            )
        shares = {"hidden_slow_share": self.hidden_slow_share, "loss_share": self.loss_share}
        factors = {"hidden_slow_factor": self.hidden_slow_factor}
        if self.degrading is not None:
            shares["degrading.share"] = self.degrading.share
            factors["degrading.factor"] = self.degrading.factor
        if self.vanishing is not None:
            shares["vanishing.share"] = self.vanishing.share
        if self.joining is not None:
            shares["joining.share"] = self.joining.share
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise CallerError(f"{name} is {share}: it must be from 0 to below 1")
        for name, factor in factors.items():
            if factor < 1:
                raise CallerError(f"{name} is {factor}: rates are divided by it, so 1 or more")
        if self.uplink_sigma < 0:
            raise CallerError(f"uplink_sigma is {self.uplink_sigma}: it must be 0 or more")

    def _check_faults(self) -> None:
        hosts = {f"peer{i + 1}" for i in range(self.peers)}
        hosts |= {f"seed{i + 1}" for i in range(self.seeds)}
        faults = self.faults
        liars = {*faults.bad_digest, *faults.forgery}
        unknown = {*liars, *faults.crash_at_s, *faults.crash_at_pieces} - hosts
        if unknown:
            raise CallerError(
                f"no host is called {min(unknown)}: use peer1, peer2, ..., seed1, ..."
            )

    @property
    def total_size(self) -> int:
        """Of all contents together."""
        return sum(self.sizes) if self.sizes else self.files * self.size

    def of_file(self, number: int) -> Scenario:
        """The same with the size of file `number`, from 1."""
        return (
            replace(self, size=self.sizes[number - 1], sizes=(), files=1, judged_from=1)
            if (self.sizes)
            else self
        )

    def bound_s(self) -> float:
        """The time that no swarm can beat (`bound`), in seconds, on links as they are announced."""
        return bound_s(
            self.size,
            source_up=self.source_up,
            seed_ups=[self.seed_up] * self.seeds,
            peer_ups=[self.peer_up] * self.peers,
            peer_downs=[self.peer_down],
        )
