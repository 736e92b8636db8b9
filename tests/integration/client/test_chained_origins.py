"""`odonata::s3://...` from end to end: fsspec and pandas, a real daemon, a real S3 server."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S
from support.source_world import BUCKET, S3World

from odonata.client import AsyncClient
from odonata.client.filesystem import OdonataFileSystem, register
from odonata.errors import CallerError
from peer.runtime.daemon import Daemon

fsspec: Any = importlib.import_module("fsspec")  # ships no types

CONTENT = make_content(9 * MIB + 3)
FRAME = pd.DataFrame({"number": range(10_000), "name": [f"n{n}" for n in range(10_000)]})


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[S3World]:
    async with S3World(tmp_path) as world:
        yield world


def told(world: S3World, one: Daemon) -> dict[str, Any]:
    """The storage options of both, as docs/library.md has them."""
    storage = world.options.storage
    inner = {
        "key": storage.access_key_id,
        "secret": storage.access_key_secret,
        "client_kwargs": {"endpoint_url": storage.endpoint, "region_name": storage.region},
    }
    return {"s3": inner, "odonata": {"endpoint": str(one.socket_path)}}


async def used(work: Callable[[], Any]) -> Any:
    """What blocks, beside the daemon that it asks."""
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.to_thread(work)


async def test_a_second_reader_needs_no_store(one: Daemon, tmp_path: Path) -> None:
    async with S3World(tmp_path) as s3:
        await s3.fill({"models/m.bin": CONTENT})
        url, options = f"odonata::{s3.url('models/m.bin')}", told(s3, one)

        def read() -> bytes:
            with fsspec.open(url, **options) as file:
                return bytes(file.read())

        assert await used(read) == CONTENT
        async with AsyncClient(one.socket_path) as client:
            (task,) = await client.tasks()
        assert (task.url, task.content_length) == (s3.url("models/m.bin"), len(CONTENT))
    # The store is gone: who asks it now gets nothing.
    OdonataFileSystem.clear_instance_cache()
    assert await used(read) == CONTENT


async def test_pandas_reads_what_lies_in_a_bucket(one: Daemon, s3: S3World) -> None:
    parquet = io.BytesIO()
    FRAME.to_parquet(parquet)
    await s3.fill(
        {"t/f.parquet": parquet.getvalue(), "t/f.csv": FRAME.to_csv(index=False).encode()}
    )
    options = told(s3, one)

    def read(name: str, reader: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        return reader(f"odonata::{s3.url(name)}", storage_options=options)

    assert (await used(lambda: read("t/f.csv", pd.read_csv))).equals(FRAME)
    assert (await used(lambda: read("t/f.parquet", pd.read_parquet))).equals(FRAME)


async def test_a_bucket_is_walked_as_its_own_filesystem_has_it(one: Daemon, s3: S3World) -> None:
    contents = {"d/a b": b"aaa", "d/sub/100% ?#": b"bbbb", "d/sub/c": b"c"}
    await s3.fill(contents)
    fs, path = fsspec.url_to_fs(f"odonata::s3://{BUCKET}/d", **told(s3, one))

    def use() -> None:
        assert fs.find(path) == [f"{BUCKET}/{name}" for name in sorted(contents)]
        assert sorted(fs.ls(path, detail=False)) == [f"{BUCKET}/d/a b", f"{BUCKET}/d/sub"]
        for name, data in contents.items():
            assert fs.cat_file(f"{BUCKET}/{name}") == data
        assert not fs.exists(f"{BUCKET}/d/none")

    await used(use)


async def test_wrong_keys_are_refused_by_the_store(one: Daemon, s3: S3World) -> None:
    await s3.fill({"secret": b"x"})
    async with s3.strict():

        def use() -> None:
            with (
                pytest.raises(PermissionError),
                fsspec.open(f"odonata::{s3.url('secret')}", **told(s3, one)) as file,
            ):
                file.read()

        await used(use)


async def test_what_the_daemon_cannot_be_told_is_refused(one: Daemon) -> None:
    for wrong in ({"profile": "work"}, {"client_kwargs": {"aws_account": "1"}}):
        with pytest.raises(CallerError, match=r"profile|aws_account"):
            fsspec.open(
                f"odonata::s3://{BUCKET}/x", s3=wrong, odonata={"endpoint": str(one.socket_path)}
            )
