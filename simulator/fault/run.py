"""One plan lived through in this process, and many of them on as many cores as there are.

A run is a process's own affair from its seed to its result, so the results are the same whatever
the number of jobs. What comes back is plain data, as JSON.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from odonata.errors import InternalError
from odonata.wire.message import Value
from simulator.fault.draw import draw_plan
from simulator.fault.swarm import HarshSwarm
from simulator.fault.verdict import findings_of

if TYPE_CHECKING:
    from simulator.fault.plan import Plan
    from simulator.parts import Parts

THOROUGH_EVERY: Final = 4
"""In every fourth run the scheduler's invariants are checked after each event: it doubles the
time of a run."""
SEEDS_PER_ERRAND: Final = 20
"""Handed to another process at a time: a second or two of work."""


class Result(Value, frozen=True, kw_only=True):
    """How one run went. `kinds`: of its faults; `endings`: downloads by how they ended."""

    seed: int
    findings: tuple[str, ...]
    kinds: tuple[str, ...]
    endings: dict[str, int]
    took_s: float

    @property
    def is_failure(self) -> bool:
        return bool(self.findings)


def run_plan(plan: Plan, *, thorough: bool = True, parts: Parts | None = None) -> Result:
    """Live through `plan` and judge it. `thorough`: with the scheduler's invariants each time.

    An exception is a finding like any other: no fault of a world may break a core.
    """
    began_s = perf_counter()
    swarm = HarshSwarm(plan, parts=parts, thorough=thorough)
    try:
        swarm.live()
        findings = findings_of(swarm)
    except (InternalError, AssertionError, LookupError, ValueError, TypeError) as error:
        findings = [f"{type(error).__name__}: {error}; {_where(error)}"]
    endings: dict[str, int] = {}
    for ending in swarm.endings:
        endings[ending.how] = endings.get(ending.how, 0) + 1
    return Result(
        seed=plan.seed,
        findings=tuple(findings),
        kinds=tuple(fault.kind for fault in plan.faults),
        endings=endings,
        took_s=perf_counter() - began_s,
    )


def run_seed(seed: int) -> Result:
    """The run of that seed, thorough if it is its turn."""
    return run_plan(draw_plan(seed), thorough=seed % THOROUGH_EVERY == 0)


def run_seeds(
    seeds: Sequence[int], *, jobs: int, on_done: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Run them all, `jobs` at a time; the results are in the order of `seeds`.

    `on_done` is called in this process as each one ends.
    """
    found: dict[int, Result] = {}

    def take(results: Iterable[Result]) -> None:
        for result in results:
            found[result.seed] = result
            on_done(result)

    if jobs <= 1 or len(seeds) <= SEEDS_PER_ERRAND:
        take(map(run_seed, seeds))
        return [found[seed] for seed in seeds]
    errands = _errands(seeds)
    # Not "fork": this process may have threads (of numpy, of a progress bar).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(errands)), mp_context=context) as pool:
        futures = [pool.submit(_run_errand, errand) for errand in errands]
        try:
            for future in as_completed(futures):
                take(msgspec.json.decode(future.result(), type=list[Result]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[seed] for seed in seeds]


def _errands(seeds: Sequence[int]) -> list[list[int]]:
    return [
        list(seeds[start : start + SEEDS_PER_ERRAND])
        for start in range(0, len(seeds), SEEDS_PER_ERRAND)
    ]


def _run_errand(seeds: list[int]) -> bytes:
    return msgspec.json.encode([run_seed(seed) for seed in seeds])


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
