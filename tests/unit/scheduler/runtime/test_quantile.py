"""Quantiles against numpy's, their error, and forgetting."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from scheduler.runtime.quantile import LEAST, MOST, RELATIVE_ERROR, SLOT_S, SLOTS, Quantiles

WANTED = (0.5, 0.9, 0.95, 0.99)


@pytest.mark.parametrize("n_values", [1, 2, 10, 5000])
def test_any_quantile_is_right_to_the_relative_error(n_values: int) -> None:
    values = np.random.default_rng(1).lognormal(3, 2, n_values)
    sketch = Quantiles()
    for value in values:
        sketch.add(0.0, float(value))
    expected = np.quantile(values, WANTED, method="lower")
    for (_, found), right in zip(sketch.quantiles(0.0, WANTED), expected, strict=True):
        assert found == pytest.approx(right, rel=RELATIVE_ERROR * 1.001)
    assert sketch.count == n_values
    assert sketch.total == pytest.approx(values.sum())


def test_what_is_old_is_forgotten_but_counted() -> None:
    sketch = Quantiles()
    sketch.add(0.0, 1.0)
    sketch.add(SLOT_S, 100.0)
    assert dict(sketch.quantiles(SLOT_S, (0.0,)))[0.0] == pytest.approx(1, rel=0.02)
    later = SLOTS * SLOT_S
    assert dict(sketch.quantiles(later, (0.0,)))[0.0] == pytest.approx(100, rel=0.02)
    assert all(isnan(value) for _, value in sketch.quantiles(later + SLOT_S, WANTED))
    assert (sketch.count, sketch.total) == (2, 101.0)


def test_without_values_there_is_no_quantile() -> None:
    found = list(Quantiles().quantiles(0.0, WANTED))
    assert [quantile for quantile, _ in found] == list(WANTED)
    assert all(isnan(value) for _, value in found)


def test_values_out_of_bounds_count_at_the_bounds() -> None:
    sketch = Quantiles()
    for value in (-1.0, 0.0, 1e-30, 1e300):
        sketch.add(0.0, value)
    found = dict(sketch.quantiles(0.0, (0.0, 1.0)))
    assert found[0.0] == pytest.approx(LEAST, rel=0.02)
    assert found[1.0] == pytest.approx(MOST, rel=0.02)
