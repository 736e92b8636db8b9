"""Hosts as network namespaces around a router, each with an uplink and a downlink of its own rate.

    host e0 --(tbf: up)--> router pN --(tbf: down)--> host
    router of the first site --(tbf)--> router of another site, and back

Everything is called `obs-...`, so that what a killed run left behind is known and removed by the
next one; a lock keeps two runs on one machine from removing each other's. Needs root, `ip`, `tc`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from bench.swarm import congestion, distance
from bench.swarm.ground import CONNECT_TIMEOUT_S, Carried
from bench.swarm.world import ORIGIN, HostPlan, WorldPlan

from odonata.errors import UnavailableError

PREFIX: Final = "obs-"
ROUTER: Final = f"{PREFIX}router"
"""With the number of its site behind it, from 0."""
NET: Final = "10.78"
WAN: Final = "10.79"
BURST_BYTES: Final = 64 * 1024
"""What passes at once: the largest packet that the kernel hands on in one go..."""
BURST_S: Final = 0.05
"""...but no more than a slow link carries in this time..."""
BURST_BYTES_MIN: Final = 16 * 1024
"""...and ten packets at least."""
QUEUE_S: Final = 0.1
"""What waits in front of a link at most, as time: 512 KiB at 40 Mbit/s."""
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h

T = TypeVar("T")


def why_not() -> str:
    """Why there can be no namespaces here; "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"network namespaces need {' and '.join(missing)} (Debian: iproute2)"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "network namespaces are not allowed here"


