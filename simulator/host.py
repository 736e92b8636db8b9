"""The hosts of a world: their links, and the qualities that nobody tells the scheduler.

Everything is drawn once, from the world's own dice by name, before anything happens; hosts keep it
through all files of a campaign.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from math import exp
from typing import TYPE_CHECKING

from odonata.ids import host_id
from odonata.wire.message import Host, HostType
from peer.core.budget import Budget
from simulator.clock import Clock
from simulator.network import Link

if TYPE_CHECKING:
    from peer.core.limits import DownloadLimits
    from simulator.node import Lie
    from simulator.scenario import Faults, Scenario
    from simulator.world import World

_FIRST_ADDRESS = IPv4Address("10.0.0.0")
"""Hosts are numbered from here on; nothing is ever sent there."""
_PEERS_FROM = 1 << 16
BITS = 8


@dataclass(slots=True, eq=False, kw_only=True)
class SimulatedHost:
    """A host: `host` is what it says of itself, `link` what is true. Rates in bytes per second."""

    name: str
    host: Host
    link: Link
    slots: int
    told_up: float
    """What it says its uplink is; 0: it does not say."""
    clock: Clock
    limits: DownloadLimits
    """Of its downloads."""
    budget: Budget = field(default_factory=Budget)
    """What it has learned of beginnings, through all files."""
    is_ours: bool = True
    lie: Lie | None = None
    is_slow: bool = False
    """Hidden: nobody is told."""
    vanishes_at_s: float | None = None
    joins_at_s: float | None = None
    degrades: bool = False
    alive: bool = True

    @property
    def is_seed(self) -> bool:
        return self.host.is_seed


def draw_hosts(scenario: Scenario, world: World) -> list[SimulatedHost]:
    """All hosts of a world, seeds first."""
    seeds = [
        _host(scenario, world, f"seed{number}", number, nominal=scenario.seed_up)
        for number in range(1, scenario.seeds + 1)
    ]
    uplinks = world.rng("uplinks")
    peers = [
        _host(
            scenario,
            world,
            f"peer{number}",
            _PEERS_FROM + number,
            nominal=scenario.peer_up * exp(scenario.uplink_sigma * uplinks.gauss(0.0, 1.0)),
            idc=(number - 1) % scenario.idcs,
        )
        for number in range(1, scenario.peers + 1)
    ]
    _draw_qualities(scenario, world, peers)
    return seeds + peers


def _draw_qualities(scenario: Scenario, world: World, peers: list[SimulatedHost]) -> None:
    for host in _some(world, "hidden", peers, scenario.hidden_slow_share):
        host.is_slow = True
        host.link.up /= scenario.hidden_slow_factor
        host.link.uplink.capacity = host.link.up
    if scenario.degrading is not None:
        for host in _some(world, "degrading", peers, scenario.degrading.share):
            host.degrades = True
    if scenario.vanishing is not None:
        moments = world.rng("vanishing/at")
        for host in _some(world, "vanishing", peers, scenario.vanishing.share):
            host.vanishes_at_s = scenario.vanishing.at_s * moments.uniform(0.5, 1.5)
    if scenario.joining is not None:
        moments = world.rng("joining/at")
        staying = [host for host in peers if host.vanishes_at_s is None]
        count = round(scenario.joining.share * len(peers))
        for host in world.rng("joining").sample(staying, min(count, len(staying))):
            host.joins_at_s = scenario.joining.at_s * moments.uniform(0.5, 1.5)


def _some(world: World, name: str, peers: list[SimulatedHost], share: float) -> list[SimulatedHost]:
    return world.rng(name).sample(peers, round(share * len(peers)))


def _host(
    scenario: Scenario, world: World, name: str, number: int, *, nominal: float, idc: int = 0
) -> SimulatedHost:
    is_seed = name.startswith("seed")
    ip = str(_FIRST_ADDRESS + number)
    told_up = nominal if scenario.announced == "nominal" else 0.0
    label = f"idc{idc + 1}" if scenario.idcs > 1 else ""
    down = scenario.seed_down if is_seed else max(scenario.peer_down, nominal)
    return SimulatedHost(
        name=name,
        host=Host(
            # Another world, other hosts, though they are called the same: data sets of many worlds
            # must not take them for one.
            id=host_id(ip, f"{name}-world{world.seed}", is_seed=is_seed),
            type=HostType.SUPER if is_seed else HostType.NORMAL,
            hostname=name,
            ip=ip,
            port=4000,
            idc=label if scenario.labelled else "",
            max_tx_bandwidth_bits_per_s=int(told_up * BITS),
        ),
        link=Link(name, up=nominal, down=down, delay_s=scenario.delay_s, idc=label),
        slots=scenario.seed_slots if is_seed else scenario.peer_slots,
        told_up=told_up,
        clock=Clock(world),
        limits=scenario.limits,
        is_ours=scenario.is_ours,
        lie=_lie(scenario.faults, name),
    )


def _lie(faults: Faults, name: str) -> Lie | None:
    if name in faults.forgery:
        return "forgery"
    return "digest" if name in faults.bad_digest else None
