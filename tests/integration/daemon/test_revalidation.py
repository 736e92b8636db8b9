"""A request that wants what is held checked against its origin, by a real daemon."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.content import MIB, make_content
from support.daemon import daemon, get, scheduler
from support.http_client import HttpClient
from support.versioned_origin import VersionedOrigin

from odonata.errors import OdonataError
from peer.runtime.daemon import Daemon

OLD, NEW = make_content(9 * MIB), make_content(9 * MIB, seed=2)
CHECKED = {"Cache-Control": "no-cache"}


@pytest.fixture
async def origin() -> AsyncIterator[VersionedOrigin]:
    async with VersionedOrigin() as origin:
        yield origin


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2, proxy__rules=[{"regex": ".*"}]) as one:
        yield one


async def read(one: Daemon, url: str, folder: Path, header: dict[str, str]) -> bytes:
    output = await get(one, url, folder / "out", request_header=header, overwrite=True)
    return output.read_bytes()


async def test_the_same_content_is_served_from_disk(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path
) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    before = len(origin.requests)
    assert await read(one, url, tmp_path, {}) == OLD
    assert len(origin.requests) == before  # nobody asked for a check
    for header in (CHECKED, {"cache-control": "max-age = 0"}, {"Pragma": "no-cache"}):
        assert await read(one, url, tmp_path, header) == OLD
    assert origin.statuses[before:] == [304, 304, 304]


async def test_a_changed_content_is_fetched_anew(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path
) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    origin.put("/f", NEW)
    assert await read(one, url, tmp_path, {}) == OLD
    assert await read(one, url, tmp_path, CHECKED) == NEW
    assert await read(one, url, tmp_path, {}) == NEW
    origin.put("/f", NEW[:1000])
    assert await read(one, url, tmp_path, CHECKED) == NEW[:1000]
    origin.put("/f", b"")
    assert await read(one, url, tmp_path, CHECKED) == b""
    assert await read(one, url, tmp_path, CHECKED) == b""


async def test_a_content_without_validators_is_fetched_anew(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path
) -> None:
    origin.etags = False
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    origin.put("/f", NEW)
    assert await read(one, url, tmp_path, CHECKED) == NEW


@pytest.mark.parametrize("failure", ["gone", 503, 429])
async def test_while_the_origin_can_not_tell_what_is_held_is_served_with_a_warning(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path, failure: str | int
) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    if isinstance(failure, int):
        origin.refuses = failure
    else:
        await origin.__aexit__()
    with capture_logs() as log:
        assert await read(one, url, tmp_path, CHECKED) == OLD
    assert [line["log_level"] for line in log if line["event"] == "served_unchecked"] == ["warning"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_origin_that_refuses_refuses_the_request(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path, status: int
) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    origin.refuses = status
    with pytest.raises(OdonataError, match=str(status)):
        await read(one, url, tmp_path, CHECKED)
    assert await read(one, url, tmp_path, {}) == OLD


async def test_a_request_that_must_not_go_to_the_source_is_not_checked(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path
) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    origin.put("/f", NEW)
    output = await get(
        one, url, tmp_path / "out", request_header=CHECKED, disable_back_to_source=True,
        overwrite=True,
    )  # fmt: skip
    assert output.read_bytes() == OLD


async def test_a_blob_named_by_its_digest_is_not_checked(
    origin: VersionedOrigin, one: Daemon, tmp_path: Path
) -> None:
    url = origin.put(f"/v2/lib/x/blobs/sha256:{hashlib.sha256(OLD).hexdigest()}", OLD)
    fields = {"enable_task_id_based_blob_digest": True, "overwrite": True}
    for _ in range(2):
        out = await get(one, url, tmp_path / "out", request_header=CHECKED, **fields)
        assert out.read_bytes() == OLD
    assert origin.statuses == [206]


async def test_by_the_proxy(origin: VersionedOrigin, one: Daemon, tmp_path: Path) -> None:
    url = origin.put("/f", OLD)
    assert await read(one, url, tmp_path, {}) == OLD
    for content in (OLD, NEW):
        origin.put("/f", content)
        async with HttpClient(one.proxy_address) as client:
            answer = await client.get(url, "Cache-Control: no-cache")
        assert answer.status == 200
        assert answer.body == content
    assert origin.statuses == [206, 304, 206, 206]


async def test_in_a_swarm_the_new_content_comes_from_the_source(
    origin: VersionedOrigin, tmp_path: Path
) -> None:
    """Others hold the old one still: what they have is not what is wanted."""
    async with scheduler() as app:
        at = {"scheduler__addrs": [app.address]}
        async with daemon(tmp_path, 2, **at) as first, daemon(tmp_path, 3, **at) as second:
            url = origin.put("/f", OLD)
            assert await read(first, url, tmp_path, {}) == OLD
            assert await read(second, url, tmp_path, {}) == OLD
            origin.put("/f", NEW)
            assert await read(second, url, tmp_path, CHECKED) == NEW
            assert await read(first, url, tmp_path, CHECKED) == NEW
