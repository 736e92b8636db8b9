"""The registry on a real MLflow store: versions, aliases, promotion, rollback, and crashes between
their steps.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from support.model_registry import logged, registry_at, uri_of

from models.bundle import BUNDLE_FILES, BundleError, current_version, load_bundle
from odonata.errors import NotFoundError, PreconditionError, StorageError
from training.registry import CHALLENGER, CHAMPION, LAST_GOOD, Registry, RunRecord, Version


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_at(tmp_path / "mlflow")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def log(registry: Registry, tmp_path: Path) -> Callable[[str], Version]:
    return lambda version: logged(registry, tmp_path / "drafts", version)


def alias_of(registry: Registry, alias: str) -> int | None:
    try:
        return registry.find(alias).number
    except NotFoundError:
        return None


def artifacts(registry: Registry, version: Version) -> Path:
    root = Path(registry.tracking_uri.removeprefix("sqlite:///")).parent / "artifacts"
    return root / version.run_id / "artifacts"


def test_training_is_kept_as_plain_files_and_named_challenger(
    registry: Registry, log: Callable[[str], Version]
) -> None:
    version = log("v1")
    assert (version.number, version.bundle_version) == (1, "v1")
    assert version.aliases == (CHALLENGER,)
    kept = artifacts(registry, version)
    assert sorted(path.name for path in (kept / "bundle").iterdir()) == sorted(BUNDLE_FILES)
    assert (kept / "card.md").read_text() == "# v1\n"
    assert not list(kept.rglob("*.pkl"))
    assert load_bundle(kept / "bundle").version == "v1"
    second = log("v2")
    assert [each.number for each in registry.versions()] == [2, 1]
    assert alias_of(registry, CHALLENGER) == second.number


def test_run_holds_params_metrics_and_data(
    registry: Registry, log: Callable[[str], Version]
) -> None:
    version = log("v1")
    file = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        params = dict(database.execute("select key, value from params").fetchall())
        metrics = dict(database.execute("select key, value from metrics").fetchall())
        tags = dict(database.execute("select key, value from tags").fetchall())
        status = database.execute("select status from runs").fetchone()[0]
        digest = database.execute("select digest from datasets").fetchone()[0]
    database.close()
    assert params == {"seed": "1", "trees": "10"}
    assert metrics == {"time.all.learned.regret_at_1": 0.25}
    assert tags["data_sha256"] == "abc"
    assert not [name for name in tags if "git" in name]
    assert (status, digest) == ("FINISHED", ("abc" * 20)[:36])
    assert version.tags["gate"] == "open"


def test_promotion_publishes_and_moves_the_aliases(
    registry: Registry, place: Path, log: Callable[[str], Version]
) -> None:
    log("v1")
    first = registry.promote(CHALLENGER, place)
    assert (current_version(place), first.before) == ("v1", None)
    assert alias_of(registry, CHAMPION) == 1
    assert alias_of(registry, LAST_GOOD) is None
    assert alias_of(registry, CHALLENGER) is None
    log("v2")
    second = registry.promote("2", place)
    assert second.before is not None
    assert (second.version.number, second.before.number) == (2, 1)
    assert current_version(place) == "v2"
    assert load_bundle(place / "current").version == "v2"
    assert (alias_of(registry, CHAMPION), alias_of(registry, LAST_GOOD)) == (2, 1)


def test_promoting_the_champion_again_keeps_the_way_back(
    registry: Registry, place: Path, log: Callable[[str], Version]
) -> None:
    for version in ("v1", "v2"):
        log(version)
        registry.promote(CHALLENGER, place)
    again = registry.promote("2", place)
    assert again.version.number == 2
    assert alias_of(registry, LAST_GOOD) == 1


def test_rollback_brings_back_the_last_good_one(
    registry: Registry, place: Path, log: Callable[[str], Version]
) -> None:
    for version in ("v1", "v2"):
        log(version)
        registry.promote(CHALLENGER, place)
    promotion = registry.rollback(place)
    assert promotion.before is not None
    assert (promotion.version.number, promotion.before.number) == (1, 2)
    assert current_version(place) == "v1"
    assert alias_of(registry, CHAMPION) == 1
    assert registry.find("2").tags["rolled_back"] == "true"
    registry.promote("2", place)
    assert registry.find("2").tags["rolled_back"] == "false"


def test_rollback_needs_something_to_go_back_to(
    registry: Registry, place: Path, log: Callable[[str], Version]
) -> None:
    with pytest.raises(PreconditionError, match="no last_good"):
        registry.rollback(place)
    log("v1")
    registry.promote("1", place)
    with pytest.raises(PreconditionError, match="nothing was promoted before"):
        registry.rollback(place)
    assert current_version(place) == "v1"


@pytest.mark.parametrize("damage", ["tampered", "removed", "truncated"])
def test_broken_bundle_is_refused_before_anything_changes(
    registry: Registry, place: Path, log: Callable[[str], Version], damage: str
) -> None:
    log("v1")
    registry.promote("1", place)
    broken = artifacts(registry, log("v2")) / "bundle"
    if damage == "removed":
        (broken / "goodput.txt").unlink()
    elif damage == "truncated":
        text = (broken / "model.txt").read_text()
        (broken / "model.txt").write_text(text[: len(text) // 2])
    else:
        manifest = json.loads((broken / "manifest.json").read_text())
        manifest["golden"][0]["scores"][0] += 1.0
        (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        registry.promote("2", place)
    assert current_version(place) == "v1"
    assert (alias_of(registry, CHAMPION), alias_of(registry, LAST_GOOD)) == (1, None)
    assert alias_of(registry, CHALLENGER) == 2


class PowerCutError(Exception):
    """The process ends here."""


class Cut(Registry):
    """A registry whose process ends before one of its alias changes."""

    def __init__(self, tracking_uri: str, before: str) -> None:
        super().__init__(tracking_uri)
        self._before = before

    def _set_alias(self, alias: str, version: Version) -> None:
        if alias == self._before:
            raise PowerCutError
        super()._set_alias(alias, version)


@pytest.mark.parametrize(("step", "serving"), [(LAST_GOOD, "v2"), (CHAMPION, "v3")])
@pytest.mark.parametrize("after", ["promote", "rollback"])
def test_crash_in_a_promotion_leaves_a_good_model_and_both_ways_open(
    registry: Registry,
    place: Path,
    log: Callable[[str], Version],
    step: str,
    serving: str,
    after: str,
) -> None:
    for version in ("v1", "v2"):
        log(version)
        registry.promote(CHALLENGER, place)
    log("v3")
    with pytest.raises(PowerCutError):
        Cut(registry.tracking_uri, step).promote("3", place)
    assert load_bundle(place / "current").version == serving
    assert alias_of(registry, CHAMPION) == 2
    if after == "promote":
        registry.promote("3", place)
        assert (alias_of(registry, CHAMPION), alias_of(registry, LAST_GOOD)) == (3, 2)
        assert current_version(place) == "v3"
    else:
        registry.rollback(place)
        good = "v1" if step == LAST_GOOD else "v2"
        assert current_version(place) == good
        assert registry.find(CHAMPION).bundle_version == good


def test_crash_in_a_rollback_is_completed_by_another(
    registry: Registry, place: Path, log: Callable[[str], Version]
) -> None:
    for version in ("v1", "v2"):
        log(version)
        registry.promote(CHALLENGER, place)
    with pytest.raises(PowerCutError):
        Cut(registry.tracking_uri, CHAMPION).rollback(place)
    assert current_version(place) == "v1"
    registry.rollback(place)
    assert (current_version(place), alias_of(registry, CHAMPION)) == ("v1", 1)


def test_what_is_not_there_is_named(registry: Registry, log: Callable[[str], Version]) -> None:
    with pytest.raises(NotFoundError, match="no aliases"):
        registry.find(CHAMPION)
    log("v1")
    for which in ("2", "nobody", "0", ""):
        with pytest.raises(NotFoundError, match="challenger = 1"):
            registry.find(which)


def test_bundle_that_nobody_could_load_is_not_logged(registry: Registry, tmp_path: Path) -> None:
    record = RunRecord(
        name="v1",
        created_at_s=0.0,
        params={},
        metrics={},
        tags={},
        bundle=tmp_path,
        files=(),
        data_digest="",
        data_source="",
    )
    with pytest.raises(BundleError):
        registry.log("tests", record)
    assert registry.versions() == []


def test_database_that_is_none_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, it is a letter")
    with pytest.raises(StorageError, match=r"mlflow\.db"):
        Registry(uri_of(tmp_path)).versions()


def test_mlflow_is_told_to_send_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    assert Registry(registry.tracking_uri).versions() == []
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
