"""Plain requests: whatever is taken as one, h11 takes, too, and reads in the same way."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.fuzzing import Edit, damage, edits

from peer.core.proxy_plain import plain_answer_head, plain_request

HEAD = (
    b"GET http://r.test/v2/x/blobs/sha256:1?a=b HTTP/1.1\r\n"
    b"Host: r.test\r\nAccept:*/*\r\nX-Empty:\r\nX-Wide:   a  b  \r\n\r\n"
)
MORE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _by_h11(data: bytes) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """Target, headers, and what is left."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage), "it has no body"
    headers = tuple((key.decode(), value.decode()) for key, value in event.headers.raw_items())
    connection.send(h11.Response(status_code=204, headers=[]))
    connection.send(h11.EndOfMessage())
    assert connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}, "it stays open"
    return event.target.decode(), headers, connection.trailing_data[0]


def test_a_plain_request_is_read() -> None:
    plain = plain_request(HEAD + MORE, len(HEAD))
    assert plain is not None
    assert plain.target == "http://r.test/v2/x/blobs/sha256:1?a=b"
    assert plain.headers == (
        ("Host", "r.test"), ("Accept", "*/*"), ("X-Empty", ""), ("X-Wide", "a  b"),
    )  # fmt: skip
    assert (HEAD + MORE)[plain.length :] == MORE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"HEAD"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.1 "),
        (b"GET ", b"GET  "),
        (b"\r\nAccept", b"\nAccept"),
        (b"Accept:", b"Accept :"),
        (b"Accept:*/*", b"Accept: a\r\n b"),
        (b"Accept:", b":"),
        (b"X-Empty:", b"X-Empty: \xc3\xa4"),
        (b"X-Empty:", b"X-Empty: a\x00b"),
        (b"X-Empty:", b"X-Empty:\t"),
        (b"X-Empty:", b"Content-Length: 0"),
        (b"X-Empty:", b"Transfer-Encoding: chunked"),
        (b"X-Empty:", b"Connection: close"),
        (b"X-Empty:", b"Expect: 100-continue"),
        (b"X-Empty:", b"Upgrade: h2c"),
        (b"X-Empty:", b"host: other.test"),
        (b"Host: r.test\r\n", b""),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_all_else_is_not_plain(old: bytes, new: bytes) -> None:
    assert old in HEAD
    assert plain_request(HEAD.replace(old, new), 65_536) is None


def test_one_that_is_too_long_is_not_plain() -> None:
    assert plain_request(HEAD, len(HEAD) - 1) is None
    assert plain_request(HEAD, len(HEAD)) is not None


@given(edits)
@example([])
def test_h11_reads_what_is_plain_in_the_same_way(changes: list[Edit]) -> None:
    data = damage(HEAD + MORE, changes)
    plain = plain_request(data, 65_536)
    if plain is not None:
        assert (plain.target, plain.headers, data[plain.length :]) == _by_h11(data)


def test_an_answer_is_written_as_h11_writes_it() -> None:
    headers = (("ETag", '"1"'), ("Content-Length", "5"), ("Via", "1.1 a, 1.1 b"))
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(MORE)
    connection.next_event()
    written = connection.send(h11.Response(status_code=206, headers=list(headers)))
    assert plain_answer_head(206, headers) == written


texts = st.text(max_size=20) | st.sampled_from(["a\r\nSet-Cookie: b", "a\n", "a ", "", "a: b"])


@given(texts, texts)
def test_no_header_becomes_two(name: str, value: str) -> None:
    head = plain_answer_head(200, ((name, value), ("Content-Length", "0")))
    if head is not None:
        assert head.count(b"\n") == 4
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Response)
        assert event.headers.raw_items()[0] == (name.encode(), value.encode())
