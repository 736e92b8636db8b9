"""Origins that list one level and such that list all of it look the same."""

from __future__ import annotations

import pytest

from odonata.client.listing import Walk
from odonata.errors import CapacityError
from odonata.wire.origin import Entry, Listing

ROOT = "s3://b/d"


def file(name: str) -> Entry:
    return Entry(url=f"{ROOT}/{name}", content_length=1)


def folder(name: str) -> Entry:
    return Entry(url=f"{ROOT}/{name}/", is_dir=True)


def listed(origin: dict[str, list[Entry]], *, recursive: bool) -> tuple[list[str], list[str]]:
    """What was found, and what was asked for."""
    walk, asked = Walk(ROOT, recursive=recursive), list[str]()
    while (url := walk.next_url()) is not None:
        asked.append(url.rstrip("/"))
        walk.found(url, Listing(entries=tuple(origin[url.rstrip("/")])))
    return [entry.url.removeprefix(f"{ROOT}/") for entry in walk.entries], asked


DEEP = {ROOT: [file("a"), folder("x"), file("x/b"), folder("x/y"), file("x/y/c")]}
LEVELS = {
    ROOT: [file("a"), folder("x")],
    f"{ROOT}/x": [file("x/b"), folder("x/y")],
    f"{ROOT}/x/y": [file("x/y/c")],
}


def test_all_of_it_is_found_by_one_question_or_by_one_for_each_folder() -> None:
    names = ["a", "x/", "x/b", "x/y/", "x/y/c"]
    assert listed(DEEP, recursive=True) == (names, [ROOT])
    assert listed(LEVELS, recursive=True) == (names, [ROOT, f"{ROOT}/x", f"{ROOT}/x/y"])


def test_one_level_is_one_level() -> None:
    only_files = {ROOT: [file("a"), file("x/b"), file("x/y/c")]}
    for origin in (DEEP, LEVELS, only_files):
        assert listed(origin, recursive=False) == (["a", "x/"], [ROOT])


def test_a_content_is_its_only_entry_and_strangers_are_none() -> None:
    assert listed({ROOT: [Entry(url=ROOT, content_length=3)]}, recursive=True) == ([ROOT], [ROOT])
    strange = [Entry(url="s3://b/other", content_length=1), Entry(url=f"{ROOT}/", is_dir=True)]
    assert listed({ROOT: strange}, recursive=True)[0] == []


def test_an_origin_that_goes_round_in_circles_ends() -> None:
    itself = Entry(url=f"{ROOT}/", is_dir=True)
    round_and_round = {ROOT: [folder("x")], f"{ROOT}/x": [folder("x"), itself]}
    assert listed(round_and_round, recursive=True)[0] == ["x/"]


def test_there_is_an_end_to_what_is_kept() -> None:
    walk = Walk(ROOT, recursive=True, max_entries=2)
    with pytest.raises(CapacityError, match="more than 2"):
        walk.found(ROOT, Listing(entries=(file("a"), file("b"), file("c"))))
