"""Fifty downloads under way when something befalls the model: all end right, and the rule ranks.

The origin holds every file back in its middle until a test lets go, so that all fifty are under way
at once: thirty of them have their parents from the model before it is hit, ten ask while it is hit,
and ten more once the scheduler has noticed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.daemon import MIB, PATIENCE_S, environment
from support.eventually import eventually
from support.learning_swarm import PEER_NUMBERS, LearningSwarm, learning_swarm
from support.origin import Manners
from support.ranker_bundle import published, tiny_bundle
from support.scheduler_page import json_page, metric, watching

from models.bundle import publish, withdraw
from models.facts import FloatArray
from models.guard import FALLBACKS
from scheduler.core.story import Decision, Outcome
from scheduler.runtime.app import SchedulerApp

GOOD, SECOND = "1", "2"
BUDGET_S = 0.4
"""For the model: none of this size takes that long on any machine, unless it wants to."""
BEFORE = tuple(f"before{number}" for number in range(6))
MEANWHILE = tuple(f"meanwhile{number}" for number in range(2))
AFTER = tuple(f"after{number}" for number in range(2))
SIZES = dict(zip((*BEFORE, *MEANWHILE, *AFTER), (3, 4, 5, 6, 7, 8, 3, 8, 5, 6), strict=True))
"""In MiB; five peers download each of the ten."""


@dataclass
class Scene:
    """A scheduler with a model, a swarm, and fifty downloads that wait at their middle."""

    app: SchedulerApp
    swarm: LearningSwarm
    place: Path
    drafts: Path
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def decisions(self, names: Sequence[str]) -> list[Decision]:
        """All answers with parents to those who download these files."""
        return [
            decision
            for name in names
            for decision in self.app.core.explain(task_id=self.swarm.task_id(name))
            if decision.outcome is Outcome.PARENTS
        ]

    async def begin(self, names: Sequence[str], tasks: asyncio.TaskGroup) -> None:
        """Every peer downloads every one of these files; return when all have parents."""
        for name in names:
            self.swarm.offer(name, SIZES[name] * MIB, Manners(gate=self.gate))
        for name in names:
            tasks.create_task(self.swarm.fetch_all(name))
        children = len(names) * len(PEER_NUMBERS)
        await eventually(lambda: self._child_count(names) == children, PATIENCE_S)

    def _child_count(self, names: Sequence[str]) -> int:
        return len({decision.child_id for decision in self.decisions(names)})


@asynccontextmanager
async def scene(folder: Path) -> AsyncGenerator[Scene]:
    """Everybody is there, knows something of the others, and the good model ranks."""
    place = folder / "place"
    published(place, GOOD)
    settings = watching(place, budget_s=BUDGET_S)
    async with SchedulerApp(settings) as app, learning_swarm(folder, app.address) as swarm:
        for number in PEER_NUMBERS:
            await swarm.add(number, telemetry__enable=False)
        swarm.offer("first", 9 * MIB)
        await swarm.fetch_all("first")
        yield Scene(app, swarm, place, folder / "drafts")


# --- what befalls the model -----------------------------------------------------------------------


class SlowModel:
    """Takes longer than any decision may."""

    version = "slow"

    def score(self, features: FloatArray) -> FloatArray:
        end_s = time.perf_counter() + 1.25 * BUDGET_S
        while time.perf_counter() < end_s:
            pass
        return features[:, 0]


class RaisingModel:
    """Fails at every decision."""

    version = "raising"

    def score(self, features: FloatArray) -> FloatArray:
        raise ZeroDivisionError(f"{len(features)} candidates")


def remove(at: Scene) -> None:
    withdraw(at.place)


def remove_everything(at: Scene) -> None:
    shutil.rmtree(at.place)


def truncate(at: Scene) -> None:
    path = at.place / "current" / "model.txt"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def tamper(at: Scene) -> None:
    """One byte: a digit, so that it is a model still."""
    path = at.place / "current" / "model.txt"
    text = bytearray(path.read_bytes())
    start = text.index(b"threshold=")
    spot = next(n for n in range(start, len(text)) if text[n] in b"12345678")
    text[spot] += 1
    path.write_bytes(text)


def replace_by_another_schema(at: Scene) -> None:
    """A whole bundle whose checksums are right, made for features of another day."""
    stranger = at.place / "versions" / "stranger"
    tiny_bundle(stranger, "stranger")
    manifest = json.loads((stranger / "manifest.json").read_bytes())
    manifest["feature_schema"] = "0123456789abcdef"
    (stranger / "manifest.json").write_text(json.dumps(manifest))
    fresh = at.place / "fresh"
    fresh.symlink_to("versions/stranger")
    fresh.replace(at.place / "current")


def slow_down(at: Scene) -> None:
    at.app.ranker.holder.swap(SlowModel())


def make_it_raise(at: Scene) -> None:
    at.app.ranker.holder.swap(RaisingModel())


def put_back(at: Scene) -> str:
    """The very same one."""
    publish(at.drafts / GOOD, at.place)
    return GOOD


def put_another(at: Scene) -> str:
    published(at.place, SECOND, trees=5)
    return SECOND


@dataclass(frozen=True)
class Case:
    """What is done, for which reason the rule ranks then, and how it is made good."""

    harm: Callable[[Scene], None]
    reasons: tuple[str, ...]
    mend: Callable[[Scene], str] = put_back
    is_loaded: bool = False

    def has_noticed(self, at: Scene) -> bool:
        return self.is_loaded or at.app.ranker.holder.reason == self.reasons[0]


CASES = {
    "removed": Case(remove, ("missing",)),
    "wiped": Case(remove_everything, ("missing",)),
    "truncated": Case(truncate, ("checksum",)),
    "tampered": Case(tamper, ("checksum",)),
    "other_schema": Case(replace_by_another_schema, ("schema",)),
    "slow": Case(slow_down, ("budget", "resting"), put_another, is_loaded=True),
    "raising": Case(make_it_raise, ("error",), put_another, is_loaded=True),
}


ON_REQUEST = ("wiped", "tampered")
"""Next to the same as "removed" and "truncated"."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.long] if name in ON_REQUEST else [])
        for name, case in CASES.items()
    ],
)
async def test_fifty_downloads(tmp_path: Path, case: Case) -> None:
    async with scene(tmp_path) as at:
        async with asyncio.TaskGroup() as tasks:
            await at.begin(BEFORE, tasks)
            by_model = at.decisions(BEFORE)
            assert {(one.ranked_by, one.model_version) for one in by_model} == {("learned", GOOD)}

            case.harm(at)
            await at.begin(MEANWHILE, tasks)
            await eventually(lambda: case.has_noticed(at))
            await at.begin(AFTER, tasks)

            by_rule = at.decisions(AFTER)
            assert {one.ranker for one in by_rule} == {"learned"}
            assert {one.ranked_by for one in by_rule} == {"rule"}
            assert {one.fallback for one in by_rule} <= set(case.reasons)
            assert {one.model_version for one in by_rule} == {""}
            await assert_counted(at, case, by_rule)
            await assert_explained(at, case, by_rule)
            at.gate.set()
        assert len(at.swarm.done) == 50 + len(PEER_NUMBERS)

        version = case.mend(at)
        await eventually(lambda: serving_version(at) == version)
        at.swarm.offer("last", 9 * MIB)
        await at.swarm.fetch_all("last")
        last = at.decisions(["last"])
        assert {(one.ranked_by, one.model_version) for one in last} == {("learned", version)}
        assert await metric(at.app, "odonata_scheduler_model_loaded") == 1


