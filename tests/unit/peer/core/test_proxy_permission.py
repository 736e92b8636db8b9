"""Who has to be asked for, and what an answer is good for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.core.proxy_permission import Permissions, is_permitted, permission_key, question

BLOB = f"https://r.test/v2/lib/x/blobs/sha256:{'a' * 64}"
TOKEN = ("Authorization", "Bearer one")


@pytest.mark.parametrize(
    ("url", "headers", "method"),
    [
        (BLOB, (), "HEAD"),
        (BLOB, (TOKEN,), "HEAD"),
        (f"{BLOB}?ns=r.test", (), "HEAD"),
        ("https://r.test/file", (), None),
        ("https://r.test/file", (("Accept", "*/*"),), None),
        ("https://r.test/file?signature=1", (("authorization", "x"),), "GET"),
        ("https://r.test/file", (("COOKIE", "session=1"),), "GET"),
    ],
)
def test_who_is_asked_and_how(
    url: str, headers: tuple[tuple[str, str], ...], method: str | None
) -> None:
    assert question(url, headers) == method


@pytest.mark.parametrize(
    ("status", "lets_in"),
    [(200, True), (206, True), (307, True), (416, True), (401, False), (403, False), (404, False)],
)
def test_what_an_answer_means(status: int, lets_in: bool) -> None:
    assert is_permitted(status) is lets_in


def test_a_permission_is_for_one_url_and_one_asker() -> None:
    key = permission_key(BLOB, (TOKEN,))
    same = (("user-agent", "docker"), ("AUTHORIZATION", "Bearer one"), ("Range", "bytes=1-"))
    assert permission_key(BLOB, same) == key
    others = [
        permission_key(BLOB, ()),
        permission_key(BLOB, (("Authorization", "Bearer two"),)),
        permission_key(BLOB, (TOKEN, ("Private-Token", "mine"))),
        permission_key(BLOB.replace("lib", "bil"), (TOKEN,)),
        permission_key(f"{BLOB}?token=1", (TOKEN,)),
    ]
    assert len({key, *others}) == 6


@given(st.text(), st.text())
def test_any_header_can_be_told(name: str, value: str) -> None:
    assert len(permission_key(BLOB, ((name, value),))) == 32


def test_it_holds_for_a_while_and_the_oldest_goes_first() -> None:
    kept = Permissions(ttl_s=60.0, entries_max=2)
    assert not kept.holds(b"a", 0.0)
    kept.grant(b"a", 0.0)
    assert kept.holds(b"a", 59.9)
    assert not kept.holds(b"a", 60.0)
    assert len(kept) == 0
    for number, key in enumerate((b"a", b"b", b"a", b"c")):
        kept.grant(key, float(number))
    assert [kept.holds(key, 4.0) for key in (b"a", b"b", b"c")] == [True, False, True]
