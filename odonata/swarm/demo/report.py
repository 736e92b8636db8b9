"""The demo's end: a table of both ways beside the physical bound, and whether all is well."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from odonata.swarm.demo.tally import ORIGIN, Tally, World
from odonata.wire.message import Value

COPIES_MAX = 1.02  # of the image from the origin, with a seed: one copy and nothing to speak of


class Outcome(Value, frozen=True, kw_only=True):
    """One way of pulling: seconds of each peer, bytes from the origin, what went wrong."""

    title: str
    seconds: tuple[float, ...]
    origin_bytes: int
    peer_share: float
    problems: tuple[str, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-int(share * 100) * len(ordered) // 100))
    return ordered[rank - 1]


def outcome(
    title: str, tallies: Sequence[Tally], origin_bytes: int, wrong_digests: Sequence[str]
) -> Outcome:
    """Sum up one way of pulling."""
    got = sum(tally.got_bytes for tally in tallies)
    from_origin = sum(tally.by_giver.get(ORIGIN, 0) for tally in tallies)
    problems = [f"{tally.name}: {tally.error}" for tally in tallies if tally.error is not None]
    return Outcome(
        title=title,
        seconds=tuple(tally.seconds for tally in tallies if tally.seconds is not None),
        origin_bytes=origin_bytes,
        peer_share=1 - from_origin / got if got else 0.0,
        problems=(*problems, *wrong_digests),
    )


def complaints(plain: Outcome, swarm: Outcome, image_bytes: int) -> list[str]:
    """Everything that is not as it should be; empty is good."""
    found = [f"{way.title}: {problem}" for way in (plain, swarm) for problem in way.problems]
    copies = swarm.origin_bytes / image_bytes
    if copies > COPIES_MAX:
        found.append(f"the origin sent {copies:.3f} copies, more than {COPIES_MAX}")
    if copies < 1 and not found:
        found.append(f"the origin sent only {copies:.3f} copies: where did the rest come from?")
    if not found and percentile(swarm.seconds, 0.99) >= percentile(plain.seconds, 0.99):
        found.append("the swarm was not faster than the plain pull")
    return found


def show(console: Console, world: World, image_bytes: int, plain: Outcome, swarm: Outcome) -> None:
    """Print the table."""
    bound_s = world.bound_s(image_bytes)
    plain_bound_s = world.peers * image_bytes / world.origin_rate_bytes_per_s
    title = f"{image_bytes / (1 << 20):.0f} MiB to {world.peers} peers"
    table = Table(title=title, box=SIMPLE_HEAD)  # narrow enough for 80 columns
    for heading in ("", "p50", "p99", "bound", "stretch", "copies", "by peers", "digests"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for way, own_bound_s in ((plain, plain_bound_s), (swarm, bound_s)):
        times, stretch = ["-", "-"], "-"
        if way.seconds:
            p50, p99 = percentile(way.seconds, 0.50), percentile(way.seconds, 0.99)
            times = [f"{p50:.1f} s", f"{p99:.1f} s"]
            stretch = f"{p50 / bound_s:.2f}/{p99 / bound_s:.2f}"
        table.add_row(
            way.title,
            *times,
            f"{own_bound_s:.1f} s",
            stretch,
            f"{way.origin_bytes / image_bytes:.2f}",
            f"{100 * way.peer_share:.1f} %",
            "right" if not way.problems else "[red]WRONG",
        )
    console.print(table)
    console.print(
        "bound: what the links allow; stretch: p50/p99 over the bound of the best way;\n"
        "copies: of the image, sent by the origin; by peers: the share it did not send.",
        style="grey70",
    )
