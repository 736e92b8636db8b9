"""The latest steps of a life, for the story that an error tells: eleven bytes for each.

Thousands of lives are remembered and their stories seldom told, so the steps of one are kept as
bytes, and put into words when somebody asks.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskState, TaskTrigger

if TYPE_CHECKING:
    from enum import StrEnum

STEP_LIMIT: Final = 16
"""Latest steps kept of a peer or task, for an error's story; a life has about five."""

_WORDS: Final[tuple[str, ...]] = (*PeerTrigger, *PeerState, *TaskTrigger, *TaskState)
_NUMBERS: Final[dict[str, int]] = {word: number for number, word in enumerate(_WORDS)}
_STEP: Final = Struct("=dBBB")  # when, and three words
_KEPT: Final = STEP_LIMIT * _STEP.size


def with_step(steps: bytes, now: float, trigger: StrEnum, state: StrEnum, target: StrEnum) -> bytes:
    """These steps, and that at `now` (seconds) `trigger` led from `state` to `target`.

    Of too many the oldest is forgotten.
    """
    step = _STEP.pack(now, _NUMBERS[trigger], _NUMBERS[state], _NUMBERS[target])
    return (steps + step)[-_KEPT:]


def told(steps: bytes) -> str:
    """Tell them in one line, oldest first."""
    return "; ".join(_words(*step) for step in _STEP.iter_unpack(steps)) or "nothing yet"


def _words(at_s: float, trigger: int, state: int, target: int) -> str:
    return f"{at_s:.3f} s {_WORDS[trigger]}: {_WORDS[state]} -> {_WORDS[target]}"
