"""A machine of its own for a test: a network namespace that can vanish without a word.

A pair of interfaces joins it to this host. When it vanishes it goes on to run, and whatever it
sends is lost: no FIN, no RST, no answer to anything, as when a power cord is pulled. Needs root and
`ip`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count

import pytest

_NET = 231
"""10.231.x.y: an address that no test host is likely to use."""


_numbers = count()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Namespace:
    """Made by `namespace`. `ip` is its own address, `host_ip` that of this host on the way to
    it."""

    def __init__(self, number: int) -> None:
        place = (os.getpid() * 16 + number) % (1 << 14)  # test processes keep apart
        net = f"10.{_NET}.{place >> 6}.{(place & 63) << 2}".rpartition(".")
        self.name = f"odonata-{os.getpid()}-{number}"
        self.host_ip = f"{net[0]}.{int(net[2]) + 1}"
        self.ip = f"{net[0]}.{int(net[2]) + 2}"
        self._link = f"od{os.getpid() % 100_000}v{number}"

    @property
    def enter(self) -> list[str]:
        """The start of a command line that runs in there."""
        return ["ip", "netns", "exec", self.name]

    def make(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "e0", "netns", self.name)
        _ip("addr", "add", f"{self.host_ip}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "addr", "add", f"{self.ip}/30", "dev", "e0")
        _ip("-n", self.name, "link", "set", "e0", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "route", "add", "default", "via", self.host_ip)

    def vanish(self) -> None:
        """Nothing that it sends arrives anywhere from now on."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{self.host_ip}/32")

    def return_(self) -> None:
        """It is there again."""
        _ip("-n", self.name, "route", "del", "blackhole", f"{self.host_ip}/32")

    def remove(self) -> None:
        _ip("link", "del", self._link)  # the rest of a namespace may take a while to go
        _ip("netns", "del", self.name)


def _why_not() -> str:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "a machine that vanishes needs root and iproute2"
    probe = subprocess.run(["unshare", "--net", "true"], check=False)
    return "" if probe.returncode == 0 else "network namespaces are not allowed here"


@contextmanager
def namespace() -> Generator[Namespace]:
    """One of its own; skips the test where there can be none."""
    why_not = _why_not()
    if why_not:
        pytest.skip(why_not)
    one = Namespace(next(_numbers))
    one.make()
    try:
        yield one
    finally:
        one.remove()
