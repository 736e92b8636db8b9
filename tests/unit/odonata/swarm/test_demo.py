"""The demo's parts: its image, its numbers, its verdict."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.swarm.demo.image import LAYERS_BYTES, Image, blob_path, make_image
from odonata.swarm.demo.origin import wanted_range
from odonata.swarm.demo.pull import verify
from odonata.swarm.demo.registry import parse_reference
from odonata.swarm.demo.report import Outcome, complaints, outcome, percentile
from odonata.swarm.demo.show import next_steps
from odonata.swarm.demo.tally import ORIGIN, Tally, World
from odonata.swarm.demo.view import BAR_CELLS, bar, from_whom

SIZES = (1000, 10, 0)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path, seed=1, sizes=SIZES)


def test_image_is_what_its_digests_say(tmp_path: Path, image: Image) -> None:
    assert [layer.size for layer in image.layers] == list(SIZES)
    assert image.size == 1010
    for layer in image.layers:
        content = blob_path(tmp_path, layer.digest).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest
    assert make_image(tmp_path, seed=1, sizes=SIZES) == image
    assert make_image(tmp_path, seed=2, sizes=SIZES) != image


def test_the_whole_image_is_96_mib() -> None:
    assert sum(LAYERS_BYTES) == 96 << 20


def test_verify_finds_what_is_missing_and_what_is_wrong(tmp_path: Path, image: Image) -> None:
    assert verify(image, tmp_path) == []
    first, second, _ = (layer.digest for layer in image.layers)
    blob_path(tmp_path, first).write_bytes(b"something else")
    blob_path(tmp_path, second).unlink()
    wrong = verify(image, tmp_path)
    assert len(wrong) == 2
    assert wrong[0].startswith(f"{first} holds sha256:")
    assert wrong[1] == f"{second} is missing"


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.sampled_from([0.01, 0.5, 0.99, 1.0])
)
def test_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_bound_is_the_tightest_link() -> None:
    world = World(8, origin_rate_bytes_per_s=10, seed_rate_bytes_per_s=20, peer_rate_bytes_per_s=5)
    assert world.bound_s(100) == max(100 / 10, 100 / 20, 800 / 60)
    assert World(8, 1, 20, 5).bound_s(100) == 100
    assert World(1, 10, 20, 5, download_rate_bytes_per_s=2).bound_s(100) == 50
    slow = World(4, 100, 100, 10, slow_peers=1, slow_rate_bytes_per_s=1)
    assert slow.bound_s(100) == 400 / 131


@pytest.mark.parametrize(
    ("peers", "slow", "names"),
    [
        (8, 2, ["peer-3", "peer-6"]),
        (2, 1, ["peer-1"]),
        (3, 0, []),
        (4, 3, ["peer-1", "peer-2", "peer-3"]),
    ],
)
def test_slow_peers_stand_among_the_others(peers: int, slow: int, names: list[str]) -> None:
    assert list(World(peers, 1, 1, 1, slow_peers=slow).slow_names) == names


def tally(**by_giver: int) -> Tally:
    made = Tally("peer-1", wanted_bytes=100)
    for giver, n_bytes in by_giver.items():
        made.add(giver.replace("_", "-"), n_bytes)
    return made


def test_bar_is_never_longer_than_its_cells() -> None:
    assert len(bar(tally(peer_2=33, seed_1=33, origin=34)).plain) == BAR_CELLS
    assert len(bar(tally(peer_2=70, seed_1=70)).plain) == BAR_CELLS
    assert bar(tally()).plain == "─" * BAR_CELLS


def test_from_whom_names_the_largest_first() -> None:
    assert from_whom(tally(peer_2=10, seed_1=30, origin=60)).plain == (
        "origin 60% seed-1 30% peer-2 10% "
    )


def way(title: str, seconds: tuple[float, ...], origin_bytes: int, *problems: str) -> Outcome:
    return Outcome(
        title=title,
        seconds=seconds,
        origin_bytes=origin_bytes,
        peer_share=1.0,
        slow_share=0.0,
        problems=problems,
    )


def test_all_is_well_when_it_is_faster_with_one_copy() -> None:
    assert complaints(way("plain", (8.0, 9.0), 200), [way("Odonata", (2.0, 3.0), 100)], 100) == []


@pytest.mark.parametrize(
    ("swarm", "complaint"),
    [
        (way("Odonata", (2.0,), 103), "Odonata: the origin sent 1.030 copies, over 1.02"),
        (way("Odonata", (2.0,), 50), "Odonata: the origin sent 0.500 copies"),
        (way("Odonata", (9.0,), 100), "the swarm was not faster"),
        (way("Odonata", (2.0,), 100, "peer-3: broken"), "Odonata: peer-3: broken"),
    ],
)
def test_each_thing_that_is_not_as_it_should_be_is_said(swarm: Outcome, complaint: str) -> None:
    found = complaints(way("plain", (9.0,), 200), [swarm], 100)
    assert len(found) == 1
    assert found[0].startswith(complaint)


def test_outcome_counts_bytes_and_failures() -> None:
    good, bad = tally(seed_1=75, origin=25), tally(peer_2=100)
    good.seconds = 2.0
    bad.error = "no"
    found = outcome("Odonata", [good, bad], 25, ["peer-9: sha256:… is missing"])
    assert found.seconds == (2.0,)
    assert found.peer_share == 1 - 25 / 200
    assert found.problems == ("peer-1: no", "peer-9: sha256:… is missing")
    assert tally(origin=1).by_giver == {ORIGIN: 1}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-50", (3, 10)),
        ("bytes=-5", None),
        ("bytes=1-2,4-5", None),
        ("items=1-2", None),
    ],
)
def test_origin_reads_ranges(header: str | None, found: tuple[int, int] | None) -> None:
    assert wanted_range(header, 10) == found


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("alpine", ("https://registry-1.docker.io", "library/alpine", "latest")),
        ("alpine:3.20", ("https://registry-1.docker.io", "library/alpine", "3.20")),
        ("me/app:v1", ("https://registry-1.docker.io", "me/app", "v1")),
        ("ghcr.io/a/b/c:x", ("https://ghcr.io", "a/b/c", "x")),
        ("localhost:5000/a", ("http://localhost:5000", "a", "latest")),
        ("127.0.0.1:5000/a:1", ("http://127.0.0.1:5000", "a", "1")),
        (f"quay.io/a/b@{DIGEST}", ("https://quay.io", "a/b", DIGEST)),
    ],
)
def test_image_references_are_read_as_docker_reads_them(
    reference: str, found: tuple[str, str, str]
) -> None:
    assert parse_reference(reference) == found


@pytest.mark.parametrize("reference", ["", "UPPER", "a b", "https://ghcr.io/a"])
def test_a_wrong_reference_is_said_so(reference: str) -> None:
    with pytest.raises(CallerError, match="not an image reference such as"):
        parse_reference(reference)


def test_what_is_named_at_the_end_can_be_typed(tmp_path: Path) -> None:
    out = tmp_path / "two words"
    *commands, model = next_steps(out)
    assert model.endswith(str(out / "models" / "current"))
    for command in commands:
        program, *_, last = shlex.split(command)
        assert shutil.which(program) is not None, command
        assert str(out) in last, command
