"""What each peer has, and from whom: the numbers that the live view and the report share."""

from __future__ import annotations

from dataclasses import dataclass, field

ORIGIN = "origin"


@dataclass
class Tally:
    """One peer's progress. `seconds` is set at the end, `error` if it failed."""

    name: str
    wanted_bytes: int
    by_giver: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float | None = None
    error: str | None = None

    def add(self, giver: str, n_bytes: int) -> None:
        """`n_bytes` came from `giver`."""
        self.by_giver[giver] = self.by_giver.get(giver, 0) + n_bytes

    @property
    def got_bytes(self) -> int:
        return sum(self.by_giver.values())

    @property
    def ended(self) -> bool:
        return self.seconds is not None or self.error is not None


@dataclass(frozen=True)
class World:
    """The emulated links, bytes per second. None: no limit."""

    peers: int
    origin_rate_bytes_per_s: float
    seed_rate_bytes_per_s: float
    peer_rate_bytes_per_s: float
    download_rate_bytes_per_s: float | None = None
    slow_peers: int = 0
    slow_rate_bytes_per_s: float = 0.0

    @property
    def slow_names(self) -> tuple[str, ...]:
        """The slow ones, spread among the others: of 8 with 2 slow ones, peer-3 and peer-6."""
        step = max(1, (self.peers + 1) // (self.slow_peers + 1))
        return tuple(f"peer-{step * (i + 1)}" for i in range(self.slow_peers))

    def bound_s(self, size_bytes: int) -> float:
        """No way of spreading `size_bytes` to all peers can be faster than this.

        Origin and seed must each send one copy, the slowest peer must receive one, and all uplinks
        together must send one for each peer (Mundinger, Weber, Weiss 2008).
        """
        uplinks = self.seed_rate_bytes_per_s
        uplinks += (self.peers - self.slow_peers) * self.peer_rate_bytes_per_s
        uplinks += self.slow_peers * self.slow_rate_bytes_per_s
        bounds = [
            size_bytes / self.origin_rate_bytes_per_s,
            size_bytes / self.seed_rate_bytes_per_s,
            self.peers * size_bytes / uplinks,
        ]
        if self.download_rate_bytes_per_s is not None:
            bounds.append(size_bytes / self.download_rate_bytes_per_s)
        return max(bounds)
