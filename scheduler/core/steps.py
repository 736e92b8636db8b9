"""The latest steps of a life, for the story that an error tells: two numbers for each.

Thousands of lives are remembered and their stories seldom told, so a step is kept as numbers and
put into words when somebody asks.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskState, TaskTrigger

if TYPE_CHECKING:
    from enum import StrEnum

_WORDS: Final[tuple[str, ...]] = (*PeerTrigger, *PeerState, *TaskTrigger, *TaskState)
_NUMBERS: Final[dict[str, int]] = {word: number for number, word in enumerate(_WORDS)}
_BASE: Final = 100  # more than there are words
_WIDTH: Final = 2  # numbers for each step


class Steps:
    """At most `limit` steps; the oldest is forgotten first."""

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = array("d")

    def add(self, now: float, trigger: StrEnum, state: StrEnum, target: StrEnum) -> None:
        """At time `now` (seconds) `trigger` led from `state` to `target`."""
        code = (_NUMBERS[trigger] * _BASE + _NUMBERS[state]) * _BASE + _NUMBERS[target]
        self._kept.append(now)
        self._kept.append(code)
        if len(self._kept) > _WIDTH * self._limit:
            del self._kept[:_WIDTH]

    def told(self) -> str:
        """Tell them in one line, oldest first."""
        steps = zip(self._kept[::_WIDTH], self._kept[1::_WIDTH], strict=True)
        return "; ".join(_words(at_s, int(code)) for at_s, code in steps) or "nothing yet"


def _words(at_s: float, code: int) -> str:
    rest, target = divmod(code, _BASE)
    trigger, state = divmod(rest, _BASE)
    return f"{at_s:.3f} s {_WORDS[trigger]}: {_WORDS[state]} -> {_WORDS[target]}"
