"""Processes that die in the middle: whoever is left still ends up with the right bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from dragonfly_api import scheduler_pb2
from support.content import make_content
from support.daemon import (
    MIB,
    PATIENCE_S,
    Process,
    daemon,
    daemon_arguments,
    process,
    scheduler,
    watch,
)
from support.origin import Origin

from odonata.grpc_client import open_channel
from odonata.grpc_stub import scheduler_stub
from odonata.ids import url_task_id
from peer.runtime.daemon import Daemon

SLOW = "12MiB"
"""Upload of the seed: 40 MiB take it more than three seconds, so that there is a middle."""


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def drain(one: Daemon | Path, url: str, output: Path) -> None:
    async for _ in watch(one, url, output):
        pass


async def fetch_and_kill(
    child: Daemon | Path, victim: Process, url: str, output: Path, arrived: list[int]
) -> None:
    """Kill `victim` when three pieces have come; `arrived` gets the numbers of those that come."""
    async for piece in watch(child, url, output):
        arrived.append(piece.number)
        if len(arrived) == 3:
            await victim.kill()


async def test_a_seed_that_is_killed_is_done_without(tmp_path: Path) -> None:
    content = make_content(40 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content)
        addrs = [app.address]
        seed = daemon_arguments(
            tmp_path,
            2,
            seedPeer__enable="true",
            upload__bandwidthLimit=SLOW,
            scheduler__addrs=app.address,
        )
        async with (
            process(*seed) as victim,
            daemon(tmp_path, 3, scheduler__addrs=addrs) as child,
        ):
            arrived: list[int] = []
            await fetch_and_kill(child, victim, url, tmp_path / "out", arrived)
            assert sorted(arrived) == list(range(10))
        assert content_of(tmp_path / "out") == content
        assert origin.copies("/blob") > 1, "the rest came from the source"


async def test_a_scheduler_that_is_killed_does_not_end_downloads(tmp_path: Path) -> None:
    content = make_content(40 * MIB)
    async with (
        Origin() as origin,
        process("scheduler", "--listen-ip=127.0.0.1", "--port=0") as victim,
    ):
        url = origin.add("/blob", content)
        addrs = [victim.address]
        async with (
            daemon(
                tmp_path,
                2,
                seedPeer__enable=True,
                upload__bandwidthLimit=SLOW,
                scheduler__addrs=addrs,
            ),
            daemon(tmp_path, 3, scheduler__addrs=addrs) as child,
        ):
            arrived: list[int] = []
            await fetch_and_kill(child, victim, url, tmp_path / "out", arrived)
            assert sorted(arrived) == list(range(10))
        assert content_of(tmp_path / "out") == content


async def test_a_restarted_scheduler_soon_knows_again_who_holds_what(tmp_path: Path) -> None:
    content = make_content(9 * MIB)
    async with (
        Origin() as origin,
        process("scheduler", "--listen-ip=127.0.0.1", "--port=0") as before,
    ):
        url = origin.add("/blob", content)
        addrs = [before.address]
        port = before.address.rpartition(":")[2]
        async with (
            daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs),
            daemon(tmp_path, 3, scheduler__addrs=addrs) as first,
            daemon(tmp_path, 4, scheduler__addrs=addrs) as second,
        ):
            await drain(first, url, tmp_path / "one")
            asked = len(origin.requests)
            await before.kill()
            async with process("scheduler", "--listen-ip=127.0.0.1", f"--port={port}") as after:
                await until_known(after.address, url_task_id(url), n_hosts=3)
                await drain(second, url, tmp_path / "two")
        assert content_of(tmp_path / "two") == content
        assert len(origin.requests) == asked, "it came from the peers that hold it"


async def until_known(address: str, task_id: str, n_hosts: int) -> None:
    """Return when the scheduler knows so many hosts, and one that can give the task."""
    request = scheduler_pb2.StatTaskRequest(host_id="test", task_id=task_id)
    async with asyncio.timeout(PATIENCE_S), open_channel(address) as channel:
        stub = scheduler_stub(channel)
        while True:
            hosts = (await stub.ListHosts(scheduler_pb2.ListHostsRequest())).hosts
            try:
                task = await stub.StatTask(request)
                if task.has_available_peer and len(hosts) == n_hosts:
                    return
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017  # asked too early
            await asyncio.sleep(0.05)


async def test_sigterm_leaves_nothing_behind_but_the_content(tmp_path: Path) -> None:
    content = make_content(6 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content)
        arguments = daemon_arguments(tmp_path, 2, scheduler__addrs=app.address)
        async with process(*arguments) as one:
            await drain(one.socket_path, url, tmp_path / "out")
            assert [status.host.id for status in app.core.list_hosts()] == ["127.0.0.2-host2"]
            code, events = await one.terminate()
            assert code == 0
            names = [event["event"] for event in events]
            assert names[-3:] == ["stop_requested", "proxy_stopped", "daemon_stopped"]
        assert app.core.list_hosts() == []
        assert names_in(tmp_path) == {"data2", "run2", "out"}
        assert names_in(tmp_path / "run2") == set()


async def test_a_daemon_killed_in_mid_download_resumes(tmp_path: Path) -> None:
    content = make_content(40 * MIB)
    async with Origin() as origin:
        url = origin.add("/blob", content)
        arguments = daemon_arguments(tmp_path, 2, download__backToSourceBandwidthLimit=SLOW)
        arrived: list[int] = []
        async with process(*arguments) as one:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await fetch_and_kill(one.socket_path, one, url, tmp_path / "out", arrived)
        assert len(arrived) < 10
        asked = len(origin.requests)
        async with process(*arguments) as again:
            await drain(again.socket_path, url, tmp_path / "out")
        assert content_of(tmp_path / "out") == content
        (rest,) = origin.requests[asked:]
        assert rest.sent_bytes <= (10 - len(arrived)) * 4 * MIB + 4 * MIB
