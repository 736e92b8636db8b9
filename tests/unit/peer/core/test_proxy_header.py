"""Tables of headers: what passes, what stops, and what X-Dragonfly-* ask for."""

from __future__ import annotations

import pytest

from odonata.errors import CallerError, ForbiddenError
from peer.core.proxy_header import (
    Wishes,
    check_output_path,
    download_header,
    forwarded,
    parse_wishes,
    passed_through,
    shared_answer_header,
    value_of,
    via,
)

MIB = 1024 * 1024


def test_every_wish_is_read_whatever_the_case() -> None:
    assert parse_wishes(
        (
            ("x-dragonfly-tag", "blue"),
            ("X-DRAGONFLY-APPLICATION", "train"),
            ("X-Dragonfly-Priority", "3"),
            ("X-Dragonfly-Registry", "https://registry.test"),
            ("X-Dragonfly-Filtered-Query-Params", "sig, exp ,"),
            ("X-Dragonfly-Use-P2P", "TRUE"),
            ("X-Dragonfly-Prefetch", "false"),
            ("X-Dragonfly-Output-Path", "/data/x"),
            ("X-Dragonfly-Force-Hard-Link", "true"),
            ("X-Dragonfly-Piece-Length", "8mib"),
            ("X-Dragonfly-Content-For-Calculating-Task-ID", "abc"),
            ("X-Dragonfly-Enable-Task-ID-Based-Blob-Digest", "true"),
            ("X-Dragonfly-Something-Newer", "?"),
        )
    ) == Wishes(
        tag="blue",
        application="train",
        priority=3,
        registry="https://registry.test",
        filtered_query_params=("sig", "exp"),
        use_p2p=True,
        prefetch=False,
        output_path="/data/x",
        force_hard_link=True,
        piece_length=8 * MIB,
        content_for_calculating_task_id="abc",
        enable_task_id_based_blob_digest=True,
    )


def test_no_header_is_no_wish() -> None:
    assert parse_wishes((("Accept", "*/*"),)) == Wishes()


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("Priority", "7", "0 to 6"),
        ("Priority", "", "0 to 6"),
        ("Priority", "-1", "0 to 6"),
        ("Priority", "high", "0 to 6"),
        ("Use-P2P", "yes", "true or false"),
        ("Prefetch", "1", "true or false"),
        ("Force-Hard-Link", "", "true or false"),
        ("Enable-Task-ID-Based-Blob-Digest", "on", "true or false"),
        ("Piece-Length", "1MiB", "4MiB to 64MiB"),
        ("Piece-Length", "65MiB", "4MiB to 64MiB"),
        ("Piece-Length", "big", "4MiB"),
    ],
)
def test_a_wrong_wish_names_header_value_and_fix(name: str, value: str, fix: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse_wishes(((f"X-Dragonfly-{name}", value),))
    assert f"X-Dragonfly-{name}" in caught.value.detail
    assert value in caught.value.detail
    assert fix in caught.value.detail


def test_what_is_meant_for_this_hop_stays_here() -> None:
    headers = (
        ("Host", "registry.test"),
        ("Connection", "keep-alive, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("X-Dragonfly-Tag", "x"),
        ("Authorization", "Bearer t"),
        ("Accept", "a"),
        ("Accept", "b"),
    )
    assert forwarded(headers) == (
        ("Host", "registry.test"),
        ("Authorization", "Bearer t"),
        ("Accept", "a"),
        ("Accept", "b"),
    )


def test_a_download_gets_credentials_but_nothing_of_this_one_request() -> None:
    headers = (
        ("Host", "registry.test"),
        ("Authorization", "Bearer t"),
        ("Accept", "a"),
        ("accept", "b"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("Range", "bytes=0-5"),
        ("If-Range", '"x"'),
        ("If-None-Match", '"x"'),
        ("If-Modified-Since", "yesterday"),
        ("Accept-Encoding", "gzip"),
        ("Via", "1.1 other"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("X-Dragonfly-Tag", "x"),
        ("User-Agent", "docker/20.10.24"),
    )
    assert download_header(headers) == {
        "Authorization": "Bearer t",
        "Accept": "a, b",
        "Cookie": "a=1; b=2",
        "User-Agent": "docker/20.10.24",
        "Accept-Encoding": "identity",
    }


def test_a_shared_answer_keeps_what_describes_the_content() -> None:
    answer = {
        "Content-Type": "application/octet-stream",
        "ETag": '"x"',
        "Docker-Content-Digest": "sha256:00",
        "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        "Content-Length": "5",
        "Content-Range": "bytes 0-4/10",
        "Accept-Ranges": "bytes",
        "Set-Cookie": "session=of-somebody-else",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
    }
    assert dict(shared_answer_header(answer)) == {
        "Content-Type": "application/octet-stream",
        "ETag": '"x"',
        "Docker-Content-Digest": "sha256:00",
        "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    }


def test_via_grows_and_tells_who_was_here() -> None:
    assert via((), "me") == "1.1 me"
    assert via((("Via", "1.0 a"), ("via", "1.1 b")), "me") == "1.0 a, 1.1 b, 1.1 me"
    assert passed_through((("Via", "1.0 a, 1.1 me (x)"),), "me")
    assert not passed_through((("Via", "1.0 a, 1.1 meme"),), "me")
    assert not passed_through((), "me")


def test_value_of_joins_duplicates() -> None:
    assert value_of((("A", "1"), ("a", "2")), "a") == "1, 2"
    assert value_of((("A", "1"),), "b") is None


@pytest.mark.parametrize("path", ["/data/x", "/data/deep/x", "/other/x"])
def test_an_output_below_an_allowed_folder_is_taken(path: str) -> None:
    assert check_output_path(path, ("/data", "/other/")) == path


@pytest.mark.parametrize(
    "path", ["data/x", "/data/../etc/x", "/data/", "/data/x\0y", "", "/data/.."]
)
def test_a_malformed_output_is_the_callers_mistake(path: str) -> None:
    with pytest.raises(CallerError, match="absolute path"):
        check_output_path(path, ("/data",))


@pytest.mark.parametrize("roots", [(), ("/data",)])
def test_an_output_elsewhere_is_forbidden(roots: tuple[str, ...]) -> None:
    with pytest.raises(ForbiddenError, match="allowed"):
        check_output_path("/database/x", roots)
