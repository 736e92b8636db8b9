"""The commands `odonata up` and `odonata demo`: options in, exit status out; no work here."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import click

from odonata.errors import OdonataError
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
@click.option(
    "--image", help="A real image, such as alpine:3.20. Default: 128 MiB of random layers."
)
@click.option(
    "--origin-rate", type=Rate(), default="16MB", show_default=True, help="The origin's uplink."
)
@click.option(
    "--upload-rate", type=Rate(), default="64MB", show_default=True, help="Each daemon's uplink."
)
@click.option(
    "--random-seed", default=1, show_default=True, help="Makes the same random layers again."
)
@click.option("--picture", type=click.Path(path_type=Path), help="Also save what is shown as SVG.")
@click.pass_context
def demo(
    ctx: click.Context,
    peers: int,
    image: str | None,
    origin_rate: int,
    upload_rate: int,
    random_seed: int,
    picture: Path | None,
) -> None:
    """Watch a swarm pull an image, and compare it with plain downloads."""
    from rich.console import Console

    from odonata.swarm.demo.show import Demo
    from odonata.swarm.demo.tally import World

    world = World(
        peers=peers,
        origin_rate_bytes_per_s=origin_rate,
        seed_rate_bytes_per_s=upload_rate,
        peer_rate_bytes_per_s=upload_rate,
    )
    console = Console(record=picture is not None)
    status = asyncio.run(Demo(console, world, image, random_seed).run())
    if picture is not None:
        svg = console.export_svg(title="odonata demo")
        picture.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))  # no web fonts
    ctx.exit(status)
