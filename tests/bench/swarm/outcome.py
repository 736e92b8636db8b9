"""What came of one run, as it was seen, and the figures that follow from it. Pure.

Bytes, seconds from the common start; `took_s` counts from a host's own arrival.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Final

from bench.swarm.calibrate import Overhead
from bench.swarm.ground import Carried

from odonata.wire.message import Value

VANISHED: Final = "vanished"
NOISE_SHARE: Final = 0.01
"""Of the content: what requests and a scheduler's stream add up to, for who gives nothing."""
FIGURES: Final = {
    "p50_s": "p50 s",
    "p99_s": "p99 s",
    "max_s": "max s",
    "stretch_p50": "stretch p50",
    "stretch_p99": "stretch p99",
    "file_p50_s": "file p50 s",
    "file_p90_s": "file p90 s",
    "file_p99_s": "file p99 s",
    "file_max_s": "file max s",
    "origin_copies": "origin copies",
    "seed_copies": "seed copies",
    "cross_copies": "copies across",
    "cross_pieces": "pieces across",
    "back_pieces": "pieces back",
    "extra_share": "extra bytes",
    "first_piece_s": "first piece s",
    "balance": "upload balance",
    "cpu_s_per_gb": "CPU-s/GB",
    "idle": "idle",
}
"""Of a run, by name, with their headings."""


class Arrival(Value, frozen=True, kw_only=True):
    """A piece that a host has now, and who gave it (the name of a host)."""

    at_s: float
    number: int
    length: int
    giver: str
    content: int = 0
    """Number of the content that it is of, from 0."""


class FileOutcome(Value, frozen=True, kw_only=True):
    """One content that a host asked for. `failure`: "" if it is there and right."""

    content: int
    took_s: float
    failure: str = ""


class HostOutcome(Value, frozen=True, kw_only=True):
    """All of one peer's downloads. `failure`: "" if every content is there and right."""

    name: str
    arrived_at_s: float
    ended_at_s: float | None
    failure: str
    pieces: tuple[Arrival, ...]
    files: tuple[FileOutcome, ...] = ()

    @property
    def took_s(self) -> float | None:
        """None: it did not get the content."""
        if self.ended_at_s is None or self.failure:
            return None
        return self.ended_at_s - self.arrived_at_s


class Usage(Value, frozen=True, kw_only=True):
    """What the run took of the machine."""

    cpu_s: float
    """Of all processes of the swarm, the origin's among them."""
    idle: float
    idle_worst: float


class RunOutcome(Value, frozen=True, kw_only=True):
    """One run: a world, a policy. `sent` and `received`: payload by host, if the ground counts."""

    scenario: str
    policy: str
    world: int
    size: int
    bound_s: float
    hosts: tuple[HostOutcome, ...]
    origin_bytes: int
    uplinks: dict[str, float]
    """Bytes per second, of seeds and peers."""
    sent: dict[str, float] = {}
    received: dict[str, float] = {}
    crossed_bytes: float | None = None
    """Payload that left the first site for others; None: there is one site."""
    sites: dict[str, int] = {}
    """Of all hosts, the first is 0; empty: there is one."""
    usage: Usage
    rejected: str = ""
    """Why its figures do not count."""


class RunFigures(Value, frozen=True, kw_only=True):
    """Of one run; None: not to be had. `extra_share`: bytes that came beyond one copy each.

    `cross_copies`: payload that left the first site, in copies of the content, with what TCP sends
    again; `cross_pieces`: the pieces alone that hosts elsewhere got from there. One copy for each
    other site is what it takes. `back_pieces`: what hosts of the first site got from elsewhere.
    """

    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    stretch_p50: float | None
    stretch_p99: float | None
    file_p50_s: float | None
    """Of single contents, over all hosts; None where there is one only."""
    file_p90_s: float | None
    file_p99_s: float | None
    file_max_s: float | None
    origin_copies: float
    seed_copies: float
    cross_copies: float | None
    cross_pieces: float | None
    back_pieces: float | None
    extra_share: float | None
    first_piece_s: float | None
    balance: float | None
    cpu_s_per_gb: float
    idle: float
    failures: int


