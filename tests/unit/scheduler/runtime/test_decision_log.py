"""The sampled log: which decisions are in it, and what it says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.scheduler_world import World, host

from odonata.logs import GLOSSARY
from odonata.wire.message import EmptyTask, NeedBackToSource, NormalTask
from scheduler.runtime.core_facts import CoreFacts
from scheduler.runtime.decision_log import DecisionLog, is_sampled


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_the_share_is_right_and_a_larger_one_holds_a_smaller_one(share: float) -> None:
    ids = [f"10.0.0.{n % 200}-host-{n}#{n % 5}" for n in range(20_000)]
    sampled = {one for one in ids if is_sampled(one, share)}
    assert len(sampled) / len(ids) == pytest.approx(share, abs=0.01)
    assert sampled <= {one for one in ids if is_sampled(one, min(1.0, 2 * share))}
    assert sampled == {one for one in ids if is_sampled(one, share)}


@dataclass
class Logged:
    world: World
    log: DecisionLog

    def of(self, child_id: str, answer: Any) -> list[dict[str, Any]]:
        with capture_logs() as lines:
            self.log.answered(child_id, answer)
        return [dict(line) for line in lines]


def logged(share: float) -> Logged:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.origin_fetcher("p1", "h1")
    world.piece("p1", 0)
    world.register("p2", "h2")
    core = world.core
    return Logged(world, DecisionLog(share, CoreFacts(core.state).peer, core.explain))


def test_a_line_says_all_of_a_decision() -> None:
    (line,) = logged(1.0).of("p2", NormalTask(parents=()))
    assert line["event"] == "decision_sampled"
    assert (line["decision_id"], line["outcome"]) == ("p2#1", "parents")
    assert line["ranked_by"] == "dragonfly"
    (considered,) = line["considered"]
    assert considered["peer_id"] == "p1"
    assert "score" in considered
    assert "dropped" not in considered, "it was chosen"
    assert len(considered["features"]) > 5
    assert set(line) - {"event", "log_level"} <= set(GLOSSARY)


def test_a_way_to_the_source_is_a_decision_and_an_empty_task_is_none() -> None:
    log = logged(1.0)
    (line,) = log.of("p1", NeedBackToSource(description=""))
    assert (line["decision_id"], line["outcome"]) == ("p1#source1", "source")
    assert log.of("p1", EmptyTask()) == []
    assert log.of("stranger", NormalTask(parents=())) == []


def test_without_a_share_nothing_is_looked_at() -> None:
    assert logged(0.0).of("p2", NormalTask(parents=())) == []
