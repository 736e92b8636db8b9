"""The live view: one line for each peer, with its progress, its rate and who feeds it.

Draws what a Tally says, nothing else. Without a terminal it prints a line every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from odonata.swarm.demo.tally import ORIGIN, Tally

REFRESH_S = 0.25
PLAIN_REFRESH_S = 5.0
BAR_CELLS = 24  # name, bar, state and three givers fit into 80 columns
MIB = 1 << 20
# Peers share the cool colours; the origin and the seed, whose bytes are dear, get the warm ones.
PEER_COLOURS = (
    "cyan",
    "green",
    "blue",
    "magenta",
    "bright_cyan",
    "bright_green",
    "bright_blue",
    "bright_magenta",
)


def colour_of(giver: str) -> str:
    """The colour of whoever gave."""
    if giver == ORIGIN:
        return "red"
    kind, _, number = giver.partition("-")
    if kind == "seed":
        return "yellow"
    return PEER_COLOURS[(int(number) - 1) % len(PEER_COLOURS)] if number.isdigit() else "white"


def bar(tally: Tally) -> Text:
    """Progress in cells, each in the colour of whom its bytes came from."""
    text = Text()
    drawn, seen = 0, 0
    for giver, n_bytes in sorted(tally.by_giver.items()):
        seen += n_bytes
        cells = min(BAR_CELLS, seen * BAR_CELLS // max(1, tally.wanted_bytes)) - drawn
        text.append("━" * cells, style=colour_of(giver))
        drawn += cells
    text.append("─" * (BAR_CELLS - drawn), style="grey35")
    return text


def from_whom(tally: Tally, most: int = 3) -> Text:
    """The largest givers with their share, best first."""
    text = Text()
    givers = sorted(tally.by_giver.items(), key=lambda item: (-item[1], item[0]))
    for giver, n_bytes in givers[:most]:
        share = round(100 * n_bytes / max(1, tally.got_bytes))
        text.append(f"{giver} {share}% ", style=colour_of(giver))
    if len(givers) > most:
        text.append(f"+{len(givers) - most}", style="grey50")
    return text


def state(tally: Tally) -> Text:
    """Done and when, failed and why, or how far."""
    if tally.error is not None:
        return Text("failed", style="bold red")
    if tally.seconds is not None:
        return Text(f"done {tally.seconds:.1f} s", style="bold green")
    return Text(f"{100 * tally.got_bytes // max(1, tally.wanted_bytes)} %")


def draw(title: str, tallies: Sequence[Tally], started_s: float) -> Group:
    """The whole picture at this moment."""
    elapsed_s = max(1e-9, time.monotonic() - started_s)
    table = Table.grid(padding=(0, 1))
    for tally in tallies:
        table.add_row(Text(tally.name, style="bold"), bar(tally), state(tally), from_whom(tally))
    total = sum(tally.got_bytes for tally in tallies)
    head = Text(f"{title}  ", style="bold")
    head.append(f"{elapsed_s:5.1f} s   {total / MIB:6.0f} MiB received   ", style="grey70")
    head.append(f"{total / MIB / elapsed_s:5.1f} MiB/s", style="grey70")
    return Group(head, table)


@asynccontextmanager
async def watching(console: Console, title: str, tallies: Sequence[Tally]) -> AsyncGenerator[None]:
    """Show progress until the block is left."""
    started_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        follow = _follow_live if console.is_terminal else _follow_plain
        follower = group.create_task(follow(console, title, tallies, started_s))
        try:
            yield
        finally:
            follower.cancel()


async def _follow_live(
    console: Console, title: str, tallies: Sequence[Tally], started_s: float
) -> None:
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(draw(title, tallies, started_s), refresh=True)
                await asyncio.sleep(REFRESH_S)
        finally:
            live.update(draw(title, tallies, started_s), refresh=True)


async def _follow_plain(
    console: Console, title: str, tallies: Sequence[Tally], started_s: float
) -> None:
    try:
        while True:
            done = sum(tally.ended for tally in tallies)
            total = sum(tally.got_bytes for tally in tallies)
            wanted = sum(tally.wanted_bytes for tally in tallies)
            elapsed_s = time.monotonic() - started_s
            console.print(
                f"{title}: {elapsed_s:5.1f} s, {100 * total // max(1, wanted):3d} %,"
                f" {done} of {len(tallies)} peers done"
            )
            await asyncio.sleep(PLAIN_REFRESH_S)
    finally:
        console.print(draw(title, tallies, started_s))
