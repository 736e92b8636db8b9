"""Hosts as network namespaces around a router, each with an uplink and a downlink of its own rate.

    host e0 --(tbf: up)--> router pN --(tbf: down)--> host

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

from bench.swarm.ground import CONNECT_TIMEOUT_S, Carried
from bench.swarm.world import HostPlan, WorldPlan

from odonata.errors import UnavailableError

PREFIX: Final = "obs-"
ROUTER: Final = f"{PREFIX}router"
NET: Final = "10.78"
BURST_BYTES: Final = 64 * 1024
"""What passes at once: the largest packet that the kernel hands on in one go."""
QUEUE_S: Final = 0.1
"""What waits in front of a link at most, as time: 512 KiB at 40 Mbit/s."""
QUEUE_BYTES_MIN: Final = 2 * BURST_BYTES
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
    queue = max(QUEUE_BYTES_MIN, int(rate_bytes_per_s * QUEUE_S) + BURST_BYTES)
    rate = f"{int(rate_bytes_per_s * 8)}bit"
    return ["root", "tbf", "rate", rate, "burst", str(BURST_BYTES), "limit", str(queue)]


class Namespaces:
    """The hosts of one world, while `namespaces` holds them."""

    is_shaped = True

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

    def listen(self, host: HostPlan | None) -> socket.socket:
        """A listener on a host (None: on the router), on all its addresses, any port."""
        name = ROUTER if host is None else _name(host)
        return in_namespace(name, lambda: socket.create_server(("0.0.0.0", 0)))

    def gateway(self, host: HostPlan) -> str:
        """The router's address on the host's link."""
        return f"{NET}.{host.number}.1"

    def connect_router(self, ip: str, port: int) -> socket.socket:
        """A connection that begins on the router."""
        return in_namespace(ROUTER, lambda: socket.create_connection((ip, port), CONNECT_TIMEOUT_S))

    def set_uplink(self, host: HostPlan, rate_bytes_per_s: float) -> None:
        run("tc", "-n", _name(host), "qdisc", "change", "dev", "e0", *shaper(rate_bytes_per_s))

    def cut(self, host: HostPlan) -> None:
        run("ip", "-n", _name(host), "link", "set", "e0", "down")

    def carried(self, host: HostPlan) -> Carried | None:
        told: list[dict[str, Any]] = json.loads(
            run("ip", "-n", _name(host), "-s", "-j", "link", "show", "dev", "e0")
        )
        counts = told[0]["stats64"]
        return Carried(sent=int(counts["tx"]["bytes"]), received=int(counts["rx"]["bytes"]))


@contextmanager
def namespaces(world: WorldPlan) -> Generator[Namespaces]:
    """The hosts of `world` with their links; whatever happens, they are removed again."""
    remove_all()
    try:
        _make_router()
        for host in world.hosts:
            _make_host(host)
        yield Namespaces()
    finally:
        remove_all()


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


def _make_router() -> None:
    run("ip", "netns", "add", ROUTER)
    run("ip", "-n", ROUTER, "link", "set", "lo", "up")
    in_namespace(ROUTER, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))


def _make_host(host: HostPlan) -> None:
    name, port = _name(host), f"p{host.number}"
    run("ip", "netns", "add", name)
    pair = ["e0", "netns", name, "type", "veth", "peer", "name", port, "netns", ROUTER]
    run("ip", "link", "add", *pair)
    run("ip", "-n", name, "addr", "add", f"{NET}.{host.number}.2/24", "dev", "e0")
    run("ip", "-n", ROUTER, "addr", "add", f"{NET}.{host.number}.1/24", "dev", port)
    for where, link in ((name, "lo"), (name, "e0"), (ROUTER, port)):
        run("ip", "-n", where, "link", "set", link, "up")
    run("ip", "-n", name, "route", "add", "default", "via", f"{NET}.{host.number}.1")
    if host.link.up is not None:
        run("tc", "-n", name, "qdisc", "add", "dev", "e0", *shaper(host.link.up))
    if host.link.down is not None:
        run("tc", "-n", ROUTER, "qdisc", "add", "dev", port, *shaper(host.link.down))


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


def _name(host: HostPlan) -> str:
    return f"{PREFIX}{host.name}"
