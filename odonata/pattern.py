"""Patterns that an operator wrote, searched for in text that strangers send: always in linear time.

The engine is RE2, whose syntax is that of Dragonfly's own programs (Go, Rust). Python's `re` tries
alternatives one after the other, so that a harmless pattern such as `(a+)+$` and a URL made for it
stop a program for ever; RE2 can't. What it lacks for that (look-around, back-references) is refused
with a clear word. Nothing here knows what a pattern is for.
"""

from __future__ import annotations

from typing import Any, Final

import re2  # pyright: ignore[reportMissingTypeStubs]

from odonata.errors import CallerError

PATTERN_LENGTH_MAX: Final = 4096
"""Characters. Ten times the longest that anybody writes by hand."""

_MEMORY_BYTES: Final = 1024 * 1024
"""Of one compiled pattern. RE2 refuses what needs more, like `(a{1000}){1000}`."""

_engine: Any = re2  # ships without types


class Pattern:
    """A compiled pattern. Raises CallerError if `text` is none, is too long or needs too much."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_LENGTH_MAX:
            raise CallerError(
                f"a pattern of {len(text)} characters is too long: at most {PATTERN_LENGTH_MAX}"
            )
        options = _engine.Options()
        options.log_errors = False
        options.max_mem = _MEMORY_BYTES
        try:
            self._compiled = _engine.compile(text, options)
        except _engine.error as error:
            reason = error.args[0] if error.args else "unknown"
            reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise CallerError(
                f"{text!r} is not a regular expression in RE2's syntax: {reason}"
            ) from None
        self.text = text

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere in `text`."""
        return self._compiled.search(text.encode(errors="replace")) is not None
