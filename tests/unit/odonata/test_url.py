"""URLs against texts written by implementations of the WHATWG URL Standard."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.url import URL_LENGTH_MAX, format_query, parse_query, parse_url


# Expected texts computed with Rust's url crate 2.5.8.
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTP://EXAMPLE.com:80/a/../b?q=1#", "http://example.com/b?q=1#"),
        ("https://example.com/%2e%2E/a/%2e", "https://example.com/a/"),
        ("https://example.com/%zz/%c3", "https://example.com/%zz/%c3"),
        ("http:\\\\example.com\\a\\b", "http://example.com/a/b"),
        ("http:example.com/a", "http://example.com/a"),
        ("  https://example.com/\ta\nb  ", "https://example.com/ab"),
        ("https://example.com/a?it's \"<>", "https://example.com/a?it%27s%20%22%3C%3E"),
        ("https://0x7f.1/", "https://127.0.0.1/"),
        ("https://256/", "https://0.0.1.0/"),
        ("https://[2001:DB8:0:0::1]:443/x", "https://[2001:db8::1]/x"),
        ("https://[::ffff:1.2.3.4]/", "https://[::ffff:102:304]/"),
        (
            'https://bücher.example/x^{}|`<>"',
            "https://xn--bcher-kva.example/x^%7B%7D|%60%3C%3E%22",
        ),
        ("https://faß.de", "https://xn--fa-hia.de/"),
        ("https://h%41/", "https://ha/"),
        ("https://h:/", "https://h/"),
        ("hdfs://name:9000/a//b/..", "hdfs://name:9000/a//"),
        ("s3://Bucket", "s3://Bucket"),
        ("oci:image name", "oci:image name"),
        ("file:///etc/../tmp/x", "file:///tmp/x"),
    ],
)
def test_urls_are_written_as_the_standard_says(url: str, expected: str) -> None:
    assert str(parse_url(url)) == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no scheme"),
        ("/relative", "no scheme"),
        (":error_url", "no scheme"),
        ("https://", "no host"),
        ("https://:80/", "no host"),
        ("https://h:65536/", "65536"),
        ("https://h:http/", "'http'"),
        ("https://a b/", "not allowed"),
        ("https://h%00/", "not allowed"),
        ("https://h%A0/", "not allowed"),
        ("https://1.2.3.4.5/", "no IPv4"),
        ("https://1.2.3.999/", "no IPv4"),
        ("https://[::1/", "IPv6"),
        ("https://[fe80::1%eth0]/", "IPv6"),
        ("https://\N{SOFT HYPHEN}/", "invisible"),
        ("file://h:1/", "no port"),
        ("https://h/" + "a" * URL_LENGTH_MAX, "characters long"),
    ],
)
def test_what_is_no_url_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        parse_url(url)


def test_a_refusal_never_shows_the_password() -> None:
    with pytest.raises(CallerError) as caught:
        parse_url("https://user:hunter2@h:99999/")
    assert "hunter2" not in caught.value.detail


@given(st.sampled_from(["https://", "https://h", "s3://b", "hf:", "x:/"]), st.text(max_size=30))
@example("https://h", "/a/..//")
@example("x:/", "/p")
def test_text_becomes_a_fixed_point_or_a_clear_error(start: str, rest: str) -> None:
    try:
        written = str(parse_url(start + rest))
    except CallerError:
        return
    assert written.isascii()
    assert str(parse_url(written)) == written


@given(st.lists(st.tuples(st.text(), st.text())))
def test_query_pairs_survive(pairs: list[tuple[str, str]]) -> None:
    scalar = [
        (name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode())
        for name, value in pairs
    ]
    assert parse_query(format_query(scalar)) == scalar


def test_queries_as_forms_write_them() -> None:
    assert parse_query("a=b+c&&d&=e&f=%C3%A9%zz") == [
        ("a", "b c"),
        ("d", ""),
        ("", "e"),
        ("f", "é%zz"),
    ]
    assert format_query([("a b", "~*-._"), ("é", "&=")]) == "a+b=%7E*-._&%C3%A9=%26%3D"


_hosts = st.sampled_from(
    ["r.test", "R.test", "10.0.0.1", "10.0.0.256", "1.2.3", "a.1", "a.0x1", "a.", "localhost", "-"]
)
_ports = st.sampled_from(["", ":80", ":443", ":5000", ":05", ":65535", ":"])
_paths = st.text("/.%2eEab:~'{", max_size=12).map(lambda text: f"/{text}") | st.just("")
_queries = st.text("a=&'%?#<", max_size=6).map(lambda text: f"?{text}") | st.just("")


@given(st.sampled_from(["http", "https"]), _hosts, _ports, _paths, _queries)
def test_a_url_that_is_only_cut_is_what_parsing_makes_of_it(
    scheme: str, host: str, port: str, path: str, query: str
) -> None:
    url = f"{scheme}://{host}{port}{path}{query}"
    try:
        parsed = parse_url(url)
    except CallerError:
        with pytest.raises(CallerError):
            parse_url(f" {url}")
        return
    assert parsed == parse_url(f" {url}")  # a space before it is dropped, and has it parsed in full
