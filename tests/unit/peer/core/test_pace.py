"""Which pieces a thread waits for: those that will be there in a moment, by what came before."""

from __future__ import annotations

import pytest

from peer.core.pace import PATIENCE_S, QUICK_S, Pace

MIB = 1024 * 1024


def test_nothing_is_waited_for_on_a_new_connection() -> None:
    assert Pace().patience_s(1) == 0.0


@pytest.mark.parametrize(
    ("took_s", "n_bytes", "patience_s"),
    [
        (QUICK_S, 4 * MIB, PATIENCE_S),
        (QUICK_S * 1.01, 4 * MIB, 0.0),
        (QUICK_S / 2, 8 * MIB, PATIENCE_S),
        (QUICK_S / 2, 8 * MIB + 1, 0.0),
        (0.0, 64 * MIB, PATIENCE_S),
    ],
)
def test_it_goes_by_the_rate_of_the_piece_before(
    took_s: float, n_bytes: int, patience_s: float
) -> None:
    pace = Pace()
    pace.came(4 * MIB, took_s)
    assert pace.patience_s(n_bytes) == patience_s


def test_only_the_latest_counts() -> None:
    pace = Pace()
    pace.came(4 * MIB, QUICK_S / 10)
    pace.came(4 * MIB, QUICK_S * 10)
    assert pace.patience_s(4 * MIB) == 0.0
