"""Challenges of registries, and answers of token servers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import ForbiddenError, SourceError
from odonata.image.registry_login import (
    Challenge,
    basic,
    read_challenges,
    read_token,
    token_url,
)

REGISTRY = "https://registry.test"


def challenge(realm: str, **more: str) -> Challenge:
    return Challenge(scheme="bearer", parameters={"realm": realm, **more})


CHALLENGES: list[tuple[str, list[tuple[str, dict[str, str]]]]] = [
    (
        'Bearer realm="https://auth.test/token",service="registry.test",scope="a:b:pull,push"',
        [
            (
                "bearer",
                {
                    "realm": "https://auth.test/token",
                    "service": "registry.test",
                    "scope": "a:b:pull,push",
                },
            )
        ],
    ),
    (
        'Basic realm="with \\"quotes\\", and commas"',
        [("basic", {"realm": 'with "quotes", and commas'})],
    ),
    ('BASIC Realm = "x" , charset="UTF-8"', [("basic", {"realm": "x", "charset": "UTF-8"})]),
    (
        'Negotiate, Basic realm=x, Bearer realm="y"',
        [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
    ),
    ("", []),
    ("\x00", []),
]


@pytest.mark.parametrize(("header", "expected"), CHALLENGES)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in read_challenges(header)] == expected


@given(st.text(max_size=200))
def test_no_header_makes_the_reader_fail_or_run_for_ever(header: str) -> None:
    assert len(read_challenges(header)) <= len(header)


@given(
    realm=st.text(
        st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=32), max_size=50
    ),
    service=st.from_regex(r"[a-z.:0-9]{1,30}", fullmatch=True),
)
def test_what_is_written_is_read(realm: str, service: str) -> None:
    header = f'Bearer realm="{realm}",service="{service}"'
    assert read_challenges(header) == [
        Challenge(scheme="bearer", parameters={"realm": realm, "service": service})
    ]


def test_the_token_is_asked_for_with_service_and_scope() -> None:
    found = challenge("https://auth.test/token?account=x", service="a registry")
    assert token_url(found, "lib/rand", REGISTRY) == (
        "https://auth.test/token?account=x&service=a+registry&scope=repository%3Alib%2Frand%3Apull"
    )


@pytest.mark.parametrize("realm", ["", "auth.test/token", "file:///etc/passwd", "https://"])
def test_a_realm_that_is_no_url(realm: str) -> None:
    with pytest.raises(SourceError, match="no URL"):
        token_url(challenge(realm), "lib/rand", REGISTRY)


def test_credentials_do_not_leave_tls() -> None:
    with pytest.raises(ForbiddenError, match="without TLS"):
        token_url(challenge("http://auth.test/token"), "lib/rand", REGISTRY)
    token_url(challenge("http://auth.test/token"), "lib/rand", "http://registry.test")


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_the_token_becomes_a_header(key: str) -> None:
    data = json.dumps({key: "abc", "expires_in": 300}).encode()
    assert read_token(data, REGISTRY) == "Bearer abc"


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"{}", b'{"token": ""}', b'{"token": "a\\r\\nX: y"}', b'{"token": 1}']
)
def test_what_is_no_token(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read_token(data, REGISTRY)
    assert "token server of https://registry.test" in caught.value.detail


def test_basic_is_the_one_of_the_rfc() -> None:
    # RFC 7617, section 2.
    assert basic("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