def figures_of(run: RunOutcome) -> RunFigures:
    """Percentiles are over hosts that stayed; a host that failed counts as never (None)."""
    stayed = [host for host in run.hosts if host.failure != VANISHED]
    times = [host.took_s for host in stayed]
    p50, p99, last = (percentile(times, share) for share in (50, 99, 100))
    delivered = sum(piece.length for host in run.hosts for piece in host.pieces)
    firsts = [host.pieces[0].at_s - host.arrived_at_s for host in stayed if host.pieces]
    files = [one.took_s if not one.failure else None for host in stayed for one in host.files]
    if all(len(host.files) <= 1 for host in run.hosts):
        files = []
    fed = fed_bytes(run.hosts)
    across, back = _crossed_pieces(run)
    seeds = [name for name in run.uplinks if name.startswith("seed")]
    return RunFigures(
        p50_s=p50,
        p99_s=p99,
        max_s=last,
        stretch_p50=None if p50 is None else p50 / run.bound_s,
        stretch_p99=None if p99 is None else p99 / run.bound_s,
        file_p50_s=percentile(files, 50),
        file_p90_s=percentile(files, 90),
        file_p99_s=percentile(files, 99),
        file_max_s=percentile(files, 100),
        origin_copies=run.origin_bytes / run.size,
        seed_copies=sum(run.sent.get(name, fed[name]) for name in seeds) / run.size,
        cross_copies=None if run.crossed_bytes is None else run.crossed_bytes / run.size,
        cross_pieces=across,
        back_pieces=back,
        extra_share=_extra(run, delivered),
        first_piece_s=median(firsts) if firsts else None,
        balance=balance(_loads(run, fed)),
        cpu_s_per_gb=run.usage.cpu_s / (delivered / 1e9) if delivered else 0.0,
        idle=run.usage.idle,
        failures=sum(bool(host.failure) for host in stayed),
    )


def _crossed_pieces(run: RunOutcome) -> tuple[float, float] | tuple[None, None]:
    """From the first site, and back; None: there is one site, or nobody says who gave a piece."""
    arrivals = [(host.name, piece) for host in run.hosts for piece in host.pieces]
    if not run.sites or any(piece.giver not in run.sites for _, piece in arrivals):
        return None, None
    across = back = 0
    for name, piece in arrivals:
        taker, giver = run.sites[name], run.sites[piece.giver]
        across += piece.length if giver == 0 != taker else 0
        back += piece.length if taker == 0 != giver else 0
    return across / run.size, back / run.size


def percentile(times: Sequence[float | None], share: float) -> float | None:
    """Linear between the two nearest ranks, as numpy does; None is later than any time."""
    if not times:
        return None
    ordered = sorted(time for time in times if time is not None)
    place = share / 100 * (len(times) - 1)
    low, rest = int(place), place - int(place)
    high = low + (1 if rest > 0 else 0)
    if high >= len(ordered):
        return None
    return ordered[low] + (ordered[high] - ordered[low]) * rest


def balance(loads: Sequence[float]) -> float | None:
    """How evenly uplinks are used: Jain's index of their loads, 1 if all are alike, 1/n if one
    does all; None if nobody does anything."""
    squares = sum(load * load for load in loads)
    return sum(loads) ** 2 / (len(loads) * squares) if squares else None


def fed_bytes(hosts: Sequence[HostOutcome]) -> Counter[str]:
    """Whole pieces that each giver gave."""
    fed: Counter[str] = Counter()
    for host in hosts:
        for piece in host.pieces:
            fed[piece.giver] += piece.length
    return fed


def edges(hosts: Sequence[HostOutcome]) -> Counter[tuple[str, str]]:
    """Bytes by giver and taker."""
    found: Counter[tuple[str, str]] = Counter()
    for host in hosts:
        for piece in host.pieces:
            found[piece.giver, host.name] += piece.length
    return found


def payload(carried: Carried, overhead: Overhead) -> tuple[float, float]:
    """Bytes of content that a host, or a site, sent and received, from what its link carried.

    Each byte that is sent costs `along` bytes on its way and `against` in acknowledgements.
    """
    a, b = overhead.along, overhead.against
    determinant = a * a - b * b
    sent = (a * carried.sent - b * carried.received) / determinant
    received = (a * carried.received - b * carried.sent) / determinant
    return max(0.0, sent), max(0.0, received)


def _loads(run: RunOutcome, fed: Counter[str]) -> list[float]:
    """What each peer sent for each byte per second that it can."""
    peers = {host.name for host in run.hosts}
    sent = {name: run.sent.get(name, fed[name]) for name in run.uplinks if name in peers}
    noise = NOISE_SHARE * run.size
    return [(n_bytes if n_bytes > noise else 0.0) / run.uplinks[n] for n, n_bytes in sent.items()]


def _extra(run: RunOutcome, delivered: int) -> float | None:
    """What peers received beyond the pieces that they kept, as a share of these."""
    received = [run.received[host.name] for host in run.hosts if host.name in run.received]
    if not received or not delivered:
        return None
    return sum(received) / delivered - 1
