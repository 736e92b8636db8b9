"""Sizes, rates and durations: what is read, what is refused, and that text comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.units import (
    SIZE_MAX,
    UnitError,
    exact_size,
    format_duration,
    format_rate,
    format_size,
    parse_duration_s,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("4MiB", 4 * 1024**2),
        (" 4 mib ", 4 * 1024**2),
        ("50GB", 50 * 10**9),
        ("50G", 50 * 10**9),
        ("1Ki", 1024),
        ("1.5KiB", 1536),
        (".5k", 500),
        ("1.1KiB", 1126),
        ("2TiB", 2 * 1024**4),
        ("1PB", 10**15),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("10MB/s", 10_000_000),
        ("10 MB/s", 10_000_000),
        ("50GiB", 50 * 1024**3),
        ("100Mbit/s", 12_500_000),
        ("8 kbit", 1000),
        ("1Gbits/s", 125_000_000),
        ("4096", 4096),
    ],
)
def test_rates(text: str, bytes_per_s: int) -> None:
    assert parse_rate(text) == bytes_per_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1m30s", 90),
        ("1h 30min", 5400),
        ("2h", 7200),
        ("1.5 days", 129_600),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("7ns", 7e-9),
        ("1W", 604_800),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "4 MiBB", "-1", "1e3", "4iB", "four", "4 MiB 2", "٤", "1.", "1" * 65, "4\u212aB"],
)
def test_what_is_no_size_is_refused_with_the_value_and_an_example(text: str) -> None:
    with pytest.raises(UnitError, match=r"(MiB|KiB)") as caught:
        parse_size(text)
    assert repr(text[:64])[:-1] in caught.value.detail


@pytest.mark.parametrize(
    "text", ["", "10", "1x", "s", "1m30", "m30s", "-1s", "1s!", "1" * 70 + "s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UnitError, match="1m30s"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["10MB/m", "fast", "10bps"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UnitError, match="10MB/s"):
        parse_rate(text)


def test_numbers_too_large_are_refused() -> None:
    with pytest.raises(UnitError, match=str(SIZE_MAX)):
        parse_size("10000PB")
    with pytest.raises(UnitError, match="too long"):
        parse_duration_s("1000000w")


def test_the_error_is_the_callers_and_a_value_error() -> None:
    assert issubclass(UnitError, CallerError)
    assert issubclass(UnitError, ValueError)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (128 * 1024**2, "128.0 MiB"),
        (1024**3 - 1, "1.0 GiB"),
        (1024**6, "1024.0 PiB"),
    ],
)
def test_sizes_for_people(n_bytes: int, text: str) -> None:
    assert format_size(n_bytes) == text
    assert format_rate(n_bytes) == f"{text}/s"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0B"), (4 * 1024**2, "4MiB"), (50 * 10**9, "50GB"), (1025, "1025B"), (1024, "1KiB")],
)
def test_exact_sizes(n_bytes: int, text: str) -> None:
    assert exact_size(n_bytes) == text


@given(st.integers(0, SIZE_MAX) | st.integers(0, 4096).map(lambda n: n * 1024**2))
def test_exact_sizes_come_back(n_bytes: int) -> None:
    assert parse_size(exact_size(n_bytes)) == n_bytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.00035, "350us"),
        (0.5, "500ms"),
        (1.25, "1.25s"),
        (10, "10s"),
        (59.999, "1m"),
        (90, "1m30s"),
        (7200, "2h"),
        (100_800, "1d4h"),
        (-90, "-1m30s"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 10**9))
def test_durations_come_back_nearly(seconds: float) -> None:
    back = parse_duration_s(format_duration(seconds))
    unit = 1e-6 if seconds < 1e-3 else 1e-5 if seconds < 1 else 1e-2 if seconds < 59 else 1
    assert abs(back - seconds) <= unit * 0.51
