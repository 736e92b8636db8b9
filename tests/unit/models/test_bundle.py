"""A bundle: written, checked at every file and field, published and mended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ranker_bundle import boosters, candidates, published, tiny_bundle

from models import booster, bundle
from models.bundle import (
    BUNDLE_FILES,
    BundleError,
    current_version,
    load_bundle,
    publish,
    read_manifest,
    withdraw,
    write_bundle,
)
from models.facts import FACT_NAMES, CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix, schema_hash
from models.learned import z_score
from odonata.errors import AlreadyExistsError, CallerError

Tamper = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    tiny_bundle(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A bundle to be spoilt."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def failure(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    return caught.value


def change(folder: Path, tamper: Tamper, *, checksums: bool = False) -> None:
    """Edit the manifest as JSON; `checksums`: and make them right for the files there are."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    tamper(manifest)
    if checksums:
        for name in manifest["files"]:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            manifest["files"][name] = digest
    path.write_text(json.dumps(manifest))


def test_what_was_written_scores_as_the_boosters_that_were_trained(folder: Path) -> None:
    model = load_bundle(folder)
    rank, goodput = boosters()
    for seed in range(50):
        batch = candidates(seed, 1 + seed)
        features = feature_matrix(batch)
        wanted = 0.5 * z_score(np.asarray(rank.predict(features))) + 0.5 * z_score(
            np.asarray(goodput.predict(features))
        )
        assert model.score(features).tolist() == wanted.tolist()
        assert (
            model.log_goodput(features).tolist() == np.asarray(goodput.predict(features)).tolist()
        )


