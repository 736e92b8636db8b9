"""gRPC's side of the headers: what a call asks for, and the blocks it is answered with.

After gRPC's "HTTP/2 protocol" document: path, timeout, encoding, custom metadata with its binary
form, percent-encoded messages. Values of the caller are never logged.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from odonata.grpc_h2.frame import Code, StreamFault
from odonata.grpc_h2.header import Fields, block_of

Metadata = tuple[tuple[str, str | bytes], ...]

CONTENT_TYPE: Final = "application/grpc"

# gRPC's status codes that the codec gives by itself.
OK: Final = 0
INTERNAL: Final = 13
UNIMPLEMENTED: Final = 12
RESOURCE_EXHAUSTED: Final = 8

# A timeout has at most eight digits and a unit.
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

# RFC 9113 §8.2.2: they are of one connection, and mean nothing in HTTP/2.
_FORBIDDEN: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = (b":method", b":scheme", b":path")

# The transport's own; handlers see the rest.
_RESERVED: Final = frozenset({b"te", b"content-type", b"grpc-timeout", b"grpc-encoding"})

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_IN_VALUE = re.compile(rb"[\x00\r\n]")

# Percent-encoded in a message: all but printable ASCII, and the percent sign itself.
_PLAIN_IN_MESSAGE: Final = "".join(chr(n) for n in range(0x20, 0x7F) if chr(n) != "%")


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the headers of a call say. `http_status` is not 200 for what is no gRPC call at all."""

    path: str
    timeout_s: float | None
    encoding: str
    metadata: Metadata
    http_status: int = 200


def call_head_of(fields: Fields) -> CallHead:
    """Read a call's headers. Raises StreamFault for what HTTP/2 calls malformed."""
    pseudo, plain = _sorted_out(fields)
    method, path = pseudo[b":method"], pseudo[b":path"]
    values = dict(plain)
    status = 200
    if not values.get(b"content-type", b"").startswith(CONTENT_TYPE.encode()):
        status = 415
    elif method != b"POST":
        status = 405
    return CallHead(
        path=path.decode("latin-1"),
        timeout_s=_timeout_s(values.get(b"grpc-timeout")),
        encoding=values.get(b"grpc-encoding", b"identity").decode("latin-1"),
        metadata=tuple(e for n, v in plain if n not in _RESERVED for e in _entries(n, v)),
        http_status=status,
    )


def _sorted_out(fields: Fields) -> tuple[dict[bytes, bytes], Fields]:
    pseudo: dict[bytes, bytes] = {}
    plain: Fields = []
    for name, value in fields:
        if name[:1] == b":":
            if plain or name in pseudo or name not in _PSEUDO:
                raise StreamFault(Code.PROTOCOL_ERROR, "pseudo header fields out of order")
            pseudo[name] = value
            continue
        is_bad = _NAME.fullmatch(name) is None or _BAD_IN_VALUE.search(value) is not None
        if is_bad or name in _FORBIDDEN:
            raise StreamFault(Code.PROTOCOL_ERROR, "a header field that HTTP/2 does not allow")
        plain.append((name, value))
    if any(not pseudo.get(name) for name in _NEEDED):
        raise StreamFault(Code.PROTOCOL_ERROR, "method, scheme or path is missing")
    return pseudo, plain


def _timeout_s(value: bytes | None) -> float | None:
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise StreamFault(Code.PROTOCOL_ERROR, "grpc-timeout is not a number and a unit")
    return int(found[1]) * _UNITS_S[found[2]]


def _entries(name: bytes, value: bytes) -> list[tuple[str, str | bytes]]:
    key = name.decode("ascii")
    if not key.endswith("-bin"):
        return [(key, value.decode("latin-1"))]
    try:
        # Padding may be left out, and more of it does no harm. A comma joins two values of one key.
        return [(key, b64decode(part + b"==", validate=False)) for part in value.split(b",")]
    except binascii.Error as error:
        raise StreamFault(Code.PROTOCOL_ERROR, "binary metadata is not base64") from error


# --- answers --------------------------------------------------------------------------------------


def head_block(metadata: Metadata = ()) -> bytes:
    """The headers that begin an answer."""
    fields = [(":status", "200"), ("content-type", CONTENT_TYPE)]
    return block_of([*fields, *_written(metadata)])


def status_block(
    status: int, message: str = "", metadata: Metadata = (), *, alone: bool = False
) -> bytes:
    """The trailers that end an answer; `alone`: no headers went before ("trailers only")."""
    fields = [(":status", "200"), ("content-type", CONTENT_TYPE)] if alone else []
    fields.append(("grpc-status", str(status)))
    if message:
        fields.append(("grpc-message", percent_encoded(message)))
    return block_of([*fields, *_written(metadata)])


def http_block(status: int) -> bytes:
    """The whole answer to what is no gRPC call."""
    return block_of([(":status", str(status)), ("content-type", "text/plain")])


def _written(metadata: Metadata) -> list[tuple[str, str]]:
    return [
        (key, b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value)
        for key, value in metadata
    ]


def percent_encoded(message: str) -> str:
    """A status message as it travels."""
    return quote(message, safe=_PLAIN_IN_MESSAGE)


def percent_decoded(message: str) -> str:
    """A status message as it was."""
    return unquote(message)
