"""`odonata task` as a user runs it, at real daemons and a real scheduler."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from support.content import make_content
from support.daemon import MIB, daemon, get, run_whole, scheduler
from support.eventually import eventually
from support.origin import Origin

from odonata.grpc_client import open_channel, target_of
from odonata.grpc_stub import scheduler_stub, upload_stub
from odonata.ids import url_task_id
from odonata.wire.dragonfly import local_task_from_wire
from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


async def task(one: Daemon, *words: str) -> tuple[int, str, str]:
    return await run_whole("task", *words, ODONATA_DAEMON_SOCKET=str(one.socket_path))


async def task_json(one: Daemon, *words: str) -> Any:
    code, out, err = await task(one, *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


async def test_ls_stat_and_rm_at_a_daemon_without_a_scheduler(
    origin: Origin, tmp_path: Path
) -> None:
    async with daemon(tmp_path, 2) as one:
        assert (await task(one, "ls"))[1] == "This host holds no task.\n"
        url = origin.add("/blob", CONTENT)
        await get(one, f"{url}?X-Amz-Signature=secret", tmp_path / "out", tag="t")
        (listed,) = (await task_json(one, "ls"))["tasks"]
        assert listed["url"] == f"{url}?X-Amz-Signature=***"
        assert (listed["held_count"], listed["piece_count"]) == (3, 3)
        assert (listed["content_length"], listed["is_finished"]) == (9 * MIB, True)
        code, table, _ = await task(one, "ls")
        assert (code, "3 of 3" in table, "9.0 MiB" in table, "secret" in table) == (
            0, True, True, False,
        )  # fmt: skip
        begins = listed["id"][:8]
        told = await task_json(one, "stat", begins)
        assert (told["id"], told["local"]) == (listed["id"], listed)
        assert told["swarm_problem"]["code"] == "unavailable"
        code, lines, _ = await task(one, "stat", begins)
        assert "3 of 3 pieces, whole" in lines
        code, out, _ = await task(one, "rm", listed["id"])
        assert (code, out) == (0, f"removed {listed['id']}\n")
        assert (await task_json(one, "ls")) == {"tasks": []}
        code, out, err = await task(one, "stat", begins, "--json")
        assert (code, out) == (1, "")
        assert json.loads(err)["error"]["code"] == "not_found"
        code, out, _ = await task(one, "rm", listed["id"])
        assert (code, out) == (1, f"{listed['id']} is not on this host\n")


async def test_everywhere_is_every_host_of_the_scheduler(origin: Origin, tmp_path: Path) -> None:
    async with scheduler() as app:
        addrs = {"scheduler__addrs": [app.address]}
        async with daemon(tmp_path, 2, **addrs) as one, daemon(tmp_path, 3, **addrs) as two:
            await eventually(lambda: len(app.core.list_hosts()) == 2)
            url = origin.add("/blob", CONTENT)
            for each in (one, two):
                await get(each, url, tmp_path / f"out{each.facts.ip}")
            by = ["--everywhere", f"--scheduler={app.address}"]
            told = await task_json(one, "stat", url, *by, "--filtered-query-param=none")
            assert told["swarm"]["has_available_peer"] is True
            assert [(host["host_id"], host["task"]["is_finished"]) for host in told["hosts"]] == [
                ("127.0.0.2-host2", True),
                ("127.0.0.3-host3", True),
            ]
            assert told["swarm"]["content_length"] == len(CONTENT)
            async with daemon(tmp_path, 4, **addrs) as three:
                elsewhere = await task_json(three, "stat", url)
                _, lines, _ = await task(three, "stat", url)
            assert (elsewhere["local"], elsewhere["hosts"]) == (None, None)
            assert elsewhere["swarm"]["content_length"] == len(CONTENT)
            assert f"{len(CONTENT)} bytes" in lines
            assert "here         no" in lines
            gone = await task_json(one, "rm", url, *by)
            assert (gone["id"], gone["removed_here"]) == (url_task_id(url), True)
            assert [(host["host_id"], host["outcome"]) for host in gone["hosts"]] == [
                ("127.0.0.2-host2", "absent"),
                ("127.0.0.3-host3", "removed"),
            ]
            assert [storage_of(each) for each in (one, two)] == [0, 0]


def storage_of(one: Daemon) -> int:
    """Content files in its folder."""
    folder = Path(one.facts.data_dir) / "content" / "tasks"
    return sum(path.is_file() for path in folder.rglob("*"))


async def test_a_host_that_does_not_answer_is_named_and_holds_up_nobody(
    origin: Origin, tmp_path: Path
) -> None:
    async with scheduler() as app, daemon(tmp_path, 2, scheduler__addrs=[app.address]) as one:
        url = origin.add("/blob", CONTENT)
        await get(one, url, tmp_path / "out")
        with socket.socket() as nobody:  # bound, and not listening: no one else gets the port
            nobody.bind(("127.0.0.9", 0))
            dead = common_pb2.Host(
                id="dead", hostname="dead", ip="127.0.0.9", port=nobody.getsockname()[1]
            )
            dead.download_port = dead.port
            async with open_channel(app.address) as channel:
                announce = scheduler_pb2.AnnounceHostRequest(host=dead)
                await scheduler_stub(channel).AnnounceHost(announce)
            by = ["--everywhere", f"--scheduler={app.address}"]
            told = await task_json(one, "stat", url, *by)
            assert [host["problem"] is None for host in told["hosts"]] == [True, False]
            code, out, _ = await task(one, "rm", url, *by)
        assert code == 1
        assert f"not removed from dead: host 127.0.0.9:{dead.port}" in out


async def test_a_stranger_is_not_told_the_url(origin: Origin, tmp_path: Path) -> None:
    async with daemon(tmp_path, 2) as one:
        url = origin.add("/blob", CONTENT)
        await get(one, url, tmp_path / "out")
        async with open_channel(target_of(one.facts.ip, one.facts.port)) as channel:
            answer = await upload_stub(channel).StatLocalTask(
                dfdaemon_pb2.StatLocalTaskRequest(task_id=url_task_id(url))
            )
        told = local_task_from_wire(answer)
        assert (told.url, told.held_count, told.content_length) == ("", 3, len(CONTENT))


async def test_preheat_is_the_same_command(tmp_path: Path) -> None:
    async with scheduler() as app:
        words = ("preheat", "file", "http://origin.test/f", f"--scheduler={app.address}")
        code, out, err = await run_whole("task", *words, "--json")
        assert (code, out) == (1, "")
        error = json.loads(err)["error"]
        assert "no seed peer" in error["detail"]
        assert (await run_whole(*words))[0] == 1


async def test_without_a_daemon_it_says_how_to_start_one(tmp_path: Path) -> None:
    code, _, err = await run_whole("task", "ls", f"--endpoint={tmp_path / 'd.sock'}")
    assert code == 1
    assert err.startswith("odonata: no daemon at ")
