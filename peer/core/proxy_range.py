"""The Range header (RFC 9110 §14), as far as the proxy serves it: one range of bytes.

Several ranges, another unit or a malformed header are allowed to be ignored, and are: the whole
content is sent then. Nothing here knows of tasks or sockets.
"""

from __future__ import annotations

import re
from typing import Final

from odonata.wire.message import ByteRange, Value

# 10**18 - 1 fits every 64-bit field on the way; no content is longer, so more digits mean the same.
_DIGITS_MAX: Final = 18
_POSITION_MAX: Final = 10**_DIGITS_MAX - 1
_SINGLE: Final = re.compile(
    r"bytes[ \t]*=[ \t,]*([0-9]*)[ \t]*-[ \t]*([0-9]*)[ \t,]*", re.IGNORECASE
)


class RangeWish(Value, frozen=True, kw_only=True):
    """What a client asked for: `start` to before `end` (None: the end), or the last `suffix`."""

    start: int = 0
    end: int | None = None
    suffix: int | None = None

    @property
    def closed(self) -> ByteRange | None:
        """The range, if it is known without the content's length; it may reach past the end."""
        if self.end is None:
            return None
        return ByteRange(start=self.start, length=self.end - self.start)

    def within(self, content_length: int) -> ByteRange | None:
        """The part of a content of that length, never empty. None: there is no such part (416)."""
        if self.suffix is not None:
            start, end = max(content_length - self.suffix, 0), content_length
        else:
            start, end = self.start, min(content_length, self.end or content_length)
        return ByteRange(start=start, length=end - start) if start < end else None


def parse_range(text: str | None) -> RangeWish | None:
    """Read a Range header. None: there is none, or it is one that is answered with everything."""
    match = _SINGLE.fullmatch(text.strip()) if text is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return RangeWish(suffix=_position(match[2]))
    start = _position(match[1])
    if not match[2]:
        return RangeWish(start=start)
    end = _position(match[2]) + 1
    return RangeWish(start=start, end=end) if start < end else None


def content_range(part: ByteRange, content_length: int) -> str:
    """Value of Content-Range in a 206."""
    return f"bytes {part.start}-{part.start + part.length - 1}/{content_length}"


def content_range_unsatisfied(content_length: int) -> str:
    """Value of Content-Range in a 416."""
    return f"bytes */{content_length}"


def _position(digits: str) -> int:
    digits = digits.lstrip("0")
    return _POSITION_MAX if len(digits) > _DIGITS_MAX else int(digits or "0")
