"""A real scheduler whose model is taken away, damaged, replaced or slowed while it decides.

Every child is given parents, the rule ranks, and the reason is seen in /explain, /metrics, /model.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs
from support.eventually import eventually
from support.ranker_bundle import published, tiny_bundle
from support.scheduler_client import connected
from support.scheduler_page import Swarm, json_page, metric, watching

from models.bundle import publish, withdraw
from models.facts import FloatArray
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import SchedulerSettings


@asynccontextmanager
async def running(settings: SchedulerSettings) -> AsyncGenerator[tuple[SchedulerApp, Swarm]]:
    async with (
        SchedulerApp(settings, Random(1)) as app,
        connected(app.address) as client,
    ):
        swarm = Swarm(app, client)
        await swarm.begin()
        yield app, swarm


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


Damage = Callable[[Path], object]


def current(place: Path, name: str) -> Path:
    return place / "current" / name


def truncate(place: Path) -> None:
    path = current(place, "model.txt")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def tamper(place: Path) -> None:
    path = current(place, "goodput.txt")
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 1
    changed = path.with_name("changed")
    changed.write_bytes(text)
    changed.replace(path)  # at once: half a file would be another thing to tell


def put_a_folder(place: Path) -> None:
    current(place, "model.txt").unlink()
    current(place, "model.txt").mkdir()


def lead_in_circles(place: Path) -> None:
    (place / "current").unlink()
    (place / "current").symlink_to("current")


def dangle(place: Path) -> None:
    (place / "current").unlink()
    (place / "current").symlink_to("versions/nowhere")


def of_another_schema(place: Path) -> None:
    path = current(place, "manifest.json")
    manifest = json.loads(path.read_bytes())
    manifest["feature_schema"] = "0123456789abcdef"
    path.write_text(json.dumps(manifest))


DAMAGES: list[tuple[Damage, str]] = [
    (withdraw, "missing"),
    (shutil.rmtree, "missing"),
    (lambda place: current(place, "manifest.json").unlink(), "missing"),
    (lambda place: current(place, "goodput.txt").unlink(), "missing"),
    (dangle, "missing"),
    (truncate, "checksum"),
    (lambda place: current(place, "model.txt").write_bytes(b""), "checksum"),
    (tamper, "checksum"),
    (lambda place: current(place, "manifest.json").write_bytes(b"{"), "manifest"),
    (of_another_schema, "schema"),
    (put_a_folder, "unreadable"),
    (lead_in_circles, "unreadable"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
async def test_whatever_becomes_of_the_model_children_get_parents(
    place: Path, damage: Damage, reason: str
) -> None:
    published(place, "1")
    async with running(watching(place)) as (app, swarm):
        decision = await swarm.decide()
        assert (decision.ranker, decision.ranked_by) == ("learned", "learned")
        assert (decision.model_version, decision.fallback) == ("1", "")
        assert await metric(app, "odonata_scheduler_model_loaded") == 1

        damage(place)
        await decide_until_seen(app, swarm, reason)
        decision = await swarm.decide()
        assert (decision.ranker, decision.ranked_by) == ("learned", "rule")
        assert (decision.model_version, decision.fallback) == ("", reason)
        assert decision.candidates[0].dropped == ""
        await assert_seen(app, decision.child_id, reason)

        shutil.rmtree(place, ignore_errors=True)
        published(place, "2")
        await eventually(lambda: app.ranker.holder.model)
        assert (await swarm.decide()).model_version == "2"


async def decide_until_seen(app: SchedulerApp, swarm: Swarm, reason: str) -> None:
    """Decisions go on until the watch has seen what happened."""
    for _ in range(500):
        decision = await swarm.decide()
        assert decision.candidates[0].dropped == ""
        if app.ranker.holder.reason == reason:
            return
    raise AssertionError(f"the model still ranks: {app.ranker.holder.reason!r}")


async def assert_seen(app: SchedulerApp, child_id: str, reason: str) -> None:
    """On every page that tells of it."""
    (told,) = (await json_page(app, f"/explain?peer={child_id}"))["decisions"]
    assert (told["ranked_by"], told["fallback"]) == ("rule", reason)
    model = await json_page(app, "/model")
    assert not model["loaded"]
    assert (model["reason"], model["ranker"]) == (reason, "learned")
    assert model["detail"]
    assert model["fallback_counts"][reason] >= 1
    counted = model["fallback_counts"][reason]
    assert await metric(app, f'odonata_scheduler_fallbacks_total{{reason="{reason}"}}') == counted
    labels = f'fallback="{reason}",outcome="parents",ranked_by="rule"'
    assert await metric(app, f"odonata_scheduler_decisions_total{{{labels}}}") == counted
    assert await metric(app, "odonata_scheduler_model_loaded") == 0


async def test_a_new_version_takes_over_between_two_decisions(place: Path) -> None:
    published(place, "1")
    async with running(watching(place)) as (app, swarm):
        assert (await swarm.decide()).model_version == "1"
        published(place, "2", trees=5)
        await eventually(lambda: app.ranker.watch and app.ranker.watch.manifest)
        await eventually(lambda: app.ranker.holder.model and app.ranker.holder.model.version == "2")
        assert (await swarm.decide()).model_version == "2"
        publish(place / "versions" / "1", place)
        await eventually(lambda: app.ranker.holder.model and app.ranker.holder.model.version == "1")
        assert (await swarm.decide()).model_version == "1"


async def test_a_file_that_is_rewritten_in_place_is_seen_broken_and_then_whole(
    place: Path,
) -> None:
    published(place, "1")
    async with running(watching(place)) as (app, swarm):
        whole = current(place, "model.txt").read_bytes()
        with current(place, "model.txt").open("wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            await eventually(lambda: app.ranker.holder.reason == "checksum")
            assert (await swarm.decide()).fallback == "checksum"
            file.write(whole[len(whole) // 2 :])
        await eventually(lambda: app.ranker.holder.model)
        assert (await swarm.decide()).ranked_by == "learned"


async def test_each_change_is_logged_once(place: Path) -> None:
    published(place, "1")
    with capture_logs() as logs:
        async with running(watching(place)) as (app, _):
            tamper(place)
            await eventually(lambda: app.ranker.holder.reason == "checksum")
            assert app.ranker.watch is not None
            for _ in range(3):
                await app.ranker.watch.check()
            publish(place.parent / "drafts" / "1", place)
            await eventually(lambda: app.ranker.holder.model)
            withdraw(place)
            await eventually(lambda: app.ranker.holder.reason == "missing")
    told = [
        (one["event"], one.get("reason"), one["log_level"])
        for one in logs
        if one["event"].startswith("model_")
    ]
    assert told == [
        ("model_loaded", None, "info"),
        ("model_missed", "checksum", "warning"),
        ("model_loaded", None, "info"),
        ("model_missed", "missing", "warning"),
    ]


# --- a slow model ---------------------------------------------------------------------------------


class SlowModel:
    """Takes longer than any decision may."""

    version = "slow"

    def score(self, features: FloatArray) -> FloatArray:
        end_s = time.perf_counter() + 0.02
        while time.perf_counter() < end_s:
            pass
        return features[:, 0]


async def test_a_slow_model_is_done_without(place: Path) -> None:
    async with running(watching(place, budget_s=0.005)) as (app, swarm):
        assert app.ranker.watch is not None
        await app.ranker.watch.close()  # nobody takes it away again
        app.ranker.holder.swap(SlowModel())
        fallbacks = [(await swarm.decide()).fallback for _ in range(6)]
        assert fallbacks == ["budget"] * 3 + ["resting"] * 3
        await_metric = 'odonata_scheduler_fallbacks_total{reason="budget"}'
        assert await metric(app, await_metric) == 3
        assert (await json_page(app, "/model"))["fallback_counts"]["resting"] == 3
        (told,) = (await json_page(app, "/explain?peer=child-2-peer"))["decisions"]
        assert (told["ranked_by"], told["fallback"]) == ("rule", "budget")


async def test_a_budget_that_no_model_can_keep(place: Path) -> None:
    published(place, "1")
    async with running(watching(place, budget_s=0.0)) as (app, swarm):
        assert (await swarm.decide()).fallback == "budget"
        assert await metric(app, "odonata_scheduler_model_loaded") == 1


# --- no model at all ------------------------------------------------------------------------------


async def test_nothing_was_published_yet(place: Path, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running(watching(place)) as (app, swarm):
            decision = await swarm.decide()
            assert (decision.ranked_by, decision.fallback) == ("rule", "no_model")
            report = await json_page(app, "/model")
            assert report["reason"] == "no_model"
            assert str(place) in report["detail"]
            tiny_bundle(tmp_path / "draft", "5")
            publish(tmp_path / "draft", place)
            await eventually(lambda: app.ranker.holder.model)
            assert (await swarm.decide()).model_version == "5"
            assert (await json_page(app, "/model"))["card"]["about"] == "a toy"
    assert [one["log_level"] for one in logs if one["event"] == "model_missed"] == ["debug"]


async def test_who_asks_for_a_learned_ranker_is_warned_that_there_is_none(place: Path) -> None:
    with capture_logs() as logs:
        async with running(watching(place, algorithm="learned")):
            pass
    assert [one["log_level"] for one in logs if one["event"] == "model_missed"] == ["warning"]


@pytest.mark.parametrize("algorithm", ["rule", "random", "dragonfly"])
async def test_other_rankers_look_for_no_model(place: Path, algorithm: str) -> None:
    published(place, "1")
    async with running(watching(place, algorithm=algorithm)) as (app, swarm):
        decision = await swarm.decide()
        assert (decision.ranker, decision.ranked_by, decision.fallback) == (
            algorithm,
            algorithm,
            "",
        )
        assert await json_page(app, "/model") == {"ranker": algorithm, "loaded": False}
        assert await metric(app, "odonata_scheduler_ranking_seconds_count") >= 1
