"""Reading the columns of a decision record."""

from __future__ import annotations

import numpy as np

from models.facts import BoolArray, FloatArray
from odonata.telemetry.record import DecisionRecord


def doubles(values: bytes, width: int) -> FloatArray:
    return np.frombuffer(values, dtype="<f8").reshape(-1, width)


def slots(record: DecisionRecord) -> list[int]:
    return [int(slot) for slot in np.frombuffer(record.slots, dtype="<i4")]


def bad(record: DecisionRecord) -> BoolArray:
    return np.frombuffer(record.bad, dtype=np.uint8).astype(bool)


def chosen_rows(record: DecisionRecord) -> list[int]:
    """The rows of the answer, in its order."""
    places = slots(record)
    return sorted((row for row in range(len(places)) if places[row] >= 0), key=places.__getitem__)
