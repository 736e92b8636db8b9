"""What `odonata sim --faults` does: a campaign of seeds, or one seed explained."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

import click

from odonata.errors import CallerError, OdonataError

if TYPE_CHECKING:
    from simulator.fault.plan import Plan
    from simulator.fault.run import Result
    from simulator.parts import Parts

SEEDS: Final = 2000
EXPLAINED_MAX: Final = 3
"""Failing seeds that a campaign explains and shrinks; the others are named."""


def campaign(*, first: int, count: int, jobs: int) -> None:
    """Run so many seeds; OdonataError if one of them fails."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from simulator.fault.run import run_seeds
    from simulator.fault.show import endings_line, summary

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    began_s = perf_counter()
    failed = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("seeds", total=count)

        def advance(result: Result) -> None:
            nonlocal failed
            failed += result.is_failure
            told = f"seeds, {failed} failed" if failed else "seeds"
            progress.update(bar, advance=1, description=told)

        results = run_seeds(range(first, first + count), jobs=jobs, on_done=advance)
    took_s = perf_counter() - began_s
    console = Console(soft_wrap=True)
    console.print(summary(results))
    console.print(endings_line(results), highlight=False)
    per_seed_ms = 1000 * sum(result.took_s for result in results) / count
    console.print(
        f"{count:,} seeds from {first} in {took_s:.0f} s, {per_seed_ms:.0f} ms of a core each",
        highlight=False,
    )
    _tell_failures([result for result in results if result.is_failure], count)


def explain(seed: int, only: str | None, *, parts: Parts | None = None) -> None:
    """Run one seed, with all faults of its plan or `only` some, and tell the whole story.

    `only`: their numbers, separated by commas, or "none". `parts`: others than production's.
    OdonataError if the run fails.
    """
    from simulator.fault.draw import draw_plan
    from simulator.fault.run import run_plan
    from simulator.fault.show import explanation

    plan = draw_plan(seed)
    if only is not None:
        plan = plan.only(_numbers(only, len(plan.faults)))
    result = run_plan(plan, parts=parts)
    for line in explanation(plan, result.findings, parts):
        click.echo(line)
    click.echo(f"\nendings: {', '.join(f'{n} {how}' for how, n in result.endings.items())}")
    if result.is_failure:
        if only is None:
            _tell_shrunk(plan, parts)
        raise OdonataError(f"seed {seed} fails: {result.findings[0]}")


def _tell_failures(failures: list[Result], count: int) -> None:
    from simulator.fault.draw import draw_plan
    from simulator.fault.show import explanation

    if not failures:
        return
    for result in failures[:EXPLAINED_MAX]:
        plan = draw_plan(result.seed)
        click.echo(f"\n--- seed {result.seed} ---")
        for line in explanation(plan, result.findings):
            click.echo(line)
        _tell_shrunk(plan)
    for result in failures[EXPLAINED_MAX:]:
        click.echo(f"seed {result.seed}: {result.findings[0]}")
    raise OdonataError(f"{len(failures)} of {count} seeds failed")


def _tell_shrunk(plan: Plan, parts: Parts | None = None) -> None:
    """How to see a failing run again, and with which of its faults it fails already."""
    from simulator.fault.run import run_plan
    from simulator.fault.show import replay
    from simulator.fault.shrink import shrink

    def fails(fewer: Plan) -> bool:
        return run_plan(fewer, parts=parts).is_failure

    click.echo(f"\nreplay: {replay(plan.seed)}")
    kept = shrink(plan, fails) if fails(plan) else ()
    if len(kept) < len(plan.faults):
        click.echo(f"enough: {replay(plan.seed, kept)}")
        for line in plan.only(kept).lines():
            click.echo(f"  {line}")


def _numbers(text: str, count: int) -> list[int]:
    if text == "none":
        return []
    words = text.split(",")
    if not all(word.strip().isdigit() and 1 <= int(word) <= count for word in words):
        raise CallerError(
            f"--only {text!r} names no faults of this seed: write numbers from 1 to {count}, "
            "separated by commas, or none"
        )
    return [int(word) for word in words]
