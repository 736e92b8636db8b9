"""What a single setting may hold: durations, sizes, ports, addresses, patterns, file names.

Each type is an annotated Python type: text as people write it goes in ("6m", "50GB", "127.0.0.1:8002"), a plain
number in the unit of the attribute's name comes out. A wrong value raises ValueError with a message that names the
value and the fix; `odonata.settings.loading` adds the file and the key. No file is opened here.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

# The kernel's limit for a unix socket's name (sun_path, 108 bytes with the closing zero).
_SOCKET_PATH_BYTES = 107
# A pattern is matched against every URL that passes the proxy; longer ones are a mistake in the file.
_PATTERN_CHARS = 4096

# TODO-UNITS
_DURATION = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = re.findall(r"([0-9.]+)(ns|us|ms|s|m|h|d)", value)
    if not parts or "".join(a + b for a, b in parts) != value:
        raise ValueError(
            f"{value!r} is not a duration: write a number and a unit, such as 10s, 5m, 1h30m"
        )
    return sum(float(a) * _DURATION[b] for a, b in parts)


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9.]+)\s*([kmgtKMGT]?)(i?)[bB]?", value)
    if match is None:
        raise ValueError(
            f"{value!r} is not a size: write a number and a unit, such as 512KiB, 50GB"
        )
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def _port(value: int) -> int:
    if not 0 <= value <= 65535:
        raise ValueError(f"{value} is not a port: use 1 to 65535, or 0 to let the system choose")
    return value


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bad_host = not host or "/" in host or (":" in host and not host.startswith("["))
    if not colon or bad_host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not an address: write host:port, such as 10.0.0.1:8002")
    return value


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


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not a URL: write http://host or https://host")
    return value


Seconds = Annotated[float, BeforeValidator(_duration), Field(ge=0)]
"""A duration. Text needs a unit; a bare number is seconds."""

ByteCount = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""A size. Text may carry a unit; a bare number is bytes."""

BytesPerS = Annotated[int, BeforeValidator(_size), Field(gt=0)]
"""A rate, written as the size that may pass in a second."""

Port = Annotated[int, AfterValidator(_port)]
"""A port to listen on; 0 lets the system choose."""

HostPort = Annotated[str, AfterValidator(_address)]
"""Where to connect: host:port, [v6]:port."""

Ip = Annotated[str, AfterValidator(_ip)]
"""An IP literal, as Dragonfly's clients demand."""

Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression, searched (not matched from the start). Kept as text."""

HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""An http(s) URL, kept as text."""

SocketPath = Annotated[Path, AfterValidator(_socket_path), PlainSerializer(str)]
"""Where a unix socket lies."""

FilePath = Annotated[Path, PlainSerializer(str)]
"""A file or folder; whether it is there is for its user to say."""

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
