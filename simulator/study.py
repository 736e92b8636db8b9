"""A study: many worlds, each under one policy and client, on as many cores as there are.

A world is a process's own affair from its seed to its result, so the results are the same, byte for
byte, whatever the number of jobs. What comes back is plain numbers, as JSON.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from odonata.telemetry.parquet import write_tables
from odonata.telemetry.record import ListRecorder
from odonata.wire.message import Value
from simulator.campaign import Campaign
from simulator.client import client_named
from simulator.policy import Policy
from simulator.scenario import Scenario

if TYPE_CHECKING:
    from simulator.place import Place
    from simulator.report import Outcome, SwarmReport

DAY_ONE_S = 1_700_000_000.0
"""Virtual time 0 in records, as seconds since 1970: some day, so that times look like times."""


class Order(Value, frozen=True, kw_only=True):
    """One world to run. `telemetry`: the folder for its records; None: it keeps none."""

    name: str
    """Of the scenario."""
    scenario: Scenario
    policy: Policy
    client: str
    seed: int
    telemetry: Path | None = None

    @property
    def stem(self) -> str:
        """What its records are called."""
        return f"{self.name}-{self.policy.name}-{self.client}-{self.seed}"


class HostOutcome(Value, frozen=True, kw_only=True):
    """How one host fared with one file. Times in virtual seconds, rates in bytes per second."""

    host: str
    uplink_bytes_per_s: float
    """As it is, at the end of the file."""
    is_slow: bool
    degrades: bool
    vanishes: bool
    started_at_s: float
    took_s: float | None
    """None: it did not get the whole content."""
    failure: str
    """"" if it did; "crashed" if the host died."""
    from_peers_bytes: int
    from_seeds_bytes: int
    from_source_bytes: int


class FileOutcome(Value, frozen=True, kw_only=True):
    """How a swarm fared with one file. `copies`: bytes that left, in copies of the content."""

    number: int
    bound_s: float
    source_copies: float
    seed_copies: float
    """Of all seeds together."""
    source_requests: int
    hosts: tuple[HostOutcome, ...]

    @property
    def stretches(self) -> list[float]:
        """Times of all that completed as multiples of the bound."""
        return [h.took_s / self.bound_s for h in self.hosts if h.took_s is not None]

    @property
    def failures(self) -> int:
        """Hosts that did not get the content, though they lived."""
        return sum(h.failure not in {"", CRASHED} for h in self.hosts)


class WorldOutcome(Value, frozen=True, kw_only=True):
    """One world under one policy and client."""

    scenario: str
    policy: str
    client: str
    seed: int
    judged_from: int
    """The first file that counts, from 1."""
    files: tuple[FileOutcome, ...]

    @property
    def judged(self) -> tuple[FileOutcome, ...]:
        return self.files[self.judged_from - 1 :]


CRASHED = "crashed"


def run_world(order: Order) -> WorldOutcome:
    """Run one world in this process."""
    recorder = None if order.telemetry is None else ListRecorder()
    client = client_named(order.client)
    campaign = Campaign(order.scenario, order.policy, client, order.seed, recorder)
    reports = campaign.run()
    if recorder is not None and order.telemetry is not None:
        write_tables(recorder.records, order.telemetry, order.stem, clock_offset_s=DAY_ONE_S)
    return WorldOutcome(
        scenario=order.name,
        policy=order.policy.name,
        client=order.client,
        seed=order.seed,
        judged_from=order.scenario.judged_from,
        files=tuple(
            _file(campaign.place, report, number) for number, report in enumerate(reports, 1)
        ),
    )


def run_worlds(
    orders: Sequence[Order],
    *,
    jobs: int,
    on_done: Callable[[Order], None] = lambda _: None,
) -> list[WorldOutcome]:
    """Run all, `jobs` at a time; the results are in the order of `orders`.

    `on_done` is called in this process as each one ends. The first failure of a world ends the
    study with its error.
    """
    if jobs <= 1 or len(orders) <= 1:
        outcomes: list[WorldOutcome] = []
        for order in orders:
            outcomes.append(run_world(order))
            on_done(order)
        return outcomes
    # Not "fork": this process may have threads (of numpy, of a progress bar).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(orders)), mp_context=context) as pool:
        futures = {pool.submit(_encoded, order): i for i, order in enumerate(orders)}
        found: dict[int, WorldOutcome] = {}
        try:
            for future in as_completed(futures):
                number = futures[future]
                found[number] = msgspec.json.decode(future.result(), type=WorldOutcome)
                on_done(orders[number])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[number] for number in range(len(orders))]


def _encoded(order: Order) -> bytes:
    return msgspec.json.encode(run_world(order))


def _file(place: Place, report: SwarmReport, number: int) -> FileOutcome:
    seeds = [giver.name for giver in report.givers if giver.name.startswith("seed")]
    return FileOutcome(
        number=number,
        bound_s=report.bound_s,
        source_copies=report.source_copies,
        seed_copies=sum(report.copies(name) for name in seeds),
        source_requests=report.source_requests,
        hosts=tuple(_host(place, report, outcome) for outcome in report.outcomes),
    )


def _host(place: Place, report: SwarmReport, outcome: Outcome) -> HostOutcome:
    host = place.host_named(outcome.name)
    given = outcome.fetched_from
    seeds = sum(n for who, n in given.items() if who.startswith("seed"))
    peers = sum(given.values()) - seeds
    completed = outcome.completed
    failure = "" if completed else "did not end"
    if outcome.crashed:
        failure = CRASHED
    elif outcome.error is not None:
        failure = outcome.error.detail
    return HostOutcome(
        host=outcome.name,
        uplink_bytes_per_s=host.link.up,
        is_slow=host.is_slow,
        degrades=host.degrades,
        vanishes=host.vanishes_at_s is not None,
        started_at_s=outcome.started_at_s,
        took_s=outcome.took_s,
        failure=failure,
        from_peers_bytes=peers,
        from_seeds_bytes=seeds,
        from_source_bytes=report.size - peers - seeds if completed else 0,
    )
