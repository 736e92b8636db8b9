"""The hosts of one measured world and their links: a simulator's scenario, scaled to two cores.

A scenario of datasets/scenarios is a world of hundreds of hosts; what is measured has few, slower
ones and a shorter content. Rates are divided alike, and so are bytes; times (arrivals, what happens
when) shrink by the same bound. Uplinks, hidden slow hosts and who degrades are drawn as the
simulator draws them, so world 3 of `lognormal` is the same there and here. Rates are bytes per
second, times seconds, all pure.
"""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec.structs import replace

from odonata.errors import CallerError
from odonata.wire.message import Value
from simulator.bound import bound_s
from simulator.host import SimulatedHost, draw_hosts
from simulator.network import UNLIMITED
from simulator.scenario import MBIT, Degrading, Joining, Scenario, Vanishing
from simulator.world import World

ORIGIN: Final = "origin"
SCHEDULER: Final = "scheduler"
KIB: Final = 1024
AFFECTED_MIN: Final = 1
"""Hosts that degrade or vanish, if the scenario has any: 5 % of sixteen would be none."""
HOSTS_MAX: Final = 64
"""Beyond, two cores say more about themselves than about a swarm."""


class Scale(Value, frozen=True, kw_only=True):
    """What a scenario is brought down to. The rate is that of a peer's link."""

    peers: int = 16
    size: int = 32 * KIB * KIB
    piece_length: int = 128 * KIB
    """256 pieces: those of 1 GiB in pieces of 4 MiB."""
    peer_rate: float = 5 * MBIT


class Link(Value, frozen=True, kw_only=True):
    """Bytes per second on the wire; None: not shaped."""

    up: float | None
    down: float | None


class HostPlan(Value, frozen=True, kw_only=True):
    """One host. `told_up`: what it says of its uplink; `degraded_up`: what is left of it then."""

    name: str
    number: int
    """Of its address, from 1."""
    link: Link
    told_up: float | None = None
    site: int = 0
    """The data centre that it is in; scheduler, origin and seeds are in the first."""
    idc: str = ""
    """What it says of that."""
    is_seed: bool = False
    is_slow: bool = False
    arrives_at_s: float = 0.0
    vanishes_at_s: float | None = None
    degrades_at_s: float | None = None
    degraded_up: float | None = None