def run(program: str, *words: str) -> str:
    """Run a command of iproute2 and return what it says; UnavailableError if it fails."""
    path = shutil.which(program)
    assert path is not None, f"{program} was looked for before"
    done = subprocess.run([path, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"{program} {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def shaper(rate_bytes_per_s: float) -> list[str]:
    """The words of tc for a link of that rate."""
    burst = burst_bytes(rate_bytes_per_s)
    queue = max(2 * burst, int(rate_bytes_per_s * QUEUE_S) + burst)
    rate = f"{int(rate_bytes_per_s * 8)}bit"
    return ["root", "tbf", "rate", rate, "burst", str(burst), "limit", str(queue)]


def burst_bytes(rate_bytes_per_s: float) -> int:
    """What passes a link of that rate at once."""
    return max(BURST_BYTES_MIN, min(BURST_BYTES, int(rate_bytes_per_s * BURST_S)))


class Namespaces:
    """The hosts of one world, while `namespaces` holds them."""

    is_shaped = True

    def __init__(self, world: WorldPlan) -> None:
        self._sites = range(1, world.n_sites)

    def ip(self, host: HostPlan) -> str:
        return f"{NET}.{host.number}.2"

    def words(self, host: HostPlan, words: Sequence[str]) -> list[str]:
        program = shutil.which("ip")
        assert program is not None, "looked for before"
        return [program, "netns", "exec", _name(host), *words]

    def connect(self, from_host: HostPlan, ip: str, port: int) -> socket.socket:
        return in_namespace(
            _name(from_host), lambda: socket.create_connection((ip, port), CONNECT_TIMEOUT_S)
        )

    def pair_up(self, host: HostPlan) -> tuple[socket.socket, socket.socket]:
        """A connection from a host to its router: both ends."""
        return _connected(_name(host), _router(host.site), f"{NET}.{host.number}.1")

    def pair_down(self, host: HostPlan) -> tuple[socket.socket, socket.socket]:
        """A connection from its router to a host: both ends."""
        return _connected(_router(host.site), _name(host), self.ip(host))

    def pair_between(self, site: int) -> tuple[socket.socket, socket.socket]:
        """A connection from the first router to that of another site: both ends."""
        return _connected(_router(0), _router(site), f"{WAN}.{site}.2")

    def set_uplink(self, host: HostPlan, rate_bytes_per_s: float) -> None:
        run("tc", "-n", _name(host), "qdisc", "change", "dev", "e0", *shaper(rate_bytes_per_s))

    def cut(self, host: HostPlan) -> None:
        # At the router: the host's own routes stay as they are.
        run("ip", "-n", _router(host.site), "link", "set", f"p{host.number}", "down")

    def mend(self, host: HostPlan) -> None:
        run("ip", "-n", _router(host.site), "link", "set", f"p{host.number}", "up")
        if host.link.up is not None:
            self.set_uplink(host, host.link.up)

    def carried(self, host: HostPlan) -> Carried | None:
        return _counts(_name(host), "e0")

    def crossed(self) -> Carried | None:
        if not self._sites:
            return None
        ways = [_counts(_router(0), f"w{site}") for site in self._sites]
        return Carried(sum(way.sent for way in ways), sum(way.received for way in ways))


@contextmanager
def namespaces(world: WorldPlan) -> Generator[Namespaces]:
    """The hosts of `world` with their links; whatever happens, they are removed again."""
    distance.check(world)
    remove_all()
    try:
        with congestion.allowed():
            _make_all(world)
        ground = Namespaces(world)
        if world.loss_share:
            _send_single_packets(world)
        with distance.kept(world, _router(0), ground.ip(world.host(ORIGIN)), run):
            yield ground
    finally:
        remove_all()


def _make_all(world: WorldPlan) -> None:
    for site in range(world.n_sites):
        _make_router(site)
    for host in world.hosts:
        _make_host(host)
    if world.n_sites > 1:
        _join_sites(world)


def remove_all() -> list[str]:
    """Kill what runs in namespaces of ours, and remove them. Returns their names."""
    names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    ours = [name for name in names if name.startswith(PREFIX)]
    for name in ours:
        _kill_all_in(name)
        with suppress(UnavailableError):  # somebody else was faster
            run("ip", "netns", "del", name)
    return ours


def _kill_all_in(name: str) -> None:
    for pid in map(int, run("ip", "netns", "pids", name).split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _make_router(site: int) -> None:
    name = _router(site)
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    _set_ipv4(name, "ip_forward", "1")
    _set_ipv4(name, "tcp_congestion_control", congestion.CONTROL)


def _join_sites(world: WorldPlan) -> None:
    """A link from the first router to each other one, and the routes over it."""
    centre = _router(0)
    for site in range(1, world.n_sites):
        far, port = _router(site), f"w{site}"
        pair = ["wan", "netns", far, "type", "veth", "peer", "name", port, "netns", centre]
        run("ip", "link", "add", *pair)
        ends = ((centre, port, f"{WAN}.{site}.1"), (far, "wan", f"{WAN}.{site}.2"))
        for name, link, ip in ends:
            run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")
            if world.between_sites is not None:
                run("tc", "-n", name, "qdisc", "add", "dev", link, *shaper(world.between_sites))
        run("ip", "-n", far, "route", "add", "default", "via", f"{WAN}.{site}.1")
        for host in world.hosts:
            if host.site == site:
                net = f"{NET}.{host.number}.0/24"
                run("ip", "-n", centre, "route", "add", net, "via", f"{WAN}.{site}.2")


def _make_host(host: HostPlan) -> None:
    name, port, router = _name(host), f"p{host.number}", _router(host.site)
    run("ip", "netns", "add", name)
    _set_ipv4(name, "tcp_congestion_control", congestion.CONTROL)
    pair = ["e0", "netns", name, "type", "veth", "peer", "name", port, "netns", router]
    run("ip", "link", "add", *pair)
    run("ip", "-n", name, "addr", "add", f"{NET}.{host.number}.2/24", "dev", "e0")
    run("ip", "-n", router, "addr", "add", f"{NET}.{host.number}.1/24", "dev", port)
    for where, link in ((name, "lo"), (name, "e0"), (router, port)):
        run("ip", "-n", where, "link", "set", link, "up")
    run("ip", "-n", name, "route", "add", "default", "via", f"{NET}.{host.number}.1")
    if host.link.up is not None:
        run("tc", "-n", name, "qdisc", "add", "dev", "e0", *shaper(host.link.up))
    if host.link.down is not None:
        run("tc", "-n", router, "qdisc", "add", "dev", port, *shaper(host.link.down))


def _set_ipv4(namespace: str, setting: str, value: str) -> None:
    in_namespace(namespace, lambda: Path("/proc/sys/net/ipv4", setting).write_text(value))


def _send_single_packets(world: WorldPlan) -> None:
    """Not forty at a time, as links without hardware behind them do: one is lost, or another."""
    for host in world.hosts:
        ends = ((_name(host), "e0"), (_router(host.site), f"p{host.number}"))
        for name, link in ends:
            run("ip", "-n", name, "link", "set", "dev", link, "gso_max_segs", "1")


def in_namespace(name: str, action: Callable[[], T]) -> T:
    """Do something in a namespace; a socket that is made there stays there. Raises what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), name)
            finally:
                os.close(descriptor)
            results.append(action())
        except BaseException as error:  # noqa: BLE001  # told to who waits
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"in-{name}")  # it ends, and its namespace with it
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _connected(sender: str, taker: str, ip: str) -> tuple[socket.socket, socket.socket]:
    with in_namespace(taker, lambda: socket.create_server((ip, 0))) as listener:
        port = listener.getsockname()[1]
        sending = in_namespace(
            sender, lambda: socket.create_connection((ip, port), CONNECT_TIMEOUT_S)
        )
        return sending, listener.accept()[0]


def _counts(name: str, link: str) -> Carried:
    told: list[dict[str, Any]] = json.loads(
        run("ip", "-n", name, "-s", "-j", "link", "show", "dev", link)
    )
    counts = told[0]["stats64"]
    return Carried(sent=int(counts["tx"]["bytes"]), received=int(counts["rx"]["bytes"]))


def _name(host: HostPlan) -> str:
    return f"{PREFIX}{host.name}"


def _router(site: int) -> str:
    return f"{ROUTER}{site}"
