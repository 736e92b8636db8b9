"""The demo's end: a table of all ways beside the physical bound, and whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from odonata.swarm.demo.tally import ORIGIN, Tally, World
from odonata.wire.message import Value

COPIES_MAX = 1.02  # of an image from the origin, with a seed: one copy and nothing to speak of


class Outcome(Value, frozen=True, kw_only=True):
    """One image pulled in one way: seconds of each peer, who sent how much, what went wrong."""

    title: str
    seconds: tuple[float, ...]
    origin_bytes: int
    peer_share: float
    """Of what the peers got: not from the origin."""
    slow_share: float
    """Of what the peers got: from the slow peers."""
    problems: tuple[str, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-int(share * 100) * len(ordered) // 100))
    return ordered[rank - 1]


def outcome(
    title: str,
    tallies: Sequence[Tally],
    origin_bytes: int,
    wrong_digests: Sequence[str],
    slow: Sequence[str] = (),
) -> Outcome:
    """Sum up one image."""
    got = sum(tally.got_bytes for tally in tallies)
    from_origin = sum(tally.by_giver.get(ORIGIN, 0) for tally in tallies)
    from_slow = sum(tally.by_giver.get(name, 0) for tally in tallies for name in slow)
    problems = [f"{tally.name}: {tally.error}" for tally in tallies if tally.error is not None]
    return Outcome(
        title=title,
        seconds=tuple(tally.seconds for tally in tallies if tally.seconds is not None),
        origin_bytes=origin_bytes,
        peer_share=1 - from_origin / got if got else 0.0,
        slow_share=from_slow / got if got else 0.0,
        problems=(*problems, *wrong_digests),
    )


def complaints(plain: Outcome, swarm: Sequence[Outcome], image_bytes: int) -> list[str]:
    """Everything that is not as it should be; empty is good. That the model wins is not asked."""
    found = [f"{way.title}: {problem}" for way in (plain, *swarm) for problem in way.problems]
    for way in swarm:
        copies = way.origin_bytes / image_bytes
        if copies > COPIES_MAX:
            found.append(f"{way.title}: the origin sent {copies:.3f} copies, over {COPIES_MAX}")
        if copies < 1 and not found:
            found.append(f"{way.title}: the origin sent {copies:.3f} copies: whose was the rest?")
    if not found and percentile(_all_seconds(swarm), 0.5) >= percentile(plain.seconds, 0.5):
        found.append("the swarm was not faster than the plain pull")
    return found


def show(
    console: Console, world: World, image_bytes: int, ways: Sequence[Sequence[Outcome]]
) -> None:
    """Print the table: one row for each way; a way is the images that were pulled in it."""
    bound_s = world.bound_s(image_bytes)
    title = f"{image_bytes / (1 << 20):.0f} MiB to {world.peers} peers, bound {bound_s:.1f} s"
    table = Table(title=title, box=SIMPLE_HEAD)  # narrow enough for 80 columns
    for heading in ("", "images", "p50", "p99", "stretch", "copies", "slow", "digests"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for way in ways:
        table.add_row(way[0].title, str(len(way)), *_row(way, image_bytes, bound_s))
    console.print(table)
    console.print(
        "bound: what the links allow; stretch: p50/p99 over the bound;\n"
        "copies: of an image, sent by the origin; slow: share of all bytes from slow peers.",
        style="grey70",
    )


def _row(way: Sequence[Outcome], image_bytes: int, bound_s: float) -> tuple[str, ...]:
    seconds = _all_seconds(way)
    times, stretch = ["-", "-"], "-"
    if seconds:
        p50, p99 = percentile(seconds, 0.50), percentile(seconds, 0.99)
        times = [f"{p50:.1f} s", f"{p99:.1f} s"]
        stretch = f"{p50 / bound_s:.2f}/{p99 / bound_s:.2f}"
    return (
        *times,
        stretch,
        f"{mean(one.origin_bytes for one in way) / image_bytes:.2f}",
        f"{100 * mean(one.slow_share for one in way):.1f} %",
        "[red]WRONG[/]" if any(one.problems for one in way) else "right",
    )


def _all_seconds(way: Sequence[Outcome]) -> list[float]:
    return [seconds for one in way for seconds in one.seconds]