class WorldPlan(Value, frozen=True, kw_only=True):
    """All hosts of a world: `hosts` has the origin and the scheduler first."""

    scenario: str
    number: int
    sizes: tuple[int, ...]
    """Of the contents, in the order in which hosts fetch them..."""
    at_once: int = 1
    """...so many at once..."""
    shuffled: bool = False
    """...or each host in an order of its own."""
    piece_length: int
    delay_s: float
    """One way, between any two hosts..."""
    source_delay_s: float
    """...and between anybody and the origin."""
    loss_share: float = 0.0
    """Of the packets between hosts."""
    hosts: tuple[HostPlan, ...]
    between_sites: float | None = None
    """The rate of the link from the first site to each other one, each way; None: one site."""

    @property
    def size(self) -> int:
        """Of all contents together."""
        return sum(self.sizes)

    def order(self, host: HostPlan) -> list[int]:
        """Numbers of the contents, in the order in which that host fetches them."""
        numbers = list(range(len(self.sizes)))
        if self.shuffled:
            Random(f"{self.number}/{host.name}").shuffle(numbers)
        return numbers

    @property
    def n_sites(self) -> int:
        return 1 + max(host.site for host in self.hosts)

    @property
    def peers(self) -> tuple[HostPlan, ...]:
        return tuple(
            host for host in self.hosts if not host.is_seed and host.name not in (ORIGIN, SCHEDULER)
        )

    @property
    def seeds(self) -> tuple[HostPlan, ...]:
        return tuple(host for host in self.hosts if host.is_seed)

    def host(self, name: str) -> HostPlan:
        """The host of that name; KeyError if there is none."""
        return {host.name: host for host in self.hosts}[name]

    @property
    def piece_count(self) -> int:
        """Of the only content of this world."""
        (size,) = self.sizes
        return -(-size // self.piece_length)


def scaled(scenario: Scenario, scale: Scale) -> Scenario:
    """The same scenario with the bench's peers, bytes and rates; CallerError for nonsense."""
    if not 1 <= scale.peers <= HOSTS_MAX:
        raise CallerError(f"--peers {scale.peers}: choose a number from 1 to {HOSTS_MAX}")
    if min(scale.size, scale.piece_length) < 1 or scale.peer_rate <= 0:
        raise CallerError("size, piece length and rate must be above 0")
    rate = scale.peer_rate / scenario.peer_up
    share = scale.size / (scenario.total_size if scenario.sizes else scenario.size)
    time = share / rate
    sizes = tuple(max(1, round(size * share)) for size in scenario.sizes)
    degrading, vanishing, joining = scenario.degrading, scenario.vanishing, scenario.joining
    return replace(
        scenario,
        peers=scale.peers,
        size=max(sizes, default=scale.size),
        sizes=sizes,
        piece_length=scale.piece_length,
        files=len(sizes) or 1,
        judged_from=1,
        peer_up=scale.peer_rate,
        peer_down=scenario.peer_down * rate,
        seed_up=scenario.seed_up * rate,
        source_up=scenario.source_up * rate,
        between_idcs=min(UNLIMITED, scenario.between_idcs * rate),
        arrival_s=scenario.arrival_s * time,
        degrading=degrading
        and Degrading(
            share=_share(degrading.share, scale.peers),
            factor=degrading.factor,
            at_s=degrading.at_s * time,
        ),
        vanishing=vanishing
        and Vanishing(share=_share(vanishing.share, scale.peers), at_s=vanishing.at_s * time),
        joining=joining
        and Joining(share=_share(joining.share, scale.peers), at_s=joining.at_s * time),
    )


def _share(share: float, peers: int) -> float:
    return max(share, AFFECTED_MIN / peers)


def plan_world(name: str, scenario: Scenario, number: int) -> WorldPlan:
    """Draw world `number` of a (scaled) scenario."""
    drawn = draw_hosts(scenario, World(number, keep_log=False))
    infrastructure = [
        HostPlan(name=ORIGIN, number=1, link=Link(up=scenario.source_up, down=None)),
        HostPlan(name=SCHEDULER, number=2, link=Link(up=None, down=None)),
    ]
    members: list[HostPlan] = []
    n_peers, far_s = 0, scenario.source_delay_s
    for place, host in enumerate(drawn, start=3):
        if host.is_seed:
            members.append(_member(host, scenario, place))
            continue
        arrives_at_s = host.joins_at_s
        if arrives_at_s is None:
            arrives_at_s = scenario.arrival_s * n_peers / scenario.peers
        member = _member(host, scenario, place)
        members.append(replace(member, site=n_peers % scenario.idcs, arrives_at_s=arrives_at_s))
        n_peers += 1
    return WorldPlan(
        scenario=name,
        number=number,
        sizes=scenario.sizes or (scenario.size,),
        at_once=scenario.at_once,
        shuffled=scenario.shuffled,
        piece_length=scenario.piece_length or scenario.size,
        delay_s=scenario.delay_s,
        source_delay_s=scenario.delay_s if far_s is None else far_s,
        loss_share=scenario.loss_share,
        hosts=(*infrastructure, *members),
        between_sites=_shaped(scenario.between_idcs) if scenario.idcs > 1 else None,
    )


def _member(host: SimulatedHost, scenario: Scenario, number: int) -> HostPlan:
    degrading = scenario.degrading if host.degrades else None
    return HostPlan(
        name=host.name,
        number=number,
        link=Link(up=_shaped(host.link.up), down=_shaped(host.link.down)),
        told_up=host.told_up or None,
        idc=host.host.idc,
        is_seed=host.is_seed,
        is_slow=host.is_slow,
        vanishes_at_s=host.vanishes_at_s,
        degrades_at_s=None if degrading is None else degrading.at_s,
        degraded_up=None if degrading is None else host.link.up / degrading.factor,
    )


def _shaped(rate: float) -> float | None:
    return None if rate >= UNLIMITED else rate


class Rates(Value, frozen=True, kw_only=True):
    """What a plain transfer gets over each link: payload bytes per second, by name of the host."""

    up: dict[str, float]
    down: dict[str, float]
    between_sites: float | None = None
    """Of the thinnest link between sites."""


def world_bound_s(world: WorldPlan, rates: Rates) -> float:
    """max{F/u_o, F/u_s, F/d_min, N F/(u_s + sum u)}: no swarm on these links is faster.

    A link that is not in `rates` is not shaped. Who vanishes takes no copy, but gives.
    """
    peers = world.peers
    return bound_s(
        world.size,
        source_up=rates.up.get(ORIGIN, UNLIMITED),
        seed_ups=[rates.up.get(seed.name, UNLIMITED) for seed in world.seeds],
        peer_ups=[rates.up.get(peer.name, UNLIMITED) for peer in peers],
        peer_downs=[rates.down.get(peer.name, UNLIMITED) for peer in peers],
        takers=sum(peer.vanishes_at_s is None for peer in peers),
        between_idcs=rates.between_sites,
    )
