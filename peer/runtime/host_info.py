"""What this host says of itself: who, where, and how busy (AnnounceHost, SyncHost).

Read from the system and /proc; nothing is sent. A figure that can't be read is left out.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from dragonfly_api import common_pb2

import odonata
from odonata import ids
from odonata.wire.message import HostType, Value

# TEST-NET-1 (RFC 5737): connecting a UDP socket only asks the kernel for the route.
_ANYWHERE: Final = ("192.0.2.1", 9)
_BITS: Final = 8


class HostFacts(Value, frozen=True, kw_only=True):
    """Who this host is. Ports are those really bound; rates in bytes per second."""

    ip: str
    hostname: str
    is_seed: bool = False
    port: int = 0
    tcp_port: int = 0
    proxy_port: int = 0
    idc: str = ""
    location: str = ""
    cluster_id: int = 0
    disable_shared: bool = False
    max_tx_bytes_per_s: int = 0
    data_dir: str = "/"

    @property
    def id(self) -> str:
        """The host's id: the same after a restart."""
        return ids.host_id(self.ip, self.hostname, is_seed=self.is_seed)

    def peer_id(self, uuid: str) -> str:
        """Id of one download of this host."""
        return ids.peer_id(self.ip, self.hostname, uuid, is_seed=self.is_seed)


def find_ip(towards: Iterable[str]) -> str:
    """The address of this host that faces the first of `towards` (host:port) it has a route to.

    Without any: the one that faces the world, else loopback. No packet is sent.
    """
    for address in towards:
        name, _, port = address.rpartition(":")
        ip = _facing(name.strip("[]"), int(port))
        if ip is not None:
            return ip
    return _facing(*_ANYWHERE) or "127.0.0.1"


def _facing(name: str, port: int) -> str | None:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, target in sorted(found, key=lambda entry: entry[0]):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def nic_bytes_per_s() -> int | None:
    """Speed of the fastest network card that says one; None if none does (virtual ones don't)."""
    speeds: list[int] = []
    for path in Path("/sys/class/net").glob("*/speed"):
        try:
            speeds.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # down, or without a speed
    megabits = max(speeds, default=-1)
    return megabits * 1_000_000 // _BITS if megabits > 0 else None


class HostReporter:
    """Builds the Host message of the moment. `tx_bytes_per_s` says what is being uploaded now."""

    def __init__(self, facts: HostFacts, tx_bytes_per_s: Callable[[], float]) -> None:
        self.facts = facts
        self._tx_bytes_per_s = tx_bytes_per_s
        self._cpu_before = _cpu_times()

    def network(self) -> common_pb2.Network:
        """Place and uplink, in bits per second."""
        facts = self.facts
        return common_pb2.Network(
            idc=facts.idc or None,
            location=facts.location or None,
            max_tx_bandwidth=facts.max_tx_bytes_per_s * _BITS,
            tx_bandwidth=int(self._tx_bytes_per_s() * _BITS),
        )

    def brief(self) -> common_pb2.Host:
        """Who and how busy the uplink is: SyncHost."""
        facts = self.facts
        return common_pb2.Host(
            id=facts.id,
            type=int(HostType.SUPER if facts.is_seed else HostType.NORMAL),
            hostname=facts.hostname,
            ip=facts.ip,
            port=facts.port,
            download_port=facts.port,
            network=self.network(),
            scheduler_cluster_id=facts.cluster_id,
            disable_shared=facts.disable_shared,
        )

    def full(self) -> common_pb2.Host:
        """Everything a scheduler may want to know: AnnounceHost."""
        host = self.brief()
        system = platform.uname()
        host.os = system.system.lower()
        host.platform = host.os
        host.platform_family = "unix"
        host.kernel_version = system.release
        host.name = self.facts.hostname
        host.proxy_port = self.facts.proxy_port
        host.build.git_version = odonata.__version__
        self._add_cpu(host)
        _add_memory(host)
        _add_disk(host, self.facts.data_dir)
        return host

    def _add_cpu(self, host: common_pb2.Host) -> None:
        count = os.cpu_count() or 1
        host.cpu.logical_count = count
        host.cpu.physical_count = count
        before, self._cpu_before = self._cpu_before, _cpu_times()
        if before is None or self._cpu_before is None:
            return
        busy, total = (now - then for now, then in zip(self._cpu_before, before, strict=True))
        if total > 0:
            host.cpu.percent = 100.0 * busy / total


def _cpu_times() -> tuple[float, float] | None:
    """(busy, total) ticks of all CPUs since boot."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    ticks = [float(word) for word in first.split()[1:9]]
    if len(ticks) < 5:
        return None
    total = sum(ticks)
    return total - ticks[3] - ticks[4], total


def _add_memory(host: common_pb2.Host) -> None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    total, available = kib.get("MemTotal", 0) * 1024, kib.get("MemAvailable", 0) * 1024
    if total <= 0:
        return
    host.memory.total = total
    host.memory.available = available
    host.memory.free = kib.get("MemFree", 0) * 1024
    host.memory.used = total - available
    host.memory.used_percent = 100.0 * (total - available) / total


def _add_disk(host: common_pb2.Host, folder: str) -> None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return
    host.disk.total = usage.total
    host.disk.free = usage.free
    host.disk.used = usage.used
    host.disk.used_percent = 100.0 * usage.used / max(1, usage.total)
