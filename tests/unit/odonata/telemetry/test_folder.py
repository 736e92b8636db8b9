"""Names, locks, and what goes when there is too much."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from odonata.telemetry.folder import (
    KINDS,
    UNFINISHED_AGE_S,
    has_finished_parts,
    held,
    parquet_files,
    parquet_path,
    parts,
    prune,
    stem_of,
    sweep,
    try_lock,
    unfinished_path,
)
from odonata.telemetry.segment import Origin


def lay(path: Path, size: int, age: int = 0) -> Path:
    """A file of `size` bytes; the larger `age`, the older."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (2e9 - age, 2e9 - age))
    return path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_stem_says_who_and_when() -> None:
    origin = Origin(host="host1", program="scheduler")
    assert stem_of(origin, 1e9 + 0.25, 42, 7) == "scheduler-host1-20010909T014640250-42-7"


@given(st.text(max_size=300), st.text(max_size=300), st.floats(0, 1e11))
def test_a_stem_is_a_safe_file_name(host: str, program: str, at_s: float) -> None:
    stem = stem_of(Origin(host=host, program=program), at_s, 1, 1)
    assert "/" not in stem
    assert not stem.startswith(".")
    assert len(f".{stem}.parquet".encode()) < 255
    assert Path(f"{stem}.part").stem == stem


def test_a_part_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    part = lay(tmp_path / "a.part", 1)
    with held(part) as mine:
        assert mine is not None
        with held(part) as other:
            assert other is None
        assert not has_finished_parts(tmp_path)
    assert has_finished_parts(tmp_path)
    with held(part) as again:
        assert again is not None


def test_a_part_that_went_before_it_was_locked_is_gone(tmp_path: Path) -> None:
    part = lay(tmp_path / "a.part", 1)
    with part.open("rb") as file:
        part.unlink()
        assert not try_lock(file.fileno())
    with held(part) as gone:
        assert gone is None


def test_listings_pass_over_what_is_not_finished(tmp_path: Path) -> None:
    lay(tmp_path / "b.part", 1)
    lay(tmp_path / "a.part", 1)
    lay(tmp_path / "notes.txt", 1)
    lay(parquet_path(tmp_path, "piece", "b"), 1)
    lay(parquet_path(tmp_path, "piece", "a"), 1)
    lay(unfinished_path(tmp_path, "piece", "c"), 1)
    assert [path.name for path in parts(tmp_path)] == ["a.part", "b.part"]
    assert [path.stem for path in parquet_files(tmp_path, "piece")] == ["a", "b"]
    assert parquet_files(tmp_path, "download") == []


def test_the_oldest_goes_until_the_rest_fits(tmp_path: Path) -> None:
    for age, stem in enumerate(("young", "middle", "old")):
        for kind in KINDS:
            lay(parquet_path(tmp_path, kind, stem), 25, age)
    assert prune(tmp_path, 300) == 0
    assert prune(tmp_path, 299) == 4  # files of one segment go together
    assert {path.stem for path in parquet_files(tmp_path, "piece")} == {"young", "middle"}
    assert prune(tmp_path, 0) == 8
    assert names(tmp_path) == set()


def test_a_segment_being_written_counts_and_stays(tmp_path: Path) -> None:
    live = lay(tmp_path / "live.part", 100, age=9)
    dead = lay(tmp_path / "dead.part", 100, age=8)
    lay(parquet_path(tmp_path, "piece", "dead"), 100, age=8)
    lay(parquet_path(tmp_path, "piece", "young"), 100)
    with held(live):
        assert prune(tmp_path, 200) == 2
        assert not dead.exists()
        assert names(tmp_path) == {"live.part", "piece/young.parquet"}
        assert prune(tmp_path, 0) == 1
    assert names(tmp_path) == {"live.part"}


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    lay(tmp_path / "notes.txt", 1000)
    lay(tmp_path / "piece" / "notes.csv", 1000)
    lay(tmp_path / "broken.broken", 1000)
    assert prune(tmp_path, 0) == 1
    assert names(tmp_path) == {"notes.txt", "piece/notes.csv"}


def test_only_old_left_overs_are_swept(tmp_path: Path) -> None:
    old = lay(unfinished_path(tmp_path, "piece", "old"), 1)
    young = lay(unfinished_path(tmp_path, "piece", "young"), 1)
    os.utime(old, (1e9, 1e9))
    os.utime(young, (2e9, 2e9))
    sweep(tmp_path, 1e9 + UNFINISHED_AGE_S + 1)
    assert not old.exists()
    assert young.exists()
