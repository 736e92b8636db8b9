"""A campaign in a terminal: its summary by kind of fault, and why a run failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.table import Table

from simulator.fault.swarm import HarshSwarm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.fault.ending import Ending
    from simulator.fault.plan import Plan
    from simulator.fault.run import Result
    from simulator.parts import Parts

STORY_LINES: Final = 15
DECISIONS: Final = 4
LOG_LINES: Final = 60
"""Of each failing download, and of the world's log: the last ones tell most."""


def summary(results: Sequence[Result]) -> Table:
    """How often each kind of fault was drawn, and in how many runs that failed."""
    runs: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for result in results:
        for kind in set(result.kinds) or {"(none)"}:
            runs[kind] += 1
            failed[kind] += result.is_failure
    table = Table(title="Runs by kind of fault")
    for heading in ("fault", "runs", "failed"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for kind in sorted(runs):
        table.add_row(kind, f"{runs[kind]}", f"{failed[kind]}")
    return table


def endings_line(results: Sequence[Result]) -> str:
    """How all downloads of all runs ended."""
    endings: Counter[str] = Counter()
    for result in results:
        endings.update(result.endings)
    parts = [f"{count:,} {how}" for how, count in endings.most_common()]
    return f"{endings.total():,} downloads: {', '.join(parts)}"


def replay(seed: int, only: Sequence[int] | None = None) -> str:
    """The command that shows the run again."""
    chosen = "" if only is None else f" --only {','.join(map(str, only)) or 'none'}"
    return f"./run sim --faults --seed {seed}{chosen} --explain"


def explanation(plan: Plan, findings: Sequence[str], parts: Parts | None = None) -> list[str]:
    """The plan, what is wrong, and the story of everybody it concerns: in lines."""
    swarm = HarshSwarm(plan, parts=parts, keep_log=True)
    try:
        swarm.live()
    except Exception as error:  # noqa: BLE001  # told below: it is one of the findings
        swarm.world.note("world", f"broke: {type(error).__name__}: {error}")
    lines = [*plan.lines(), "", *(f"WRONG: {finding}" for finding in findings)]
    concerned = [one for one in swarm.endings if _concerns(one, findings)]
    for ending in concerned:
        lines += _story(swarm, ending)
    lines += ["", f"the last {LOG_LINES} lines of the log:"]
    return lines + [f"  {line}" for line in swarm.world.log[-LOG_LINES:]]


def _concerns(ending: Ending, findings: Sequence[str]) -> bool:
    return any(finding.startswith(f"{ending.host} ") for finding in findings)


def _story(swarm: HarshSwarm, ending: Ending) -> list[str]:
    """What a download went through, and what the scheduler decided about it."""
    lines = ["", f"{ending.host} as {ending.peer_id}: {ending.how}, in state {ending.state}"]
    lines += [f"  {line}" for line in ending.story[-STORY_LINES:]]
    core = swarm.place.scheduler
    for decision in [] if core is None else core.explain(child_id=ending.peer_id)[-DECISIONS:]:
        lines.append(f"  scheduler at {decision.at_s:.3f} s: {decision.outcome}: {decision.reason}")
        lines += [f"    {one.peer_id}: {one.dropped or 'chosen'}" for one in decision.candidates]
    return lines
