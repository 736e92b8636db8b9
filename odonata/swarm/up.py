"""`odonata up`: a local swarm in the foreground, one log view, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from odonata.swarm.demo.view import colour_of
from odonata.swarm.local import running
from odonata.swarm.plan import IP, SwarmOptions, SwarmPlan, make_plan
from odonata.swarm.process import died_early

NAME_CELLS = 9


async def stay_up(console: Console, options: SwarmOptions, data_dir: Path | None) -> None:
    """Run the swarm until SIGINT or SIGTERM; a temporary folder is removed again.

    Errors: CallerError and StorageError of the plan, UnavailableError if a process dies.
    """
    with ExitStack() as stack:
        if data_dir is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="odonata-up-"))
            data_dir = Path(folder)
        plan = make_plan(options, data_dir.resolve())
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

        def show_line(name: str, line: str) -> None:
            text = Text(f"{name:<{NAME_CELLS}} │ ", style=colour_of(name))
            text.append_text(Text.from_ansi(line))
            console.print(text, soft_wrap=True)

        stopping = asyncio.ensure_future(stop.wait())
        try:
            async with running(plan, show_line) as processes:
                console.print(addresses(plan))
                console.print(example(plan), highlight=False)
                ended = asyncio.ensure_future(processes.first_end())
                await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not stop.is_set():
                    raise died_early(ended.result())
                ended.cancel()
                console.print("stopping", style="grey70")
        finally:
            stopping.cancel()


def addresses(plan: SwarmPlan) -> Table:
    """Where everybody listens."""
    table = Table(title="a local swarm is up; Ctrl-C ends it")
    for heading in ("", "gRPC", "HTTP proxy", "socket of odonata get"):
        table.add_column(heading, overflow="fold")
    for member in plan.members:
        table.add_row(
            Text(member.name, style=colour_of(member.name)),
            f"{IP}:{member.port}",
            f"http://{IP}:{member.proxy_port}" if member.proxy_port else "",
            str(member.socket or ""),
        )
    return table


def example(plan: SwarmPlan) -> str:
    """Two lines to try."""
    peer = plan.peers[0]
    return (
        f"try:  odonata get URL -O FILE --endpoint {peer.socket}\n"
        f"      HTTP_PROXY=http://{IP}:{peer.proxy_port} docker/podman/curl …"
        " (blob URLs go through the swarm)"
    )
