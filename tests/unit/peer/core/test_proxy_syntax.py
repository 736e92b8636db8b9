"""Requests that are refused although the grammar allows them."""

from __future__ import annotations

import pytest

from peer.core.proxy_header import HeaderList
from peer.core.proxy_syntax import BodyTooLargeError, MalformedRequestError, check_syntax

CHUNKED = ("transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", (("Host", "a"), ("X", "a\tb ä"))),
        ("1.1", (CHUNKED,)),
        ("1.0", (("Content-Length", "000000000000000000005"),)),
        ("1.1", (("Content-Length", "9" * 18),)),
        ("1.2", ()),
    ],
)
def test_most_are_right(version: str, headers: HeaderList) -> None:
    check_syntax(version, headers)


@pytest.mark.parametrize(
    ("version", "headers", "said"),
    [
        ("1.1", (CHUNKED, ("content-length", "5")), "both"),
        ("1.0", (CHUNKED,), "HTTP/1.0"),
        ("2.0", (), "HTTP/2.0"),
        ("1.1", (("X", "a\x01"),), "header X"),
        ("1.1", (("X", "\x7f"),), "control character"),
    ],
)
def test_what_is_wrong_is_named(version: str, headers: HeaderList, said: str) -> None:
    with pytest.raises(MalformedRequestError, match=said) as refusal:
        check_syntax(version, headers)
    assert refusal.value.http_status == 400


def test_no_body_is_that_long() -> None:
    with pytest.raises(BodyTooLargeError, match="9999") as refusal:
        check_syntax("1.1", (("Content-Length", "9" * 19),))
    assert refusal.value.http_status == 413
