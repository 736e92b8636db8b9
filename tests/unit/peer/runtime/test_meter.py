"""The rate of the last second."""

from __future__ import annotations

import pytest

from peer.runtime.meter import RateMeter


def test_nothing_was_moved() -> None:
    meter = RateMeter()
    assert (meter.total_bytes, meter.rate_bytes_per_s(5.0)) == (0, 0.0)


def test_a_steady_stream_shows_its_rate() -> None:
    meter = RateMeter()
    for step in range(500):
        meter.add(1_000, step * 0.01)
    assert meter.rate_bytes_per_s(4.99) == pytest.approx(100_000, rel=0.11)
    assert meter.total_bytes == 500_000


def test_the_rate_falls_to_nothing_after_a_second() -> None:
    meter = RateMeter()
    meter.add(700, 10.0)
    assert meter.rate_bytes_per_s(10.5) == 700
    assert meter.rate_bytes_per_s(11.2) == 0
    assert meter.total_bytes == 700
