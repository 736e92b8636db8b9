"""How a simulated swarm did: times against the bound, copies from the source, who gave how much."""

from __future__ import annotations

from statistics import quantiles
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from odonata.errors import OdonataError
from odonata.units import format_duration, format_rate, format_size
from odonata.wire.message import Value


class Outcome(Value, frozen=True, kw_only=True):
    """How one peer's download went. Times in virtual seconds, bytes by name of the giver."""

    name: str
    started_at_s: float
    ended_at_s: float | None
    error: OdonataError | None
    crashed: bool
    fetched_from: dict[str, int]

    @property
    def completed(self) -> bool:
        return self.ended_at_s is not None and self.error is None

    @property
    def took_s(self) -> float | None:
        """None if it did not complete."""
        if self.ended_at_s is None or self.error is not None:
            return None
        return self.ended_at_s - self.started_at_s


class Giver(Value, frozen=True, kw_only=True):
    """Bytes that left one uplink."""

    name: str
    sent: float


class SwarmReport(Value, frozen=True, kw_only=True):
    """The result of one world."""

    size: int
    bound_s: float
    outcomes: tuple[Outcome, ...]
    givers: tuple[Giver, ...]
    source_requests: int
    blamed: tuple[tuple[str, str, int], ...]
    """Who found a wrong digest, from whom, in which piece."""

    @property
    def times_s(self) -> list[float]:
        """Of all that completed, ascending."""
        return sorted(took for o in self.outcomes if (took := o.took_s) is not None)

    @property
    def failures(self) -> tuple[str, ...]:
        """What ended without the content, except by a crash of its own."""
        return tuple(
            f"{o.name}: {'did not end' if o.error is None else o.error.detail}"
            for o in self.outcomes
            if not o.completed and not o.crashed
        )

    @property
    def source_copies(self) -> float:
        """Bytes that left the source, as copies of the content."""
        return self.copies("source")

    def copies(self, name: str) -> float:
        """Bytes that left one uplink, as copies of the content."""
        sent = sum(giver.sent for giver in self.givers if giver.name == name)
        return sent / self.size if self.size else 0.0

    def stretch(self, time_s: float) -> float:
        """A time as a multiple of the bound."""
        return time_s / self.bound_s if self.bound_s else 1.0

    @property
    def p50_s(self) -> float:
        return percentile(self.times_s, 50)

    @property
    def p99_s(self) -> float:
        return percentile(self.times_s, 99)

    def figures(self) -> dict[str, Any]:
        """The same for machines: bytes, virtual seconds, copies of the content."""
        return {
            "size": self.size,
            "bound_s": self.bound_s,
            "p50_s": self.p50_s,
            "p99_s": self.p99_s,
            "source_copies": self.source_copies,
            "source_requests": self.source_requests,
            "wrong_digest_count": len(self.blamed),
            "peers": [
                {
                    "name": one.name,
                    "took_s": one.took_s,
                    "is_crashed": one.crashed,
                    "error": None if one.error is None else one.error.code,
                    "bytes_from": one.fetched_from,
                }
                for one in self.outcomes
            ],
            "sent_bytes": {giver.name: giver.sent for giver in self.givers},
        }

    def render(self) -> RenderableType:
        """A table of the peers and a few lines of summary."""
        table = Table(title="Peers")
        for heading in (
            "peer",
            "time",
            "stretch",
            "rate",
            "from peers",
            "from seeds",
            "from source",
        ):
            table.add_column(heading, justify="left" if heading == "peer" else "right")
        for outcome in self.outcomes:
            table.add_row(*self._row(outcome))
        return Group(table, Text("\n".join(self._summary())))

    def _row(self, outcome: Outcome) -> tuple[str, ...]:
        took_s = outcome.took_s
        seeds = sum(n for who, n in outcome.fetched_from.items() if who.startswith("seed"))
        peers = sum(outcome.fetched_from.values()) - seeds
        if took_s is None:
            why = "crashed" if outcome.crashed else "gave up" if outcome.error else "never ended"
            return (outcome.name, why, "-", "-", format_size(peers), format_size(seeds), "-")
        return (
            outcome.name,
            format_duration(took_s),
            f"{self.stretch(took_s):.2f}",
            format_rate(int(self.size / took_s)) if took_s else "-",
            format_size(peers),
            format_size(seeds),
            format_size(self.size - peers - seeds),
        )

    def _summary(self) -> list[str]:
        lines = [f"bound    {format_duration(self.bound_s)}: no swarm can be faster on these links"]
        if self.times_s:
            lines.append(
                f"stretch  p50 {self.stretch(self.p50_s):.2f}, p99 {self.stretch(self.p99_s):.2f}"
            )
        lines.append(f"source   {self.source_copies:.2f} copies in {self.source_requests} requests")
        lines += [
            f"{giver.name:<8} {self.copies(giver.name):.2f} copies"
            for giver in self.givers
            if giver.name.startswith("seed")
        ]
        if self.blamed:
            lines.append(
                f"blamed   {len(self.blamed)} pieces with a wrong digest, fetched elsewhere"
            )
        return lines


def percentile(values: list[float], percent: int) -> float:
    """Of ascending values, by linear interpolation; 0 of none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[percent - 1]
