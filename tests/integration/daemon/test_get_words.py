"""What the words of `odonata get` come to: at real stores, real daemons and a real scheduler."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.content import make_content
from support.daemon import MIB, daemon, run_whole, scheduler
from support.origin import Origin
from support.source_world import BUCKET, S3World

from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB)
FOLDER = {
    "d/a.bin": make_content(5 * MIB, seed=1),
    "d/b 100%.txt": b"bbb",
    "d/sub/c.bin": b"cccc",
    "d/sub/deep/d.bin": b"",
    "elsewhere/e.bin": b"not asked for",
}


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[S3World]:
    async with S3World(tmp_path) as world:
        await world.fill(FOLDER)
        yield world


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2) as one:
        yield one


async def said(one: Daemon, *words: str, **variables: str) -> Any:
    """The JSON that a command ends with."""
    socket_path = str(one.socket_path)
    code, out, err = await run_whole(
        *words, "--json", ODONATA_DAEMON_SOCKET=socket_path, **variables
    )
    assert (code, err) == (0, "")
    return json.loads(out)


def environ_of(s3: S3World) -> dict[str, str]:
    """Its place and credentials, where `ps` does not show them."""
    storage = s3.options.storage
    return {
        "ODONATA_STORAGE_ENDPOINT": storage.endpoint,
        "ODONATA_STORAGE_REGION": storage.region,
        "ODONATA_STORAGE_ACCESS_KEY_ID": storage.access_key_id,
        "ODONATA_STORAGE_ACCESS_KEY_SECRET": storage.access_key_secret,
    }


def options_of(s3: S3World) -> list[str]:
    """The same as options."""
    return [
        f"--{name.removeprefix('ODONATA_').lower().replace('_', '-')}={value}"
        for name, value in environ_of(s3).items()
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- a folder of an object storage ----------------------------------------------------------------


async def test_a_folder_of_a_bucket_is_fetched(one: Daemon, s3: S3World, tmp_path: Path) -> None:
    words = ("get", f"s3://{BUCKET}/d", "-r", "-O")
    wanted = {
        name.removeprefix("d/"): data for name, data in FOLDER.items() if name.startswith("d/")
    }
    done = await said(one, *words, str(tmp_path / "all"), **environ_of(s3))
    assert files_in(tmp_path / "all") == wanted
    assert (done["bytes"], len(done["files"])) == (sum(map(len, wanted.values())), 4)
    chosen = ("-I", "*.bin", "--exclude", "sub/deep/*")
    done = await said(one, *words, str(tmp_path / "some"), *chosen, *options_of(s3))
    assert files_in(tmp_path / "some") == {name: wanted[name] for name in ("a.bin", "sub/c.bin")}
    assert (done["from_source"], done["from_local"]) == (0, done["bytes"])


async def test_a_folder_that_its_owner_closed_is_said_to_be(
    one: Daemon, s3: S3World, tmp_path: Path
) -> None:
    words = ("get", f"s3://{BUCKET}/d", "-r", "-O", str(tmp_path / "out"))
    async with s3.strict():
        code, _, err = await run_whole(
            *words, ODONATA_DAEMON_SOCKET=str(one.socket_path), **environ_of(s3)
        )
    assert (code, "Bad Status Code: 403" in err) == (1, True), err
    assert s3.options.storage.access_key_secret not in err
    assert not (tmp_path / "out").exists()


# --- which task it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--application", "trainer"),
        ("--tag", "v1"),
        ("--piece-length", "8MiB"),
        ("--filtered-query-param", "session"),
    ],
    ids=lambda words: words[0].strip("-"),
)
async def test_a_word_makes_the_task_that_it_names(
    words: tuple[str, str], origin: Origin, tmp_path: Path
) -> None:
    url = f"{origin.add('/blob', CONTENT)}?session=1&part=2"
    async with scheduler() as app, daemon(tmp_path, 2, scheduler__addrs=[app.address]) as one:
        done = await said(one, "get", url, "-O", str(tmp_path / "out"), *words)
        assert done["task_id"] == (await said(one, "task", "id", url, *words))["id"]
        assert done["task_id"] != (await said(one, "task", "id", url))["id"]
        held = await said(one, "task", "stat", url, *words)
    assert (held["id"], held["local"]["is_finished"]) == (done["task_id"], True)
    length = 8 * MIB if "8MiB" in words else 4 * MIB
    assert held["local"]["piece_length"] == length
    assert held["swarm"]["content_length"] == len(CONTENT), "the scheduler knows it by that id"


async def test_urls_that_differ_in_what_does_not_count_are_one_task(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url, word = origin.add("/blob", CONTENT), ("--filtered-query-param", "session")
    first = await said(one, "get", f"{url}?session=1", "-O", str(tmp_path / "a"), *word)
    again = await said(one, "get", f"{url}?session=2", "-O", str(tmp_path / "b"), *word)
    assert (again["task_id"], again["from_local"]) == (first["task_id"], len(CONTENT))
    other = await said(one, "get", f"{url}?session=2", "-O", str(tmp_path / "c"))
    assert other["from_source"] == len(CONTENT), "without the word it counts"
    assert (tmp_path / "b").read_bytes() == CONTENT
