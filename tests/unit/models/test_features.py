"""Affinities of data centre and location."""

import pytest

from models.features import location_affinity, same_idc


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ("a", "a", 1.0),
        ("Berlin-1", "BERLIN-1", 1.0),
        ("a", "b", 0.0),
        ("", "", 0.0),
        ("", "a", 0.0),
    ],
)
def test_same_idc(child: str, parent: str, expected: float) -> None:
    assert same_idc(child, parent) == expected


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ("eu|de|berlin", "EU|de|Berlin", 1.0),
        ("eu|de|berlin", "eu|de|munich", 0.4),
        ("eu|de", "eu|de|munich", 0.4),
        ("eu|de", "us|de", 0.0),
        ("a|b|c|d|e|f", "a|b|c|d|e|g", 1.0),
        ("", "", 0.0),
        ("eu", "", 0.0),
    ],
)
def test_location_affinity(child: str, parent: str, expected: float) -> None:
    assert location_affinity(child, parent) == expected
