"""The Range header (RFC 9110 §14), as far as the proxy serves it: one range of bytes, or several.

Another unit or a malformed header is allowed to be ignored, and is: the whole content is sent then.
So it is for more ranges than anybody needs, and for those that are longer together than the content
(§14.2): they would make a small request a large answer. Nothing here knows of tasks or sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from odonata.wire.message import ByteRange, Value

PARTS_MAX: Final = 16
"""Ranges of one request: readers of archives and tables ask for two to eight."""

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


def parse_ranges(text: str | None) -> tuple[RangeWish, ...]:
    """Read a Range header with several ranges. (): it has fewer, or is answered with everything."""
    unit, mark, rest = (text or "").partition("=")
    pieces = [piece for piece in rest.split(",") if piece.strip()]
    if not mark or not 1 < len(pieces) <= PARTS_MAX:
        return ()
    wishes = [parse_range(f"{unit}={piece}") for piece in pieces]
    return tuple(wish for wish in wishes if wish is not None) if all(wishes) else ()


def parts_within(wishes: Sequence[RangeWish], content_length: int) -> list[ByteRange] | None:
    """The parts of a content of that length that there are; None: send everything instead."""
    parts = [part for part in (wish.within(content_length) for wish in wishes) if part is not None]
    return parts if sum(part.length for part in parts) <= content_length else None


class Multipart(Value, frozen=True, kw_only=True):
    """The body of a 206 with several parts (RFC 9110 §15.3.7.2): a head before each, and an end."""

    boundary: str
    parts: tuple[tuple[bytes, ByteRange], ...]

    @property
    def content_type(self) -> str:
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def end(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()

    @property
    def length(self) -> int:
        """Of the whole body, in bytes."""
        return sum(len(head) + part.length for head, part in self.parts) + len(self.end)


def multipart(
    parts: Sequence[ByteRange], content_length: int, content_type: str | None, boundary: str
) -> Multipart:
    """`boundary`: a text that no content has in it; `content_type`: of the content, if known."""
    kind = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    heads = [
        f"\r\n--{boundary}\r\n{kind}Content-Range: {content_range(part, content_length)}\r\n\r\n"
        for part in parts
    ]
    encoded = (head.encode("utf-8", "surrogateescape") for head in heads)
    return Multipart(boundary=boundary, parts=tuple(zip(encoded, parts, strict=True)))


def content_range(part: ByteRange, content_length: int) -> str:
    """Value of Content-Range in a 206."""
    return f"bytes {part.start}-{part.start + part.length - 1}/{content_length}"


def content_range_unsatisfied(content_length: int) -> str:
    """Value of Content-Range in a 416."""
    return f"bytes */{content_length}"


def _position(digits: str) -> int:
    digits = digits.lstrip("0")
    return _POSITION_MAX if len(digits) > _DIGITS_MAX else int(digits or "0")
