"""A download is taken apart, and comes together again."""

import pytest
from hypothesis import given
from support import wire_strategy as wire
from support.scheduler_world import World, download, host

from odonata.wire.message import Download
from scheduler.core.credentials import credentials_of, joined, public_part

SECRET = Download(
    url="http://x/blob",
    request_header={"authorization": "Bearer x", "accept": "*/*"},
    extra=b"key",
    output_path="/out/blob",
    tag="t",
)


@given(wire.downloads)
def test_both_parts_make_the_download(whole: Download) -> None:
    assert joined(public_part(whole), credentials_of(whole)) == whole


def test_the_public_part_holds_no_secret() -> None:
    assert public_part(SECRET) == Download(url="http://x/blob", tag="t")
    assert joined(public_part(SECRET), credentials_of(SECRET)) == SECRET
    assert credentials_of(public_part(SECRET)) is None


def test_names_of_headers_are_kept_once() -> None:
    first, second = (
        credentials_of(Download(url="http://x", request_header={name.lower(): "value"}))
        for name in ("X-Some-HEADER", "x-SOME-header")
    )
    assert first is not None
    assert second is not None
    assert first.headers[0] is second.headers[0]


@pytest.fixture
def world() -> World:
    made = World()
    made.announce(*(host(f"h{number}") for number in range(4)))
    return made


def with_header(what: Download, value: str) -> Download:
    return Download(
        url=what.url,
        request_header={"authorization": value},
        actual_content_length=what.actual_content_length,
        actual_piece_length=what.actual_piece_length,
    )


def test_peers_that_want_the_same_share_it_whatever_their_headers(world: World) -> None:
    world.register("p0", "h0", download(source=True))
    for number in (1, 2, 3):
        world.register(f"p{number}", f"h{number}", with_header(download(), f"token-{number}"))
    p0, p1, p2, p3 = (world.peer(f"p{number}") for number in range(4))
    assert p0.download.need_back_to_source, "the first one wants something else"
    assert p1.download is p2.download is p3.download
    assert [one.wanted().request_header["authorization"] for one in (p1, p2, p3)] == [
        "token-1",
        "token-2",
        "token-3",
    ]


def test_credentials_are_forgotten_with_the_end_of_the_download(world: World) -> None:
    world.origin_fetcher("p0", "h0")
    world.register("p1", "h1", with_header(download(), "token"))
    world.started("p1")
    assert world.peer("p1").credentials is not None
    world.finished("p1")
    assert world.peer("p1").credentials is None
    assert not world.peer("p1").wanted().request_header