def serving_version(at: Scene) -> str:
    model = at.app.ranker.holder.model
    return model.version if model else ""


async def assert_counted(at: Scene, case: Case, by_rule: list[Decision]) -> None:
    """In /metrics and /model, by reason: at least these decisions, and all that were told."""
    total = 0.0
    for reason in case.reasons:
        known = told_count(at, reason)
        counted = await metric(at.app, f'odonata_scheduler_fallbacks_total{{reason="{reason}"}}')
        assert counted >= sum(one.fallback == reason for one in by_rule)
        labels = f'fallback="{reason}",outcome="parents",ranked_by="rule"'
        told = await metric(at.app, f"odonata_scheduler_decisions_total{{{labels}}}")
        assert known <= told <= told_count(at, reason), "reviews go on while the page is fetched"
        on_page = (await json_page(at.app, "/model"))["fallback_counts"][reason]
        again = await metric(at.app, f'odonata_scheduler_fallbacks_total{{reason="{reason}"}}')
        assert counted <= on_page <= again
        total += counted
    assert total >= len(by_rule) >= len(AFTER) * len(PEER_NUMBERS)
    assert await metric(at.app, "odonata_scheduler_model_loaded") == case.is_loaded


def told_count(at: Scene, reason: str) -> int:
    """Answers with parents that were ranked by the rule for this reason, until now."""
    told = at.app.core.explain()
    return sum(one.fallback == reason and one.outcome is Outcome.PARENTS for one in told)


async def assert_explained(at: Scene, case: Case, by_rule: list[Decision]) -> None:
    """On the page for every child, and in words to who asks on the command line."""
    for child_id in {one.child_id for one in by_rule}:
        told = (await json_page(at.app, f"/explain?peer={child_id}"))["decisions"]
        answers = [one for one in told if one["outcome"] == "parents"]
        assert {(one["ranker"], one["ranked_by"]) for one in answers} == {("learned", "rule")}
        assert {one["fallback"] for one in answers} <= set(case.reasons)
    one = by_rule[-1]
    text = await explain(one.child_id, at.app.status_page.address)
    assert f"rule instead of learned ({one.fallback}: {FALLBACKS[one.fallback]})" in text
    assert all(name.peer_id in text for name in one.candidates)


async def explain(peer_id: str, address: str) -> str:
    """What `odonata explain` prints."""
    program = "from odonata.cli import main; main()"
    words = [
        sys.executable,
        "-c",
        program,
        "explain",
        peer_id,
        f"--scheduler-status=http://{address}",
    ]
    child = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, env=environment() | {"COLUMNS": "250"}
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await child.communicate()
    assert child.returncode == 0
    return out.decode()
