"""The filesystem as its users use it: fsspec itself, pandas, pyarrow, data sets."""

from __future__ import annotations

import asyncio
import errno
import importlib
import io
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S
from support.listing_daemon import file_entry, folder_entry, listing_daemon
from support.origin import Manners, Origin

from odonata.client.filesystem import OdonataFileSystem, register
from odonata.errors import CallerError, OdonataError, SourceError, UnavailableError
from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB + 3)
FRAME = pd.DataFrame({"number": range(100_000), "name": [f"n{n}" for n in range(100_000)]})


# These ship no types.
fsspec: Any = importlib.import_module("fsspec")
pad: Any = importlib.import_module("pyarrow.dataset")
pq: Any = importlib.import_module("pyarrow.parquet")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


@pytest.fixture
def fs(one: Daemon) -> Any:
    made = fsspec.filesystem("odonata", endpoint=str(one.socket_path))
    assert isinstance(made, OdonataFileSystem)
    return made


async def used(work: Callable[[], Any]) -> Any:
    """What blocks, beside the daemon that it asks."""
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.to_thread(work)


@pytest.mark.parametrize("form", ["odonata://{}", "odonata::{}"])
async def test_pandas_reads_csv_and_parquet(form: str, one: Daemon, origin: Origin) -> None:
    parquet = io.BytesIO()
    FRAME.to_parquet(parquet, row_group_size=10_000)
    csv_url = form.format(origin.add("/f.csv", FRAME.to_csv(index=False).encode()))
    parquet_url = form.format(origin.add("/f.parquet", parquet.getvalue()))
    options = {"endpoint": str(one.socket_path)}
    assert (await used(lambda: pd.read_csv(csv_url, storage_options=options))).equals(FRAME)
    assert (await used(lambda: pd.read_parquet(parquet_url, storage_options=options))).equals(FRAME)


async def test_pyarrow_reads_a_column_without_the_rest(fs: Any, origin: Origin) -> None:
    parquet = io.BytesIO()
    FRAME.to_parquet(parquet)
    url = origin.add("/f.parquet", parquet.getvalue())
    table = await used(lambda: pq.read_table(url, filesystem=fs, columns=["number"]))
    assert table.column("number").to_pylist() == list(range(100_000))
    dataset = await used(lambda: pad.dataset(url, filesystem=fs, format="parquet").to_table())
    assert dataset.num_rows == 100_000


