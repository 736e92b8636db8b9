"""Which files of a listing are fetched, and where they go."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from odonata.client import Entry
from odonata.errors import CallerError, NotFoundError
from peer.get_folder import plan_folder

ROOT = "s3://bucket/dir"


def entries(*names: str) -> list[Entry]:
    return [Entry(url=f"{ROOT}/{name}", is_dir=name.endswith("/")) for name in names]


def paths(*names: str, **chosen: tuple[str, ...]) -> list[str]:
    plan = plan_folder(ROOT, entries(*names), max_files=100, **chosen)
    return [str(file.path) for file in plan.files]


def test_patterns_are_those_of_shells() -> None:
    names = ("a.txt", "b.bin", "sub/c.txt", "sub/deep/d.txt")
    assert paths(*names) == list(names)
    assert paths(*names, include=("*.txt",)) == ["a.txt", "sub/c.txt", "sub/deep/d.txt"]
    assert paths(*names, include=("sub/*",)) == ["sub/c.txt", "sub/deep/d.txt"]
    assert paths(*names, include=("?.txt",), exclude=("sub/deep/*",)) == ["a.txt", "sub/c.txt"]
    assert paths(*names, exclude=("*.txt",)) == ["b.bin"]


def test_folders_are_made_before_what_is_in_them() -> None:
    plan = plan_folder(ROOT, entries("x/y/z/", "x/a"), max_files=9)
    assert list(map(str, plan.folders)) == [".", "x", "x/y", "x/y/z"]


def test_escaped_names_are_written_as_they_are_meant() -> None:
    assert paths("with%20space/%E2%82%AC") == ["with space/€"]


def test_one_content_is_a_folder_of_itself() -> None:
    plan = plan_folder(f"{ROOT}/a.txt", entries("a.txt"), max_files=1)
    assert [file.path for file in plan.files] == [PurePosixPath("a.txt")]


@pytest.mark.parametrize(
    "url", [f"{ROOT}/../up", f"{ROOT}/%2e%2e/up", "s3://other/x", f"{ROOT}/%2Fetc/x"]
)
def test_names_that_lead_elsewhere_are_refused(url: str) -> None:
    with pytest.raises(CallerError, match="can't be trusted"):
        plan_folder(ROOT, [Entry(url=url)], max_files=9)


def test_too_many_are_refused_with_the_way_out() -> None:
    with pytest.raises(CallerError, match="--max-files"):
        plan_folder(ROOT, entries("a", "b"), max_files=1)


def test_nothing_is_said_to_be_nothing() -> None:
    with pytest.raises(NotFoundError, match="nothing to fetch"):
        plan_folder(ROOT, entries("a"), include=("b",), max_files=1)
