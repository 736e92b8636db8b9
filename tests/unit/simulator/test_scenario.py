"""Scenarios are checked when they are made, and know the bound of their links."""

from __future__ import annotations

import pytest

from odonata.errors import CallerError
from simulator.scenario import MBIT, Faults, Joining, Scenario


def test_bound_is_the_tightest_of_all_links() -> None:
    rates = {"peer_up": 10.0, "peer_down": 20.0, "seed_up": 50.0, "source_up": 40.0}
    # One copy into the slowest downlink: 1000 / 20; eight copies out of 50 + 8 x 10.
    assert Scenario(size=1000, peers=8, **rates).bound_s() == pytest.approx(8000 / 130)  # type: ignore[arg-type]  # rates
    assert Scenario(size=1000, peers=1, **rates).bound_s() == pytest.approx(50.0)  # type: ignore[arg-type]  # rates
    thin = {**rates, "seed_up": 5.0}
    assert Scenario(size=1000, peers=1, **thin).bound_s() == pytest.approx(200.0)  # type: ignore[arg-type]  # rates


def test_bound_without_seeds_counts_the_source() -> None:
    scenario = Scenario(size=1000, peers=4, seeds=0, peer_up=10.0, peer_down=1e6, source_up=60.0)
    assert scenario.bound_s() == pytest.approx(4000 / 100)


def test_nothing_to_move_takes_no_time() -> None:
    assert Scenario(size=0).bound_s() == 0.0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"peers": 0}, "1 peer"),
        ({"size": -1}, "at least 0 bytes"),
        ({"peer_up": 0.0}, "above 0 bytes/s"),
        ({"delay_s": -1.0}, "below 0"),
        ({"source_delay_s": -1.0}, "below 0"),
        ({"loss_share": 1.0}, "loss_share is 1.0"),
        ({"joining": Joining(share=-0.1, at_s=1.0)}, "joining.share"),
        ({"at_once": 0}, "at_once is 0"),
        ({"sizes": (3, 4), "files": 1, "size": 4}, "must agree"),
        ({"sizes": (3, 4), "files": 2, "size": 5}, "must agree"),
        ({"sizes": (-3, 4), "files": 2, "size": 4}, "-3 bytes"),
        ({"faults": Faults(bad_digest=("peer9",))}, "peer9"),
        ({"faults": Faults(crash_at_pieces={"seed2": 1})}, "seed2"),
    ],
)
def test_wrong_scenarios_are_told(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(CallerError, match=told):
        Scenario(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_megabit_is_an_eighth_of_a_megabyte() -> None:
    assert MBIT * 8 == 1_000_000
