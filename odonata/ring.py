"""Two hash rings: which scheduler a task belongs to, and which seed peer.

`SchedulerRing` is what every client of the swarm computes by itself, so that all peers of a task
meet at one scheduler: one point per scheduler, SipHash-2-4 with a zero key (Dragonfly's client,
Rust crate hashring 0.3.6). `SeedRing` is what a scheduler uses to pick the seed for a task: 20
points per seed, CRC-32 (stathat's consistent hash, as Dragonfly's scheduler uses it). Both are
immutable: a changed membership is a new ring. Nobody here knows who is alive.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from typing import Final

from odonata.errors import CallerError
from odonata.wire.message import Value

# A client hashes this much of a task id; Dragonfly's choice.
TASK_KEY_LENGTH: Final = 5
# Points of each seed on its ring; stathat's default.
SEED_REPLICAS: Final = 20

_MASK: Final = 0xFFFFFFFFFFFFFFFF


class Address(Value, frozen=True, kw_only=True):
    """Where a scheduler listens. `ip` is an IP literal: a name would hash otherwise."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class SchedulerRing:
    """A task's owner is the first scheduler at or after the hash of its id, else the lowest."""

    def __init__(self, schedulers: Iterable[Address]) -> None:
        """CallerError if an address is no IP literal, or a port out of bounds."""
        points = {siphash24(_address_bytes(one)): one for one in schedulers}
        self._hashes = sorted(points)
        self._owners = [points[point] for point in self._hashes]

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, task_id: str) -> Address | None:
        """The scheduler of `task_id`; None if the ring is empty."""
        if not self._owners:
            return None
        at = bisect_left(self._hashes, siphash24(_task_key(task_id)))
        return self._owners[at % len(self._owners)]


class SeedRing:
    """The seed of a task is the first point after the CRC-32 of its id, else the lowest."""

    def __init__(self, seeds: Iterable[str]) -> None:
        """`seeds` are "ip:port" of the seeds' upload ports."""
        # Two points that fall together go to the later seed, as in stathat's; names in order make
        # that the same in every scheduler.
        points = {
            zlib.crc32(f"{replica}{seed}".encode()): seed
            for seed in sorted(set(seeds))
            for replica in range(SEED_REPLICAS)
        }
        self._hashes = sorted(points)
        self._seeds = [points[point] for point in self._hashes]

    def __len__(self) -> int:
        return len(set(self._seeds))

    def pick(self, task_id: str, exclude: Collection[str] = ()) -> str | None:
        """The seed of `task_id`, or the next on the ring that is not excluded; None if none is."""
        start = bisect_right(self._hashes, zlib.crc32(task_id.encode()))
        for seed in (*self._seeds[start:], *self._seeds[:start]):
            if seed not in exclude:
                return seed
        return None


def siphash24(data: bytes) -> int:
    """SipHash-2-4 (Aumasson, Bernstein 2012) of `data` under the all-zero key."""
    # The paper's constants, "somepseudorandomlygeneratedbytes".
    v = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    whole = len(data) - len(data) % 8
    last = data[whole:].ljust(7, b"\0") + bytes((len(data) & 0xFF,))
    for (word,) in struct.iter_unpack("<Q", data[:whole] + last):
        v = (v[0], v[1], v[2], v[3] ^ word)
        v = _sip_round(_sip_round(v))
        v = (v[0] ^ word, v[1], v[2], v[3])
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(4):
        v = _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _sip_round(v: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = v
    v0 = (v0 + v1) & _MASK
    v2 = (v2 + v3) & _MASK
    v1 = _rotated(v1, 13) ^ v0
    v3 = _rotated(v3, 16) ^ v2
    v0 = _rotated(v0, 32)
    v2 = (v2 + v1) & _MASK
    v0 = (v0 + v3) & _MASK
    v1 = _rotated(v1, 17) ^ v2
    v3 = _rotated(v3, 21) ^ v0
    return v0, v1, _rotated(v2, 32), v3


def _rotated(word: int, n_bits: int) -> int:
    return ((word << n_bits) | (word >> (64 - n_bits))) & _MASK


def _address_bytes(address: Address) -> bytes:
    """What Rust feeds its hasher for a socket address: kind, octets, port, all little-endian."""
    try:
        ip = ipaddress.ip_address(address.ip)
    except ValueError:
        raise CallerError(
            f"scheduler address {address.ip!r} is no IP address: write it in digits, as 10.0.0.1"
        ) from None
    if not 0 <= address.port <= 65535:
        raise CallerError(f"scheduler port {address.port} is not from 0 to 65535")
    head = (ip.version == 6).to_bytes(8, "little") + ip.packed + struct.pack("<H", address.port)
    # IPv6 adds flow information and scope, which an address without a zone has as 0.
    return head + bytes(8) if ip.version == 6 else head


def _task_key(task_id: str) -> bytes:
    # Rust ends a string's bytes with 0xff when it hashes them.
    return task_id[:TASK_KEY_LENGTH].encode() + b"\xff"