def test_a_manifest_says_what_it_is(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest == load_bundle(folder).manifest
    assert (manifest.name, manifest.version) == ("parent-ranker", "1")
    assert manifest.feature_names == FEATURE_NAMES
    assert manifest.fact_names == FACT_NAMES
    assert manifest.feature_schema == schema_hash()
    assert manifest.card["about"] == "a toy"
    assert len(manifest.golden) == 2
    assert manifest.golden[0].batch().facts.tobytes() == candidates(1000).facts.tobytes()


def test_the_same_model_makes_the_same_files(folder: Path, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "again")
    for name in BUNDLE_FILES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(BUNDLE_FILES)


def test_weights_are_the_shares_of_the_heads(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "rank", weights=bundle.BlendWeights(rank=1.0, goodput=0.0))
    features = feature_matrix(candidates(4))
    rank, _ = boosters()
    wanted = z_score(np.asarray(rank.predict(features)))
    assert load_bundle(tmp_path / "rank").score(features).tolist() == wanted.tolist()


# --- what is refused, and in which order ----------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_file_that_is_not_there(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert failure(folder).reason == "missing"
    assert name in failure(folder).detail


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert failure(tmp_path / "nowhere").reason == "missing"
    (tmp_path / "file").write_text("")
    assert failure(tmp_path / "file").reason == "missing"


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_folder_or_a_pipe_in_a_files_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert failure(folder).reason == "unreadable"
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    assert failure(folder).reason == "unreadable"
    assert "is no file" in failure(folder).detail


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_file_without_end(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MODEL_BYTES_LIMIT", 20_000)
    monkeypatch.setattr(bundle, "MANIFEST_BYTES_LIMIT", 20_000)
    load_bundle(folder)
    with (folder / name).open("ab") as file:
        file.truncate(20_001)
    assert failure(folder).reason == "unreadable"
    assert "more than 20000 bytes" in failure(folder).detail


@pytest.mark.parametrize("name", ["model.txt", "goodput.txt"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_model_that_was_cut_off(folder: Path, name: str, keep: float) -> None:
    text = (folder / name).read_bytes()
    (folder / name).write_bytes(text[: int(text.index(b"end of trees") * keep)])
    assert failure(folder).reason == "checksum"
    change(folder, lambda _: None, checksums=True)
    assert failure(folder).reason == "model"


@pytest.mark.parametrize("name", ["model.txt", "goodput.txt"])
def test_one_byte_of_a_model(folder: Path, name: str) -> None:
    text = bytearray((folder / name).read_bytes())
    text[text.index(b"leaf_value=") + 15] ^= 1
    (folder / name).write_bytes(text)
    assert failure(folder).reason == "checksum"
    assert name in failure(folder).detail


def test_another_model_under_a_manifest_made_to_fit(folder: Path, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "other", trees=3)
    (folder / "model.txt").write_bytes((tmp_path / "other" / "model.txt").read_bytes())
    change(folder, lambda _: None, checksums=True)
    assert failure(folder).reason == "golden"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"{}", b'{"format": "1"}', b"\xff"])
def test_a_manifest_that_is_none(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    assert failure(folder).reason == "manifest"


def drop(field: str) -> Tamper:
    def tamper(manifest: dict[str, Any]) -> None:
        del manifest[field]

    return tamper


def put(value: object, *path: str | int) -> Tamper:
    def tamper(manifest: dict[str, Any]) -> None:
        node: Any = manifest
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value

    return tamper


NONSENSE: list[object] = [None, "x y", -1.5, [], {}, [[1]], True]
FIELDS = [
    "format", "name", "version", "created_at_s", "fact_names", "feature_names", "feature_schema",
    "files", "weights", "golden",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_manifest_without_a_field(folder: Path, field: str) -> None:
    change(folder, drop(field))
    assert failure(folder).reason == "manifest"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", NONSENSE)
def test_a_field_that_makes_no_sense(folder: Path, field: str, value: object) -> None:
    if (field, value) == ("created_at_s", -1.5):
        return  # a model of 1969 is a model
    change(folder, put(value, field))
    expected = "schema" if field == "feature_schema" and value == "x y" else "manifest"
    if field in ("fact_names", "feature_names") and value == []:
        expected = "schema" if field == "feature_names" else "manifest"
    if field == "weights" and value == {}:
        load_bundle(folder)  # the default weights, which were those
        return
    assert failure(folder).reason == expected


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (put(2, "format"), "manifest"),
        (put("../1", "version"), "manifest"),
        (put("", "version"), "manifest"),
        (put(".hidden", "version"), "manifest"),
        (put("v" * 65, "version"), "manifest"),
        (put("a b", "name"), "manifest"),
        (put(-0.1, "weights", "rank"), "manifest"),
        (put({"rank": 0, "goodput": 0}, "weights"), "manifest"),
        (put(1e9, "weights", "rank"), "manifest"),
        (put({}, "files"), "manifest"),
        (put("x", "files", "other.txt"), "manifest"),
        (put("0" * 64, "files", "model.txt"), "checksum"),
        (put("", "files", "goodput.txt"), "checksum"),
        (put("0123456789abcdef", "feature_schema"), "schema"),
        (put([*FEATURE_NAMES[1:], FEATURE_NAMES[0]], "feature_names"), "schema"),
        (put([*FEATURE_NAMES, "shoe_size"], "feature_names"), "schema"),
        (put([*FACT_NAMES[:-1], "shoe_size"], "fact_names"), "schema"),
        (put([], "golden"), "manifest"),
        (put([list[float]()], "golden", 0, "facts"), "manifest"),
        (put([], "golden", 0, "scores"), "manifest"),
        (put([1.0], "golden", 0, "scores"), "manifest"),
        (put("fast", "golden", 0, "facts", 0, 0), "manifest"),
        (put({str(n): n for n in range(201)}, "card"), "manifest"),
        (put({"a": {"b": 1}}, "card"), "manifest"),
        (put(0.9, "weights", "rank"), "golden"),
        (put(0.0, "golden", 0, "scores", 0), "golden"),
        (put(1e308, "golden", 1, "scores", 1), "golden"),
        (put(99.0, "golden", 0, "facts", 0, FACT_NAMES.index("child_count")), "golden"),
    ],
)
def test_a_manifest_that_was_tampered_with(folder: Path, tamper: Tamper, reason: str) -> None:
    change(folder, tamper)
    assert failure(folder).reason == reason


def test_checks_come_in_their_order(folder: Path, tmp_path: Path) -> None:
    """Everything is wrong; mended one after the other, the next one speaks."""
    whole = json.loads((folder / "manifest.json").read_bytes())
    good = (folder / "model.txt").read_bytes()
    tiny_bundle(tmp_path / "other", trees=3)
    (folder / "model.txt").write_bytes(b"no model")
    change(folder, put(9, "format"))
    change(folder, put("other", "feature_schema"))
    assert failure(folder).reason == "manifest"
    change(folder, put(1, "format"))
    assert failure(folder).reason == "checksum"
    change(folder, lambda _: None, checksums=True)
    assert failure(folder).reason == "schema"
    change(folder, put(whole["feature_schema"], "feature_schema"))
    assert failure(folder).reason == "model"
    (folder / "model.txt").write_bytes((tmp_path / "other" / "model.txt").read_bytes())
    change(folder, lambda _: None, checksums=True)
    assert failure(folder).reason == "golden"
    (folder / "model.txt").write_bytes(good)
    change(folder, lambda _: None, checksums=True)
    assert load_bundle(folder).version == "1"


def test_without_lightgbm_the_reason_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        return None

    booster.shared_library.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", nothing)
    assert failure(folder).reason == "no_lightgbm"
    monkeypatch.undo()
    assert load_bundle(folder).version == "1"  # once it is installed


# --- writing --------------------------------------------------------------------------------------


def test_nothing_is_written_that_nobody_could_load(tmp_path: Path) -> None:
    broken: list[dict[str, Any]] = [
        {"model": "no model"},
        {"version": "../1"},
        {"golden": []},
        {"card": {str(number): number for number in range(201)}},
    ]
    for changes in broken:
        with pytest.raises((BundleError, CallerError)):
            tiny_bundle(tmp_path / "bundle", **changes)
        assert not (tmp_path / "bundle").exists()


def test_golden_rows_must_prove_something(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="prove nothing"):
        tiny_bundle(tmp_path, golden=[candidates(1, 1)])


def test_unknown_facts_are_null_in_the_file(folder: Path) -> None:
    golden = json.loads((folder / "manifest.json").read_bytes())["golden"][0]["facts"]
    assert any(fact is None for row in golden for fact in row)


def test_a_bundle_is_written_over_an_older_one(folder: Path) -> None:
    rank, goodput = boosters(3)
    manifest = write_bundle(
        folder,
        name="parent-ranker",
        version="2",
        created_at_s=1.0,
        model=rank.model_to_string(),
        goodput=goodput.model_to_string(),
        golden=[CandidateBatch(candidates(5).facts)],
    )
    assert load_bundle(folder).manifest == manifest


# --- publishing -----------------------------------------------------------------------------------


def test_publishing_swings_the_link(tmp_path: Path) -> None:
    place = tmp_path / "place"
    assert current_version(place) is None
    first = published(place, "1")
    assert first == place / "versions" / "1"
    assert current_version(place) == "1"
    assert (place / "current").readlink() == Path("versions/1")  # the place may be moved as a whole
    published(place, "2", trees=3)
    assert current_version(place) == "2"
    assert load_bundle(place / "current").version == "2"
    assert load_bundle(first).version == "1"
    publish(first, place)  # back again
    assert load_bundle(place / "current").version == "1"
    left = sorted(path.name for path in place.rglob("*") if path.name.startswith("."))
    assert not left


def test_a_version_means_one_bundle_for_ever(tmp_path: Path) -> None:
    place = tmp_path / "place"
    published(place, "1")
    tiny_bundle(tmp_path / "other", "1", trees=3)
    with pytest.raises(AlreadyExistsError, match="give the new one a new version"):
        publish(tmp_path / "other", place)
    assert load_bundle(place / "current").version == "1"


def test_publishing_again_mends_what_was_damaged(tmp_path: Path) -> None:
    place = tmp_path / "place"
    target = published(place, "1")
    (target / "model.txt").write_text("damaged")
    assert failure(place / "current").reason == "checksum"
    publish(tmp_path / "drafts" / "1", place)
    assert load_bundle(place / "current").version == "1"
    (target / "manifest.json").unlink()
    publish(tmp_path / "drafts" / "1", place)
    assert load_bundle(place / "current").version == "1"


def test_a_broken_bundle_is_not_published(tmp_path: Path) -> None:
    place = tmp_path / "place"
    published(place, "1")
    tiny_bundle(tmp_path / "broken", "2")
    (tmp_path / "broken" / "goodput.txt").write_text("x")
    with pytest.raises(BundleError):
        publish(tmp_path / "broken", place)
    assert current_version(place) == "1"
    assert not (place / "versions" / "2").exists()


def test_a_folder_in_the_links_place_is_not_removed(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "current").mkdir(parents=True)
    (place / "current" / "mine").touch()
    with pytest.raises(AlreadyExistsError, match="is no link"):
        published(place, "1")
    assert (place / "current" / "mine").exists()
    assert not list(place.glob(".*"))


def test_withdrawing_leaves_the_versions(tmp_path: Path) -> None:
    place = tmp_path / "place"
    published(place, "1")
    withdraw(place)
    assert current_version(place) is None
    assert load_bundle(place / "versions" / "1").version == "1"
    withdraw(place)
    withdraw(tmp_path / "nowhere")


def test_the_oldest_versions_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "VERSIONS_KEPT", 3)
    place = tmp_path / "place"
    for number in range(5):
        target = published(place, str(number))
        os.utime(target, ns=(number, number))
    assert sorted(path.name for path in (place / "versions").iterdir()) == ["2", "3", "4"]
    publish(place / "versions" / "2", place)
    published(place, "9")
    left = {path.name for path in (place / "versions").iterdir()}
    assert len(left) == 3
    assert current_version(place) == "9"
    assert "9" in left
