"""What is wrong with a request beyond its grammar, which is h11's business.

A request whose end others might find elsewhere is half of an attack on whoever is behind us (RFC
9112 §6.1, §11.2); one with control characters could become two where somebody is careless. Both are
refused, and their connection ends with them. Pure.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from odonata.errors import CallerError
from peer.core.proxy_header import HeaderList, value_of

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH_DIGITS_MAX: Final = 18  # fits into 64 bits anywhere


class MalformedRequestError(CallerError):
    """Bytes that are no HTTP/1.1 request."""

    code = "malformed_request"


class HeadTooLargeError(MalformedRequestError):
    code = "head_too_large"
    http_status: ClassVar[int] = 431


class UnknownCodingError(MalformedRequestError):
    """A transfer coding other than chunked."""

    code = "unknown_coding"
    http_status: ClassVar[int] = 501


class BodyTooLargeError(MalformedRequestError):
    """A length that no body has."""

    code = "body_too_large"
    http_status: ClassVar[int] = 413


def check_syntax(version: str, headers: HeaderList) -> None:
    """MalformedRequestError if the request must not be followed. `version`: of HTTP, as 1.1."""
    if not version.startswith("1."):
        raise MalformedRequestError(f"this is HTTP/{version}: send HTTP/1.1")
    length = value_of(headers, "content-length")
    if value_of(headers, "transfer-encoding") is not None:
        if length is not None:
            raise MalformedRequestError(
                "the request has both Content-Length and Transfer-Encoding: send one of them"
            )
        if version == "1.0":
            raise MalformedRequestError(
                "Transfer-Encoding came with HTTP/1.0, which has none: send HTTP/1.1"
            )
    elif length is not None and len(length.lstrip("0")) > _LENGTH_DIGITS_MAX:
        raise BodyTooLargeError(f"Content-Length is {length[:40]}: no body is that long")
    for name, value in headers:
        if _CONTROL.search(value):
            raise MalformedRequestError(
                f"header {name[:80]} has a control character in its value: send text"
            )
