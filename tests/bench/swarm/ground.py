"""What a measured swarm stands on: addresses, links, and how a program gets onto a host.

Two grounds: network namespaces with shaped links (`namespaces`, root only), and here addresses of
the loopback, where each daemon keeps its rates by itself. The latter is a stand-in: its links can't
change in mid-run, and what they carried is not counted.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from bench.swarm.world import HostPlan, WorldPlan

from odonata.errors import CallerError

LOOPBACK_NET: Final = "127.77.0"
CONNECT_TIMEOUT_S: Final = 5.0


class Carried(NamedTuple):
    """Bytes that went over a host's link since it was made, headers included."""

    sent: int
    received: int


class Ground(Protocol):
    """A place with one address for each host of a world."""

    @property
    def is_shaped(self) -> bool:
        """The links have their rates; else the daemons must keep them."""
        ...

    def ip(self, host: HostPlan) -> str:
        """Its address."""
        ...

    def words(self, host: HostPlan, words: Sequence[str]) -> list[str]:
        """The command line that runs `words` (an absolute path first) on that host."""
        ...

    def connect(self, from_host: HostPlan, ip: str, port: int) -> socket.socket:
        """A connection that begins on `from_host`. Blocks for up to 5 s; OSError."""
        ...

    def set_uplink(self, host: HostPlan, rate_bytes_per_s: float) -> None:
        """Change what its uplink carries, now."""
        ...

    def cut(self, host: HostPlan) -> None:
        """Nothing that it sends arrives anywhere from now on."""
        ...

    def mend(self, host: HostPlan) -> None:
        """Its link is again as it was planned."""
        ...

    def carried(self, host: HostPlan) -> Carried | None:
        """None: this ground does not count."""
        ...

    def crossed(self) -> Carried | None:
        """What left the first site for other ones, and came from them; None: there is no other."""
        ...


class Loopback:
    """Addresses of this machine; no links at all."""

    is_shaped = False

    def ip(self, host: HostPlan) -> str:
        return f"{LOOPBACK_NET}.{host.number}"

    def words(self, host: HostPlan, words: Sequence[str]) -> list[str]:
        return list(words)

    def connect(self, from_host: HostPlan, ip: str, port: int) -> socket.socket:
        return socket.create_connection((ip, port), CONNECT_TIMEOUT_S, (self.ip(from_host), 0))

    def set_uplink(self, host: HostPlan, rate_bytes_per_s: float) -> None:
        raise AssertionError("checked when the ground was laid")

    def cut(self, host: HostPlan) -> None:
        """Its process is killed; its kernel is ours and goes on to answer."""

    def mend(self, host: HostPlan) -> None:
        """Nothing was broken."""

    def carried(self, host: HostPlan) -> Carried | None:
        return None

    def crossed(self) -> Carried | None:
        return None


@contextmanager
def loopback(world: WorldPlan) -> Generator[Loopback]:
    """The stand-in for those who are not root; CallerError for a world it can't play."""
    if any(host.degrades_at_s is not None for host in world.hosts) or world.n_sites > 1:
        raise CallerError(
            f"{world.scenario}: links that change, or that several hosts share, need network "
            "namespaces: run it as root"
        )
    yield Loopback()
