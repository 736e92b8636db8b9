"""What a plain transfer gets over each shaped link: the rates that the bound is computed of.

Between every host and the router a TCP connection carries bytes for a while, first all uplinks at
once, then all downlinks. The bytes that the kernel counted on the link beside the payload are what
headers and acknowledgements cost there.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Final

from bench.swarm.namespaces import Namespaces, burst_bytes
from bench.swarm.world import Rates, WorldPlan
from msgspec.structs import replace

from odonata.errors import UnavailableError
from odonata.wire.message import Value

DURATION_S: Final = 6.0
SKIPPED_S: Final = 2.0
"""Of that at the beginning: the burst that passes free, and the connection's own start, which loses
packets: what came behind a lost one counts when that is there, so a second after it is too soon."""
CHUNK: Final = bytes(64 * 1024)
TOLERANCE: Final = 0.10
"""Around 95 % of the rate that was set: headers take 4 to 6 %."""
EXPECTED_SHARE: Final = 0.95


class Overhead(Value, frozen=True, kw_only=True):
    """Bytes counted on a link for each byte of payload, with it and against it."""

    along: float
    against: float


class Calibration(Value, frozen=True, kw_only=True):
    """`wrong`: links that do not carry what they were set to, in words."""

    rates: Rates
    overhead: Overhead
    wrong: tuple[str, ...] = ()


def calibrate(world: WorldPlan, ground: Namespaces) -> Calibration:
    """Measure every shaped link of the world. Takes 12 s, with several sites 18 s."""
    hosts = world.hosts
    before = {host.name: ground.carried(host) for host in hosts}
    shaped_up = [host for host in hosts if host.link.up is not None]
    up, sent = _measure([(host.name, ground.pair_up(host)) for host in shaped_up])
    after = {host.name: ground.carried(host) for host in hosts}
    shaped_down = [host for host in hosts if host.link.down is not None]
    down, _ = _measure([(host.name, ground.pair_down(host)) for host in shaped_down])
    sites = range(1, world.n_sites) if world.between_sites is not None else ()
    between, _ = _measure([(f"site {site}", ground.pair_between(site)) for site in sites])
    along = against = 0
    for host in shaped_up:
        begun, ended = before[host.name], after[host.name]
        assert begun is not None, "namespaces count"
        assert ended is not None, "namespaces count"
        along += ended.sent - begun.sent
        against += ended.received - begun.received
    rates = Rates(up=up, down=down, between_sites=min(between.values(), default=None))
    return Calibration(
        rates=steadied(world, rates),
        overhead=Overhead(along=along / max(1, sent), against=against / max(1, sent)),
        wrong=tuple(wrong_links(world, rates)),
    )


def steadied(world: WorldPlan, rates: Rates) -> Rates:
    """Each host's link at the share of its set rate that a link carries in the median.

    Bytes come in bursts, so one link of many seems a tenth slower than it is; the bound, which goes
    by the slowest, would be a tenth too long, and every stretch too good.
    """
    links = [(host.link.up, rates.up.get(host.name)) for host in world.hosts]
    links += [(host.link.down, rates.down.get(host.name)) for host in world.hosts]
    shares = [got / wanted for wanted, got in links if wanted and got]
    if not shares:
        return rates
    share = statistics.median(shares)
    return replace(
        rates,
        up={h.name: h.link.up * share for h in world.hosts if h.link.up and h.name in rates.up},
        down={
            h.name: h.link.down * share for h in world.hosts if h.link.down and h.name in rates.down
        },
    )


def wrong_links(world: WorldPlan, rates: Rates) -> list[str]:
    """Links whose rate is not within the tolerance of what was set."""
    found: list[str] = []
    for host in world.hosts:
        for way, wanted, got in (
            ("up", host.link.up, rates.up.get(host.name)),
            ("down", host.link.down, rates.down.get(host.name)),
        ):
            if wanted is None or got is None:
                continue
            # Where bytes come in bursts, one more or less in the time is no fault of the link.
            grain = burst_bytes(wanted) / (wanted * (DURATION_S - SKIPPED_S))
            if abs(got / wanted - EXPECTED_SHARE) > TOLERANCE + grain:
                found.append(f"{host.name} {way}: {got / wanted:.0%} of the rate that was set")
    return found


Ends = tuple[socket.socket, socket.socket]
"""The sender's and the receiver's of a connection."""


def _measure(links: Sequence[tuple[str, Ends]]) -> tuple[dict[str, float], int]:
    """Rates by name in bytes per second, and all bytes that arrived."""
    transfers = [_Transfer(name, *ends) for name, ends in links]
    for transfer in transfers:
        transfer.start()
    for transfer in transfers:
        transfer.join()
    return {one.name: one.rate for one in transfers}, sum(one.received for one in transfers)


class _Transfer:
    def __init__(self, name: str, sender: socket.socket, receiver: socket.socket) -> None:
        self.name = name
        self.rate = 0.0
        self.received = 0
        self._sender = sender
        self._receiver = receiver
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self.rate <= 0:
            raise UnavailableError(f"the link of {self.name} carried nothing in {DURATION_S} s")

    def _send(self) -> None:
        end_s = time.monotonic() + DURATION_S
        with self._sender as sender:
            sender.settimeout(DURATION_S)
            try:
                while time.monotonic() < end_s:
                    sender.sendall(CHUNK)
            except OSError:
                return  # the receiver tells what came

    def _take(self) -> None:
        begun_s = time.monotonic()
        first_s, skipped, last_s = begun_s, 0, begun_s
        with self._receiver as receiver:
            receiver.settimeout(2 * DURATION_S)
            try:
                while data := receiver.recv(len(CHUNK)):
                    last_s = time.monotonic()
                    self.received += len(data)
                    if last_s - begun_s < SKIPPED_S:
                        first_s, skipped = last_s, self.received
            except OSError:
                return
        if last_s > first_s:
            self.rate = (self.received - skipped) / (last_s - first_s)
