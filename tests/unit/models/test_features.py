"""Affinities of data centre and location, and uplinks within a group."""

import numpy as np
import pytest

from models.facts import CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix, location_affinity, same_idc


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


def test_uplinks_are_compared_within_the_group_before_the_swarm_is_known() -> None:
    batch = CandidateBatch.of_columns({"max_tx_bits_per_s": [4e9, 1e9, 0.0]})
    column = feature_matrix(batch)[:, FEATURE_NAMES.index("uplink_to_group")]
    assert column[:2] == pytest.approx([np.log(2.0), -np.log(2.0)])
    assert np.isnan(column[2])
    silent = CandidateBatch.of_columns({"child_count": [1.0, 2.0]})
    assert np.isnan(feature_matrix(silent)[:, FEATURE_NAMES.index("uplink_to_group")]).all()
