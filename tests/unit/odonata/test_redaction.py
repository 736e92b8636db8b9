"""Secrets are hidden by name and by form; everything else stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.redaction import HIDDEN, is_secret_key, redact, redact_text, shown


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "X-Auth-Token",
        "authToken",
        "database.redis.password",
        "Set-Cookie",
        "aws_secret_access_key",
        "X-Api-Key",
        "hf_token",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_key(name)


@pytest.mark.parametrize(
    "name", ["task_id", "proxy.server.port", "key", "regex", "X-Dragonfly-Tag"]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_key(name)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://user:pw@h.test/a?b=1", "https://***@h.test/a?b=1"),
        ("redis://:pw@10.0.0.1:6379/0", "redis://***@10.0.0.1:6379/0"),
        (
            "GET https://s3.test/b/k?X-Amz-Signature=abc&X-Amz-Expires=60&partNumber=2",
            "GET https://s3.test/b/k?X-Amz-Signature=***&X-Amz-Expires=60&partNumber=2",
        ),
        (
            "https://b.oss.test/k?OSSAccessKeyId=i&Expires=1&Signature=a%2Bb",
            "https://b.oss.test/k?OSSAccessKeyId=***&Expires=1&Signature=***",
        ),
        (
            "https://acc.blob.test/c/b?sv=2024&sig=x%3D&se=9",
            "https://acc.blob.test/c/b?sv=2024&sig=***&se=9",
        ),
        ("https://h.test/?access_token=t&a=b", "https://h.test/?access_token=***&a=b"),
        (
            "https://s3.test/k?X-Amz-Security-Token=t&X-Amz-Credential=AK%2F1",
            "https://s3.test/k?X-Amz-Security-Token=***&X-Amz-Credential=***",
        ),
        ("header Authorization: Bearer abc.def-123", "header Authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNz was sent", "Basic *** was sent"),
        # Rather a word too many than a secret.
        ("basic pieces of the design", "basic *** of the design"),
        ("nothing to hide, a=b", "nothing to hide, a=b"),
        ("https://h.test/path@2x.png?size=3", "https://h.test/path@2x.png?size=3"),
    ],
)
def test_text_keeps_all_but_its_secrets(text: str, hidden: str) -> None:
    assert redact_text(text) == hidden


def test_structures_are_searched() -> None:
    event = {
        "header": {"Authorization": "Bearer x", "Accept": "*/*"},
        "urls": ["https://u:p@h.test", 3],
        "password": "p",
        "count": 4,
        "body": b"abc",
        "token": None,
    }
    assert {key: redact(value, key) for key, value in event.items()} == {
        "header": {"Authorization": HIDDEN, "Accept": "*/*"},
        "urls": ["https://***@h.test", 3],
        "password": HIDDEN,
        "count": 4,
        "body": "<3 bytes>",
        "token": None,
    }


def test_values_in_messages() -> None:
    assert shown("a", secret=False) == "'a'"
    assert shown("a", secret=True) == HIDDEN
    assert shown("", secret=True) == "''"
    assert shown(True, secret=False) == "true"
    assert shown(7, secret=False) == "7"
    assert shown("https://u:p@h.test", secret=False) == "'https://***@h.test'"


@given(
    user=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    secret=st.from_regex(r"Z[a-zA-Z0-9._~!$'()*+,;=:%-]{4,40}", fullmatch=True),
    path=st.from_regex(r"[a-z0-9/]{0,20}", fullmatch=True),
)
def test_no_password_in_a_url_survives(user: str, secret: str, path: str) -> None:
    hidden = redact_text(f"see https://{user}:{secret}@h.test/{path}, it failed")
    assert secret not in hidden
    assert hidden.endswith(f"h.test/{path}, it failed")


@given(st.from_regex(r"Z[a-zA-Z0-9._~%+/=-]{4,60}", fullmatch=True))
def test_no_signed_parameter_survives(secret: str) -> None:
    hidden = redact_text(f"https://h.test/a?x=1&X-Amz-Signature={secret}&y=2")
    assert hidden == f"https://h.test/a?x=1&X-Amz-Signature={HIDDEN}&y=2"
