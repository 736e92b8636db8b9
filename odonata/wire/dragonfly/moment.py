"""Seconds as floats <-> protobuf's Duration and Timestamp. Nothing of a time zone or a calendar.

A float holds today's Unix time to about 0.2 us, so a sender's nanoseconds are rounded to that.
"""

from __future__ import annotations

import math

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_NANOS_PER_S = 1_000_000_000

MAX_DURATION_S = 315_576_000_000
"""10,000 years: the longest that protobuf calls a Duration."""

# The years 1 to 9999, which is all that protobuf calls a Timestamp.
_FIRST_MOMENT_S = -62_135_596_800
_LAST_MOMENT_S = 253_402_300_799


def _split(value_s: float) -> tuple[int, int]:
    whole_s = math.floor(value_s)
    nanos = round((value_s - whole_s) * _NANOS_PER_S)
    if nanos == _NANOS_PER_S:
        return whole_s + 1, 0
    return whole_s, nanos


def duration_to_wire(value_s: float) -> Duration:
    """`value_s` seconds; seconds and nanos get the same sign, as protobuf asks.

    What is longer than any Duration was somebody else's nonsense, and becomes the longest.
    """
    whole_s, nanos = _split(min(abs(value_s), MAX_DURATION_S))
    if value_s < 0:
        return Duration(seconds=-whole_s, nanos=-nanos)
    return Duration(seconds=whole_s, nanos=nanos)


def duration_from_wire(message: Duration) -> float:
    """Seconds."""
    return message.seconds + message.nanos / _NANOS_PER_S


def timestamp_to_wire(value_s: float) -> Timestamp:
    """`value_s` seconds since 1970; nanos are never negative, as protobuf asks.

    What is no Timestamp was somebody else's nonsense, and becomes the nearest one.
    """
    whole_s, nanos = _split(min(max(value_s, _FIRST_MOMENT_S), _LAST_MOMENT_S))
    return Timestamp(seconds=whole_s, nanos=nanos)


def timestamp_from_wire(message: Timestamp) -> float:
    """Seconds since 1970."""
    return message.seconds + message.nanos / _NANOS_PER_S
