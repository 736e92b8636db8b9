"""Scenario files: all that come along are good, and what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from odonata.errors import CallerError, SettingsError
from odonata.piece import MIB
from simulator.host import draw_hosts
from simulator.network import UNLIMITED
from simulator.scenario import MBIT, Degrading, Vanishing
from simulator.scenario_file import load_scenario, scenario_names
from simulator.world import World

ALL = [
    "churn",
    "degrade",
    "fastseed",
    "flash",
    "idc",
    "image",
    "lognormal",
    "lossy",
    "origin-slow",
    "small",
    "staggered",
    "unlabelled",
]


def test_those_that_come_along() -> None:
    assert scenario_names() == ALL


@pytest.mark.parametrize("name", ALL)
def test_each_asks_a_question(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.question.endswith("?")
    if name != "small":
        assert scenario.peers == 200
        assert scenario.size == (128 if name == "image" else 256) * MIB


def test_small_files_are_of_all_orders_of_magnitude_and_mixed() -> None:
    small = load_scenario("small")
    assert (len(small.sizes), small.files) == (300, 300)
    assert (min(small.sizes), max(small.sizes)) == (1024, 4 * MIB)
    for first in range(0, 300, 60):
        some = sorted(small.sizes[first : first + 60])
        assert some[30] == pytest.approx(64 * 1024, rel=0.5), "the middle of the range, each time"
    assert (small.at_once, small.shuffled, small.source_delay_s) == (4, True, 0.020)


def test_sizes_one_by_one_take_the_place_of_files_and_size(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("question: Why not?\ncontents: {sizes: [8MiB, 1KiB], atOnce: 2}\n")
    scenario = load_scenario(str(file))
    assert (scenario.files, scenario.size, scenario.sizes) == (2, 8 * MIB, (8 * MIB, 1024))
    assert scenario.total_size == 8 * MIB + 1024
    second = scenario.of_file(2)
    assert (second.size, second.sizes, second.files) == (1024, (), 1)
    assert (load_scenario("lossy").loss_share, load_scenario("lossy").delay_s) == (0.01, 0.02)


def test_hosts_of_unlabelled_data_centres_say_nothing_and_still_share_a_link() -> None:
    said: dict[str, set[str]] = {}
    for name in ("idc", "unlabelled"):
        scenario = load_scenario(name, overrides={"peers": 4})
        hosts = draw_hosts(scenario, World(1))
        said[name] = {host.host.idc for host in hosts}
        assert {host.link.idc for host in hosts} == {"idc1", "idc2"}
        assert scenario.between_idcs == 80 * MBIT
    assert said == {"idc": {"idc1", "idc2"}, "unlabelled": {""}}


def test_lognormal_hides_a_tenth_of_its_hosts_and_judges_the_later_files() -> None:
    scenario = load_scenario("lognormal")
    assert (scenario.uplink_sigma, scenario.hidden_slow_share) == (0.8, 0.1)
    assert 1 < scenario.judged_from < scenario.files


def test_a_file_of_ones_own_with_units(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "question: Why not?\nsize: 8MiB\npeers: 3\npeerUplink: 8Mbit/s\ndelay: 5ms\n"
        "degrading: {share: 0.5, factor: 50, at: 1m}\nvanishing: {share: 0.1, at: 2s}\n"
        "idcs: 2\nbetweenIdcs: 1Gbit/s\n"
    )
    scenario = load_scenario(str(file), overrides={"peers": 5})
    assert (scenario.size, scenario.peers, scenario.peer_up) == (8 * MIB, 5, 8 * MBIT)
    assert scenario.delay_s == 0.005
    assert scenario.degrading == Degrading(share=0.5, factor=50.0, at_s=60.0)
    assert scenario.vanishing == Vanishing(share=0.1, at_s=2.0)
    assert (scenario.idcs, scenario.between_idcs) == (2, 1000 * MBIT)
    assert load_scenario("flash").between_idcs == UNLIMITED


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("peers: many", r"wrong\.yaml:2: peers"),
        ("peers: 0", r"wrong\.yaml:2: peers"),
        ("sise: 8MiB", r"wrong\.yaml:2: sise"),
        ("pause: 30", "no unit"),
        ("hiddenSlow: {share: 1.5}", r"hiddenSlow\.share"),
        ("degrading: {factor: 0.5}", r"degrading\.factor"),
        ("announced: lies", "announced"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(f"question: What?\n{line}\n")
    with pytest.raises(SettingsError, match=told):
        load_scenario(str(file))


def test_a_scenario_needs_a_question(tmp_path: Path) -> None:
    file = tmp_path / "mute.yaml"
    file.write_text("peers: 3\n")
    with pytest.raises(SettingsError, match="question"):
        load_scenario(str(file))


def test_what_makes_no_sense_as_a_whole_is_told() -> None:
    with pytest.raises(CallerError, match="judged_from is 3"):
        load_scenario("lognormal", overrides={"files": 2})


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(CallerError, match=r"churn, degrade.*ends in \.yaml"):
        load_scenario("rush")
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_scenario("nowhere.yaml")
