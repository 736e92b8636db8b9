"""The physical bound: whichever link is the tightest."""

from __future__ import annotations

import pytest

from simulator.bound import bound_s


def test_each_term_can_be_the_tightest() -> None:
    def bound(**changes: object) -> float:
        rates: dict[str, object] = {
            "source_up": 1000.0,
            "seed_ups": [1000.0],
            "peer_ups": [1000.0] * 4,
            "peer_downs": [1000.0] * 4,
        }
        return bound_s(1000, **(rates | changes))  # type: ignore[arg-type]  # rates

    assert bound() == 1.0
    assert bound(source_up=100.0) == 10.0
    assert bound(seed_ups=[50.0, 50.0]) == 10.0
    assert bound(peer_downs=[1000.0, 200.0]) == 5.0
    assert bound(peer_ups=[0.0] * 4) == 4.0
    assert bound(peer_ups=[0.0] * 4, takers=3) == 3.0
    assert bound(between_idcs=125.0) == 8.0


def test_without_a_seed_the_origin_serves_all() -> None:
    found = bound_s(1000, source_up=60.0, seed_ups=[], peer_ups=[10.0] * 4, peer_downs=[100.0] * 4)
    assert found == pytest.approx(40.0)
