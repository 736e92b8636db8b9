"""What a single setting may hold: durations, sizes, ports, addresses, patterns, file names.

Each type is an annotated Python type: text as people write it goes in ("6m", "50GB",
"127.0.0.1:8002"), a plain number in the unit of the attribute's name comes out. A wrong value
raises ValueError with a message that names the value and the fix; `odonata.settings.loading` adds
the file and the key. No file is opened here.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo

from odonata.piece import PIECE_LENGTH_FLOOR, PIECE_LENGTH_MAX
from odonata.units import exact_size, format_duration, parse_duration_s, parse_rate, parse_size

# The kernel's limit for a unix socket's name (sun_path, 108 bytes with the closing zero).
_SOCKET_PATH_BYTES = 107
# A pattern is matched against every URL that passes the proxy; a longer one is a mistake.
_PATTERN_CHARS = 4096


_PORT_RANGE = re.compile(r"(.+):([0-9]{1,5})-([0-9]{1,5})", re.ASCII)
_PORT_RANGE_MAX = 64  # as many as a scheduler may have workers

# Validation context of values that a person wrote in a file, a variable or a flag.
WRITTEN = {"written": True}


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return parse_duration_s(value)
    written = info.context is not None and isinstance(value, int | float) and value
    if written and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit: write {value}s, or 10s, 5m, 1h30m")
    return value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _rate(value: object) -> object:
    return parse_rate(value) if isinstance(value, str) else value


PORT_MAX = 65535


def _port(value: int) -> int:
    if not 0 <= value <= PORT_MAX:
        raise ValueError(f"{value} is not a port: use 1 to 65535, or 0 to let the system choose")
    return value


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bad_host = not host or "/" in host or (":" in host and not host.startswith("["))
    if not colon or bad_host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not an address: write host:port, such as 10.0.0.1:8002")
    return value


def _spread_ports(value: object) -> object:
    """`host:8002-8005` in a list stands for four addresses."""
    if not isinstance(value, list | tuple):
        return value
    spread: list[object] = []
    for one in cast("list[object]", value):
        found = _PORT_RANGE.fullmatch(one) if isinstance(one, str) else None
        if found is None:
            spread.append(one)
            continue
        first, last = int(found[2]), int(found[3])
        if not 1 <= first <= last <= PORT_MAX or last - first >= _PORT_RANGE_MAX:
            raise ValueError(
                f"{one!r} is no range of ports: write host:FIRST-LAST, such as 10.0.0.1:8002-8005, "
                f"of at most {_PORT_RANGE_MAX} ports"
            )
        spread += [f"{found[1]}:{port}" for port in range(first, last + 1)]
    return spread


def _listen_address(value: str) -> str:
    ip, colon, port = value.rpartition(":")
    bare = ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip
    try:
        known = port.isdecimal() and int(port) <= 65535 and (not ip or ipaddress.ip_address(bare))
    except ValueError:
        known = False
    if not colon or not known or (":" in bare and bare == ip):
        raise ValueError(
            f"{value!r} is no address to listen on: write ip:port, such as 127.0.0.1:8000, or "
            ":8000 for every address of this machine"
        )
    return value


def split_listen_address(addr: str) -> tuple[str, int]:
    """IP and port of a `ListenAddress`; every address (0.0.0.0) if it names none."""
    ip, _, port = addr.rpartition(":")
    return ip.strip("[]") or "0.0.0.0", int(port)


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is not an IP address: write it in digits, such as 10.0.0.1"
        ) from None


def _pattern(value: str) -> str:
    if len(value) > _PATTERN_CHARS:
        raise ValueError(
            f"a pattern of {len(value)} characters is too long: at most {_PATTERN_CHARS}"
        )
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def _socket_path(value: Path) -> Path:
    length = len(str(value).encode())
    if length > _SOCKET_PATH_BYTES:
        raise ValueError(
            f"{str(value)!r} has {length} bytes, too long for a unix socket: "
            f"choose a path of at most {_SOCKET_PATH_BYTES} bytes"
        )
    return value


def _piece_length(value: int) -> int:
    if not PIECE_LENGTH_FLOOR <= value <= PIECE_LENGTH_MAX or value.bit_count() != 1:
        raise ValueError(
            f"{exact_size(value)} is no length of pieces: choose a power of two from "
            f"{exact_size(PIECE_LENGTH_FLOOR)} to {exact_size(PIECE_LENGTH_MAX)}"
        )
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not a URL: write http://host or https://host")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0),
    PlainSerializer(format_duration, when_used="json"),
]
"""A duration. Written, it needs a unit; in Python it is a number of seconds."""

ByteCount = Annotated[
    int, BeforeValidator(_size), Field(ge=0), PlainSerializer(exact_size, when_used="json")
]
"""A size. Written, it may carry a unit; a bare number is bytes."""

PieceLength = Annotated[ByteCount, AfterValidator(_piece_length)]
"""How long pieces are: a size that cuts the ranges of others without a rest."""

BytesPerS = Annotated[
    int, BeforeValidator(_rate), Field(gt=0), PlainSerializer(exact_size, when_used="json")
]
"""A rate, written as the size (or the bits) that may pass in a second."""

Port = Annotated[int, AfterValidator(_port)]
"""A port to listen on; 0 lets the system choose."""

HostPort = Annotated[str, AfterValidator(_address)]
"""Where to connect: host:port, [v6]:port."""

HostPorts = Annotated[tuple[HostPort, ...], BeforeValidator(_spread_ports)]
"""Several of them; `host:8002-8005` stands for one address of each port."""

ListenAddress = Annotated[str, AfterValidator(_listen_address)]
"""Where to listen, as Dragonfly's Go programs have it: "127.0.0.1:8000", ":8000" (every address),
port 0: the system chooses. See `split_listen_address`."""

Ip = Annotated[str, AfterValidator(_ip)]
"""An IP literal, as Dragonfly's clients demand."""

Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression, searched (not matched from the start). Kept as text."""

HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""An http(s) URL, kept as text."""

SocketPath = Annotated[Path, AfterValidator(_socket_path), PlainSerializer(str, when_used="json")]
"""Where a unix socket lies."""

FilePath = Annotated[Path, PlainSerializer(str, when_used="json")]
"""A file or folder; whether it is there is for its user to say."""

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
