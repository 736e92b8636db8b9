"""Sizes, rates and durations as people write them: text to plain numbers, and back.

Sizes are bytes, rates bytes per second, durations seconds. `K`, `M`, `G`, `T`, `P` count in
thousands, `Ki`, `Mi`, … in 1024s, as in Dragonfly's settings; case does not matter except in `bit`
against `B`. Bare numbers mean bytes; a duration needs its unit, so that nobody mistakes minutes for
seconds. No settings and no ISO 8601 here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from odonata.errors import CallerError

# Nothing that people write is longer; it bounds the work on hostile text.
TEXT_LENGTH_MAX: Final = 64
# The wire's largest signed number; nothing is counted beyond it.
SIZE_MAX: Final = 2**63 - 1
# A thousand years: beyond it a timer's arithmetic loses its milliseconds.
DURATION_MAX_S: Final = 1000 * 366 * 86400

_PREFIXES: Final = "kmgtp"
_NUMBER: Final = r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_SIZE: Final = re.compile(_NUMBER + r"\s*(?P<prefix>[kmgtp]?)(?P<binary>i?)b?", re.IGNORECASE)
_BITS: Final = re.compile(_NUMBER + r"\s*(?P<prefix>[kmgtp]?)(?P<binary>i?)bits?", re.IGNORECASE)
_DURATION_PART: Final = re.compile(_NUMBER + r"\s*(?P<unit>[a-zµ]+)\s*")
_DURATION_UNITS_S: Final = {
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), Decimal("1e-9")),
    **dict.fromkeys(("us", "µs", "usec", "microsecond", "microseconds"), Decimal("1e-6")),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), Decimal("1e-3")),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), Decimal(3600)),
    **dict.fromkeys(("d", "day", "days"), Decimal(86400)),
    **dict.fromkeys(("w", "week", "weeks"), Decimal(604800)),
}


class UnitError(CallerError, ValueError):
    """Text that is no size, rate or duration. Also a ValueError, as settings' validators expect."""

    code = "bad_unit"


def parse_size(text: str) -> int:
    """Bytes of "4MiB", "50GB", "1.5 KiB", "4096". A fraction of a byte is cut off. UnitError."""
    found = _match(_SIZE, text)
    if found is None:
        raise UnitError(
            f"{_shown(text)} is not a size: write a number and a unit, such as 512KiB, 4MiB, 50GB"
        )
    return _checked_size(text, _scaled(found))


def parse_rate(text: str) -> int:
    """Bytes per second of "10MB/s", "50GiB" (a size means per second) or "100Mbit/s". UnitError."""
    body = text.strip()
    if body.lower().endswith("/s"):
        body = body[:-2].rstrip()
    bits = _match(_BITS, body)
    found = bits or _match(_SIZE, body)
    if found is None:
        raise UnitError(
            f"{_shown(text)} is not a rate: write bytes or bits per second, "
            "such as 10MB/s, 512KiB/s, 100Mbit/s"
        )
    return _checked_size(text, _scaled(found) / (8 if bits else 1))


def parse_duration_s(text: str) -> float:
    """Seconds of "500ms", "10s", "1m30s", "2h", "1.5 days". Parts add up. UnitError."""
    body = text.strip().lower()
    total = Decimal(0)
    at = 0
    if len(body) <= TEXT_LENGTH_MAX and body.isprintable():
        while found := _DURATION_PART.match(body, at):
            unit_s = _DURATION_UNITS_S.get(found["unit"])
            if unit_s is None:
                break
            total += Decimal(found["number"]) * unit_s
            at = found.end()
    if at == 0 or at != len(body):
        raise UnitError(
            f"{_shown(text)} is not a duration: write numbers with units, "
            "such as 500ms, 10s, 1m30s, 2h"
        )
    if total > DURATION_MAX_S:
        raise UnitError(f"{_shown(text)} is too long: at most {DURATION_MAX_S // 86400}d")
    return float(total)


def format_size(n_bytes: float) -> str:
    """For people: "0 B", "1023 B", "1.5 KiB", "128.0 MiB". Use `exact_size` to be read back."""
    value = float(n_bytes)
    if abs(value) < 1024:
        return f"{value:.0f} B"
    unit = "B"
    for prefix in _PREFIXES.upper():
        value /= 1024
        unit = f"{prefix}iB"
        # 1023.95 and more would print as 1024.0 of the smaller unit.
        if abs(value) < 1023.95:
            break
    return f"{value:.1f} {unit}"


def exact_size(n_bytes: int) -> str:
    """The shortest text that `parse_size` reads back as this number: "4MiB", "50GB", "1025B"."""
    best = f"{n_bytes}B"
    for base, infix in ((1000, ""), (1024, "i")):
        for power, prefix in enumerate(_PREFIXES.upper(), start=1):
            count, rest = divmod(n_bytes, base**power)
            text = f"{count}{prefix}{infix}B"
            if n_bytes and rest == 0 and len(text) <= len(best):
                best = text
    return best


def format_rate(bytes_per_s: float) -> str:
    """For people: "1.5 MiB/s"."""
    return f"{format_size(bytes_per_s)}/s"


def format_duration(seconds: float) -> str:
    """For people and settings: "0s", "350us", "500ms", "1.25s", "1m30s", "2h", "1d4h".

    Read back by `parse_duration_s` to within a half of the last unit shown: 1 us below a
    millisecond, 10 us below a second, 10 ms below a minute, 1 s from there.
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 59.995:
        return _format_below_minute(seconds)
    rest = round(seconds)
    text = ""
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length_s)
        if count:
            text += f"{count}{unit}"
    return text


def _format_below_minute(seconds: float) -> str:
    if seconds >= 0.999995:
        return f"{_trimmed(seconds, 2)}s"
    if seconds >= 0.0009995:
        return f"{_trimmed(seconds * 1e3, 2)}ms"
    micros = round(seconds * 1e6)
    return f"{micros}us" if micros else "0s"


def _trimmed(value: float, places: int) -> str:
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    body = text.strip()
    return pattern.fullmatch(body) if len(body) <= TEXT_LENGTH_MAX and body.isascii() else None


def _scaled(found: re.Match[str]) -> Decimal:
    if found["binary"] and not found["prefix"]:
        raise UnitError(f"{_shown(found[0])} has no unit: write KiB, MiB, GiB or TiB")
    power = _PREFIXES.index(found["prefix"].lower()) + 1 if found["prefix"] else 0
    base = 1024 if found["binary"] else 1000
    return Decimal(found["number"]) * Decimal(base**power)


def _checked_size(text: str, value: Decimal) -> int:
    if value > SIZE_MAX:
        raise UnitError(f"{_shown(text)} is too much: at most {SIZE_MAX} bytes")
    return int(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= TEXT_LENGTH_MAX else f"{text[:TEXT_LENGTH_MAX]}…")
