"""`odonata sim`: a swarm of the production cores on virtual time, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

import click

from odonata.errors import CallerError, OdonataError
from odonata.units import parse_duration_s, parse_rate, parse_size


class Quantity(click.ParamType[float]):
    """Text with a unit, such as 128MiB, 40Mbit/s or 5ms."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value) if isinstance(value, int | float) else 0.0
        try:
            return float(self._parse(value))
        except CallerError as error:
            self.fail(error.detail, param, ctx)


SIZE = Quantity("size", parse_size)
RATE = Quantity("rate", parse_rate)
TIME = Quantity("time", parse_duration_s)


@click.command()
@click.option("--peers", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--seeds", type=click.IntRange(0, 100), default=1, show_default=True)
@click.option("--size", type=SIZE, default="128MiB", show_default=True, help="Of the content.")
@click.option("--peer-rate", type=RATE, default="40Mbit/s", show_default=True, help="Up and down.")
@click.option("--seed-rate", type=RATE, default="400Mbit/s", show_default=True, help="Uplink.")
@click.option("--source-rate", type=RATE, default="200Mbit/s", show_default=True, help="Uplink.")
@click.option("--delay", type=TIME, default="1ms", show_default=True, help="One way.")
@click.option("--arrival", type=TIME, default="0s", show_default=True, help="Peers come in this.")
@click.option("--random-seed", type=int, default=1, show_default=True, help="Same seed, same run.")
@click.option("--crash", multiple=True, metavar="HOST:PIECES", help="seed1:8 dies holding 8.")
@click.option("--bad-digest", multiple=True, metavar="HOST", help="Sends wrong bytes. Repeatable.")
@click.option("--lose-scheduler", type=TIME, help="It dies then.")
@click.option("--source-dies-after", type=SIZE, help="Bytes it lives to send.")
@click.option("--log", "show_log", is_flag=True, help="Print every event first.")
def sim(
    peers: int,
    seeds: int,
    size: float,
    peer_rate: float,
    seed_rate: float,
    source_rate: float,
    delay: float,
    arrival: float,
    random_seed: int,
    crash: tuple[str, ...],
    bad_digest: tuple[str, ...],
    lose_scheduler: float | None,
    source_dies_after: float | None,
    show_log: bool,
) -> None:
    """Simulate a swarm: the real scheduler and real downloads, in virtual time.

    Hosts are called seed1, seed2, ... and peer1, peer2, ...; the same random seed gives the same
    run, event by event.
    """
    from rich.console import Console

    from simulator.scenario import Faults, Scenario
    from simulator.swarm import Swarm

    scenario = Scenario(
        size=int(size),
        peers=peers,
        seeds=seeds,
        peer_up=peer_rate,
        peer_down=peer_rate,
        seed_up=seed_rate,
        source_up=source_rate,
        delay_s=delay,
        arrival_s=arrival,
        faults=Faults(
            bad_digest=bad_digest,
            crash_at_pieces=dict(_crash(text) for text in crash),
            scheduler_lost_at_s=lose_scheduler,
            source_dies_after_bytes=None if source_dies_after is None else int(source_dies_after),
        ),
    )
    swarm = Swarm(scenario, seed=random_seed, keep_log=show_log)
    report = swarm.run()
    for line in swarm.world.log:
        click.echo(line)
    Console().print(report.render())
    _check(report.failures)


def _crash(text: str) -> tuple[str, int]:
    host, _, pieces = text.rpartition(":")
    if not host or not pieces.isdigit():
        raise CallerError(f"--crash {text!r} is not HOST:PIECES: write for instance seed1:8")
    return host, int(pieces)


def _check(failures: tuple[str, ...]) -> None:
    """A swarm that did not bring everything to everybody who lived is a failure."""
    if failures:
        raise OdonataError(f"{len(failures)} downloads failed: {'; '.join(failures[:3])}")
