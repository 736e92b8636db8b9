"""The commands `odonata up` and `odonata demo`: options in, exit status out; no work here."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import click

from odonata.errors import CallerError, OdonataError
from odonata.units import parse_rate


class Rate(click.ParamType[int]):
    """Bytes per second, such as "16MB" or "10MiB/s"."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a rate; a wrong one is a usage error that says how one looks."""
        if isinstance(value, int):
            return value
        try:
            return int(parse_rate(value))
        except OdonataError as error:
            self.fail(error.detail, param, ctx)


@click.command()
@click.option("--peers", default=3, show_default=True, help="Number of peers, besides the seed.")
@click.option("--upload-rate", type=Rate(), help="Emulated uplink of each daemon, such as 16MB.")
@click.option("--download-rate", type=Rate(), help="Emulated downlink of each daemon.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Kept afterwards. Default: temporary."
)
def up(
    peers: int, upload_rate: int | None, download_rate: int | None, data_dir: Path | None
) -> None:
    """Run a whole local swarm: a scheduler, a seed and peers."""
    from rich.console import Console

    from odonata.swarm.plan import SwarmOptions
    from odonata.swarm.up import stay_up

    options = SwarmOptions(
        peers=peers, upload_rate_bytes_per_s=upload_rate, download_rate_bytes_per_s=download_rate
    )
    asyncio.run(stay_up(Console(), options, data_dir))


@click.command()
@click.option("--peers", default=8, show_default=True, help="Number of peers, besides the seed.")
@click.option("--slow", default=2, show_default=True, help="So many of them upload slowly.")
@click.option(
    "--image", help="A real image, such as alpine:3.20. Default: 96 MiB of random layers."
)
@click.option("--rounds", default=4, show_default=True, help="Images before and after learning.")
@click.option(
    "--origin-rate", type=Rate(), default="24MB", show_default=True, help="The origin's uplink."
)
@click.option(
    "--seed-rate", type=Rate(), default="48MB", show_default=True, help="The seed's uplink."
)
@click.option(
    "--upload-rate", type=Rate(), default="24MB", show_default=True, help="Each peer's uplink."
)
@click.option(
    "--slow-rate", type=Rate(), default="2.4MB", show_default=True, help="Each slow peer's uplink."
)
@click.option(
    "--random-seed", default=1, show_default=True, help="Makes the same random layers again."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where telemetry, data set and model stay. Default: demo in the program's state folder.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Also save what is shown as SVG.")
@click.pass_context
def demo(
    ctx: click.Context,
    peers: int,
    slow: int,
    image: str | None,
    rounds: int,
    origin_rate: int,
    seed_rate: int,
    upload_rate: int,
    slow_rate: int,
    random_seed: int,
    out: Path | None,
    picture: Path | None,
) -> None:
    """Watch a swarm pull images and its scheduler learn from it, beside plain downloads."""
    from rich.console import Console

    from odonata.settings.place import state_dir
    from odonata.swarm.demo.show import Demo
    from odonata.swarm.demo.tally import World

    if not 0 <= slow < peers:
        raise CallerError(f"--slow {slow}: choose a number from 0 to {peers - 1}, below --peers")
    world = World(
        peers=peers,
        origin_rate_bytes_per_s=origin_rate,
        seed_rate_bytes_per_s=seed_rate,
        peer_rate_bytes_per_s=upload_rate,
        slow_peers=slow,
        slow_rate_bytes_per_s=slow_rate,
    )
    console = Console(record=picture is not None)
    show = Demo(
        console,
        world,
        rounds=rounds,
        out=(out or state_dir(os.environ, os.getuid()) / "demo").resolve(),
        image_name=image,
        random_seed=random_seed,
    )
    status = asyncio.run(show.run())
    if picture is not None:
        svg = console.export_svg(title="odonata demo")
        picture.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))  # no web fonts
    ctx.exit(status)