async def test_parts_are_read_as_fsspec_counts_them(fs: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)

    def use() -> None:
        assert fs.cat_file(url) == CONTENT
        assert fs.cat_file(url, 3, 9) == CONTENT[3:9]
        assert fs.cat_file(url, -9) == CONTENT[-9:]
        assert fs.cat_file(url, 5, -9 * MIB) == CONTENT[5 : -9 * MIB]
        assert fs.cat_file(url, 9, 3) == b""
        starts = list(range(0, 9 * MIB, MIB // 4))
        ends = [start + 100 for start in starts]
        parts = fs.cat_ranges([url] * len(starts), starts, ends)
        assert parts == [CONTENT[start : start + 100] for start in starts]
        assert fs.cat([url, f"odonata://{url}"]) == {url: CONTENT}
        bad = fs.cat_ranges([url, origin.url("/no")], 0, 3)
        assert bad[0] == CONTENT[:3]
        assert isinstance(bad[1], FileNotFoundError)

    await used(use)


async def test_what_is_not_there_is_said_as_files_say_it(fs: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    closed = origin.add("/closed", b"", Manners(status=403))
    broken = origin.add("/broken", b"", Manners(status=501))

    def use() -> None:
        assert fs.exists(url)
        assert not fs.exists(origin.url("/no"))
        with pytest.raises(FileNotFoundError, match="404"):
            fs.open(origin.url("/no"))
        with pytest.raises(PermissionError):
            fs.cat_file(closed)
        with pytest.raises(SourceError, match="501"):
            fs.exists(broken)
        assert fs.isfile(url)
        assert not fs.isdir(url)
        info = fs.info(f"odonata://{url}")
        assert (info["name"], info["size"], info["type"]) == (url, len(CONTENT), "file")
        with pytest.raises(CallerError, match="is no URL"):
            fs.info("just/a/path")

    await used(use)


async def test_files_are_files(fs: Any, origin: Origin) -> None:
    url = origin.add("/lines", b"one\ntwo\nthree\n")
    empty = origin.add("/empty")

    def use() -> None:
        with fs.open(url) as file:
            assert (file.readline(), file.read(2), file.size) == (b"one\n", b"tw", 14)
            assert file.seek(-6, 2) == 8
            assert list(file) == [b"three\n"]
        with fs.open(url, "r") as text:
            assert text.read() == "one\ntwo\nthree\n"
        with fsspec.open(f"odonata::{url}", "rt", endpoint=fs.storage_options["endpoint"]) as text:
            assert text.readlines() == ["one\n", "two\n", "three\n"]
        with fs.open(empty) as file:
            assert (file.read(), file.size) == (b"", 0)

    await used(use)


async def test_the_daemon_writes_what_is_got(fs: Any, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT)
    callback = fsspec.callbacks.Callback()

    def use() -> None:
        fs.get(url, str(tmp_path / "new" / "out"), callback=callback)
        out = io.BytesIO()
        fs.get_file(url, out)
        assert out.getvalue() == CONTENT
        # Where the daemon may not write, it is copied: nobody may make files in /proc.
        with pytest.raises(OSError, match="/proc/self"):
            fs.get_file(url, "/proc/self/out")

    await used(use)
    assert (tmp_path / "new" / "out").read_bytes() == CONTENT


async def test_nothing_is_written(fs: Any, origin: Origin) -> None:
    url = origin.add("/blob", b"x")

    def use() -> None:
        works: tuple[Callable[[], Any], ...] = (
            lambda: fs.open(url, "wb"),
            lambda: fs.pipe_file(url, b"y"),
            lambda: fs.put_file("/etc/hostname", url),
            lambda: fs.rm(url),
            lambda: fs.mkdir(url),
            lambda: fs.touch(url),
            lambda: fs.mv(url, url),
            lambda: fs.cp_file(url, url),
        )
        for work in works:
            with pytest.raises(OSError, match="odonata only reads") as refused:
                work()
            assert refused.value.errno == errno.EROFS

    await used(use)


def _cat_in_a_child(fs: Any, url: str, queue: Any) -> None:
    queue.put(fs.cat_file(url, 5, 9))


async def test_it_goes_to_other_processes(fs: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_cat_in_a_child, args=(fs, url, queue))
    worker.start()
    assert await used(queue.get) == CONTENT[5:9]
    await used(worker.join)


async def test_a_missing_daemon_is_no_missing_file(tmp_path: Path) -> None:
    fs: Any = OdonataFileSystem(endpoint=str(tmp_path / "d.sock"))
    with pytest.raises(UnavailableError, match="no daemon"):
        fs.exists("http://x.test/")


async def test_wrong_options_are_said_by_name(one: Daemon) -> None:
    wrong: dict[str, Any]
    for wrong in ({"colour": "red"}, {"piece_length": 5}, {"digest": "md5:x"}):
        with pytest.raises(OdonataError, match=next(iter(wrong))):
            OdonataFileSystem(endpoint=str(one.socket_path), **wrong)


# --- folders --------------------------------------------------------------------------------------


async def test_folders_are_those_of_the_origin(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    """One level at a time or all at once: both origins look the same."""
    url = origin.add("/d/a", b"aaa")
    root = "s3://bucket/d"
    deep = [file_entry(f"{root}/a", 3), file_entry(f"{root}/sub/b", 4)]
    flat = [file_entry(f"{root}/a", 3), folder_entry(f"{root}/sub/")]
    below = [file_entry(f"{root}/sub/b", 4)]
    for entries in (
        {root: deep, f"{root}/": deep, f"{root}/sub/": below, f"{root}/sub": below},
        {root: flat, f"{root}/": flat, f"{root}/sub/": below, f"{root}/sub": below},
    ):
        async with listing_daemon(tmp_path / "l.sock", one.socket_path, entries) as service:
            OdonataFileSystem.clear_instance_cache()
            fs: Any = OdonataFileSystem(
                endpoint=str(tmp_path / "l.sock"), object_storage={"access_key_id": "me"}
            )

            def use(fs: Any = fs) -> None:
                assert sorted(fs.ls(root, detail=False)) == [f"{root}/a", f"{root}/sub"]
                assert {one["type"] for one in fs.ls(f"{root}/")} == {"file", "directory"}
                assert fs.find(f"odonata://{root}") == [f"{root}/a", f"{root}/sub/b"]
                assert fs.find(root, maxdepth=1) == [f"{root}/a"]
                assert fs.isdir(f"{root}/sub")
                assert not fs.exists(f"{root}/other")
                assert fs.glob(f"{root}/*/b") == [f"{root}/sub/b"]

            await used(use)
            assert service.asked[0].object_storage.access_key_id == "me"
    assert origin.sent_bytes("/d/a") == 0
    assert url


async def test_names_of_a_chained_filesystem_are_the_inner_ones(
    one: Daemon, tmp_path: Path
) -> None:
    root = "ftp://me:x%40y@host.test:2121"
    entries = {f"{root}/d": [file_entry(f"{root}/d/a", 3)]}
    async with listing_daemon(tmp_path / "l.sock", one.socket_path, entries):
        fs, path = fsspec.url_to_fs(
            "odonata::ftp://host.test:2121/d",
            odonata={"endpoint": str(tmp_path / "l.sock")},
            ftp={"username": "me", "password": "x@y"},
        )
        assert await used(lambda: fs.find(path)) == ["/d/a"]
