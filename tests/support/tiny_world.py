"""A world small enough for a test: a few uneven hosts and a few pieces, over several files."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from odonata.piece import PIECE_LENGTH_MIN
from simulator.scenario import MBIT, Scenario

TINY = Scenario(
    question="Does it work?",
    size=8 * PIECE_LENGTH_MIN,
    piece_length=PIECE_LENGTH_MIN,
    files=2,
    judged_from=2,
    pause_s=5.0,
    peers=12,
    seed_up=100 * MBIT,
    uplink_sigma=0.5,
    hidden_slow_share=0.25,
)


def tiny(**changes: Any) -> Scenario:
    """`TINY` with other numbers."""
    return replace(TINY, **changes)
