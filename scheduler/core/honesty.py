"""What is known of how honest a host is about the bytes it sends. What it means, `accusation` says.

Facts only, each with the time it was heard at, and all of them bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.core.host import KnownHost

MEMORY_S = 600.0
"""For which accusations count: as long as the longest term of an eviction."""
KNOWN_HOSTS_MAX = 32
"""Host ids kept in each list of a host; the oldest is forgotten first. More than serve at a time.
"""


@dataclass(slots=True)
class Honesty:
    """What is known of one host. Each dict is by the id of another host, of when.

    `accusers` accused it, `accused` it accused itself, `refuted` are those of them that were found
    good. `children` were sent to it where it lied, `witnesses` got right pieces from it.
    """

    accusers: dict[str, float] = field(default_factory=dict[str, float])
    accused: dict[str, float] = field(default_factory=dict[str, float])
    refuted: dict[str, float] = field(default_factory=dict[str, float])
    children: dict[str, float] = field(default_factory=dict[str, float])
    witnesses: dict[str, float] = field(default_factory=dict[str, float])
    contradicted_at_s: float = -inf
    """When it told last of a piece that is not what the source sent."""

    def holds_wrong_bytes(self, now: float) -> bool:
        """Whether it said itself, lately, that it holds other bytes than the source sends."""
        return now - self.contradicted_at_s < MEMORY_S


def found_good(host: KnownHost, hosts: Mapping[str, KnownHost], now: float) -> None:
    """`host` served well since it was accused: whoever accused it may be wrong."""
    for accuser_id in lately(host.honesty.accusers, now):
        accuser = hosts.get(accuser_id)
        if accuser is not None:
            note(accuser.honesty.refuted, host.id, now)
    host.honesty.accusers.clear()


def lately(heard: Mapping[str, float], now: float, memory_s: float = MEMORY_S) -> set[str]:
    """Host ids that were heard of not longer ago than that."""
    return {host_id for host_id, at_s in heard.items() if now - at_s < memory_s}


def note(heard: dict[str, float], host_id: str, now: float, limit: int = KNOWN_HOSTS_MAX) -> None:
    """Remember that `host_id` was heard of, and forget the oldest beyond `limit`."""
    heard.pop(host_id, None)
    heard[host_id] = now
    if len(heard) > limit:
        del heard[next(iter(heard))]
