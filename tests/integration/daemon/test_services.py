"""The daemon's gRPC services, asked by official stubs as stock peers, schedulers and tools do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2
from grpc_health.v1 import health_pb2
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get
from support.origin import Manners, Origin
from support.source_world import HdfsWorld

from odonata.client.content_file import open_content_file, read_at
from odonata.grpc_client import open_channel, target_of
from odonata.grpc_stub import download_stub, health_stub, upload_stub
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, url_task_id
from odonata.wire.dragonfly import PieceArrived, progress_from_wire
from odonata.wire.dragonfly.content_file import content_file_in
from odonata.wire.message import Piece, TrafficType
from peer.runtime.daemon import Daemon
from peer.runtime.task_stream import CONTENT_STEP_BYTES

CONTENT = make_content(9 * MIB + 3)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2) as one:
        yield one


@pytest.fixture
async def upload(one: Daemon) -> AsyncIterator[Any]:
    async with open_channel(target_of(one.facts.ip, one.facts.port)) as channel:
        yield upload_stub(channel)


@pytest.fixture
async def local(one: Daemon) -> AsyncIterator[Any]:
    async with open_channel(f"unix:{one.socket_path}") as channel:
        yield download_stub(channel)


def request(url: str, **fields: Any) -> dfdaemon_pb2.DownloadTaskRequest:
    return dfdaemon_pb2.DownloadTaskRequest(download=common_pb2.Download(url=url, **fields))


def sync(task_id: str, *numbers: int) -> dfdaemon_pb2.SyncPiecesRequest:
    return dfdaemon_pb2.SyncPiecesRequest(
        host_id="child", task_id=task_id, interested_piece_numbers=numbers
    )


async def all_of(call: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return [message async for message in call]


async def fails(call: Any, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await (all_of(call) if hasattr(call, "__aiter__") else call)
    assert failure.value.code() is code
    return failure.value


async def test_a_trigger_streams_what_arrives_and_stays_when_the_scheduler_hangs_up(
    upload: Any, origin: Origin, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    call = upload.DownloadTask(
        request(url, need_back_to_source=True, output_path=str(tmp_path / "no"))
    )
    first = await call.read()
    assert first.download_task_started_response.content_length == len(CONTENT)
    assert len(first.download_task_started_response.pieces) == 3
    call.cancel()
    children = upload.SyncPieces(sync(url_task_id(url)))
    held = await children.read()
    assert (held.number, held.ip, held.tcp_port > 0) == (0, "127.0.0.2", True)
    gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert [(await children.read()).number for _ in range(2)] == [1, 2]
        assert not isinstance(await children.read(), dfdaemon_pb2.SyncPiecesResponse), "the end"
    assert origin.copies("/blob") == 1
    assert not (tmp_path / "no").exists(), "a stranger has no business with this host's files"


async def test_pieces_are_named_as_wanted_and_unknown_tasks_are_said_to_be(
    one: Daemon, upload: Any, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    await get(one, url, tmp_path / "out")
    task_id = url_task_id(url)
    pieces = await all_of(upload.SyncPieces(sync(task_id, 2, 0)))
    assert sorted((piece.number, piece.offset, piece.length) for piece in pieces) == [
        (0, 0, 4 * MIB),
        (2, 8 * MIB, MIB + 3),
    ]
    await fails(upload.SyncPieces(sync("f" * 64)), grpc.StatusCode.NOT_FOUND)
    facts = await upload.StatLocalTask(dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id))
    assert (facts.content_length, facts.piece_length) == (len(CONTENT), 4 * MIB)
    assert facts.HasField("finished_at")


async def test_a_child_may_ask_a_moment_before_the_task_is_there(
    one: Daemon, upload: Any, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    asked = asyncio.ensure_future(all_of(upload.SyncPieces(sync(url_task_id(url)))))
    await asyncio.sleep(0)
    await get(one, url, tmp_path / "out")
    assert {piece.number for piece in await asked} == {0, 1, 2}


async def test_the_load_is_told_over_and_over(upload: Any) -> None:
    call = upload.SyncHost(dfdaemon_pb2.SyncHostRequest(host_id="child", peer_id="p"))
    async with asyncio.timeout(PATIENCE_S):
        told = [await call.read(), await call.read()]
    call.cancel()
    assert {host.id for host in told} == {"127.0.0.2-host2"}
    assert told[0].network.max_tx_bandwidth > 0


async def test_content_comes_inside_the_stream_when_asked_for(local: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    steps = await all_of(local.DownloadTask(request(url, need_piece_content=True)))
    pieces = [step.download_piece_finished_response.piece for step in steps[1:]]
    ordered = sorted(pieces, key=lambda piece: piece.number)
    assert b"".join(piece.content for piece in ordered) == CONTENT


async def test_a_follower_is_told_of_many_pieces_in_one_message(local: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    follows = (("odonata-features", "pieces-together"),)

    async def told() -> tuple[int, list[Piece]]:
        _, *steps = await all_of(local.DownloadTask(request(url), metadata=follows))
        arrived = [progress_from_wire(step).step for step in steps]
        assert all(isinstance(step, PieceArrived) for step in arrived)
        return len(steps), [
            piece
            for step in arrived
            if isinstance(step, PieceArrived)
            for piece in (step.piece, *step.others)
        ]

    _, fetched = await told()
    assert sorted(piece.number for piece in fetched) == [0, 1, 2]
    assert sum(piece.length for piece in fetched) == len(CONTENT)
    assert {piece.traffic_type for piece in fetched} == {TrafficType.BACK_TO_SOURCE}
    messages, held = await told()
    assert messages == 1
    assert [piece.number for piece in held] == [0, 1, 2]
    assert {piece.traffic_type for piece in held} == {TrafficType.LOCAL_PEER}


async def test_a_reader_in_order_is_sent_just_its_range_in_small_steps(
    local: Any, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    wanted = common_pb2.Range(start=4 * MIB - 5, length=MIB)
    call = local.DownloadTask(
        request(url, range=wanted, need_piece_content=True),
        metadata=(("odonata-features", "in-order"),),
    )
    first, *steps = await all_of(call)
    assert not first.download_task_started_response.pieces
    assert content_file_in(first.download_task_started_response) is None
    pieces = [step.download_piece_finished_response.piece for step in steps]
    position = wanted.start
    for piece in pieces:
        assert (piece.offset, piece.length) == (position, len(piece.content))
        assert piece.length <= CONTENT_STEP_BYTES
        position += piece.length
    content = b"".join(piece.content for piece in pieces)
    assert content == CONTENT[wanted.start : wanted.start + MIB]


async def test_the_daemons_file_is_named_to_its_users_and_to_nobody_else(
    local: Any, upload: Any, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    asked = (("odonata-features", "in-order,content-file"),)
    first, *steps = await all_of(local.DownloadTask(request(url), metadata=asked))
    told = content_file_in(first.download_task_started_response)
    assert told is not None
    fd = open_content_file(told)
    assert fd is not None
    try:
        assert read_at(fd, 0, len(CONTENT)) == CONTENT
    finally:
        os.close(fd)
    assert open_content_file(msgspec.structs.replace(told, inode=told.inode + 1)) is None
    numbers = [step.download_piece_finished_response.piece.number for step in steps]
    assert numbers == [0, 1, 2]
    for messages in (
        await all_of(upload.DownloadTask(request(url), metadata=asked)),
        await all_of(local.DownloadTask(request(url))),
    ):
        assert content_file_in(messages[0].download_task_started_response) is None


async def test_ranges_share_the_task_and_are_fetched_alone(local: Any, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    for start, number in ((0, 0), (9 * MIB, 2)):
        wanted = common_pb2.Range(start=start, length=3)
        steps = await all_of(local.DownloadTask(request(url, range=wanted)))
        pieces = [step.download_piece_finished_response.piece for step in steps[1:]]
        assert [piece.number for piece in pieces] == [number]
    assert origin.requests[-1].range == f"bytes={8 * MIB}-{len(CONTENT) - 1}"
    rest = await all_of(local.DownloadTask(request(url)))
    assert len(rest) == 4
    assert origin.requests[-1].range == f"bytes={4 * MIB}-{8 * MIB - 1}"


async def test_tasks_are_listed_and_deleted(
    one: Daemon, local: Any, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    task_id = url_task_id(url, filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS)
    await get(one, url, tmp_path / "out")
    listed = await local.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())
    assert [task.task_id for task in listed.tasks] == [task_id]
    await local.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=task_id))
    again = dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id)
    await fails(local.DeleteLocalTask(again), grpc.StatusCode.NOT_FOUND)
    gone = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
    await fails(local.StatLocalTask(gone), grpc.StatusCode.NOT_FOUND)
    asked = len(origin.requests)
    await get(one, url, tmp_path / "again")
    assert len(origin.requests) == asked + 1


async def test_what_the_source_said_travels_as_dragonflys_daemons_send_it(
    local: Any, origin: Origin
) -> None:
    url = origin.add("/blob", b"", Manners(status=403, header={"X-Why": "because"}))
    failure = await fails(local.DownloadTask(request(url)), grpc.StatusCode.INTERNAL)
    details = dict(failure.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert b'"status_code":403' in details
    assert b"because" in details


async def test_without_a_scheduler_its_word_is_not_to_be_had(local: Any) -> None:
    asked = dfdaemon_pb2.StatTaskRequest(task_id="a" * 64)
    await fails(local.StatTask(asked), grpc.StatusCode.UNAVAILABLE)


async def test_other_kinds_of_task_are_refused_by_name(local: Any, upload: Any) -> None:
    call = local.DownloadTask(request("http://x.test/", type=common_pb2.CACHE))
    failure = await fails(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert "CACHE" in (failure.details() or "")


async def test_entries_of_an_origin_are_listed_on_both_ports(
    local: Any, upload: Any, tmp_path: Path
) -> None:
    async with HdfsWorld(tmp_path) as world:
        await world.fill({"a/b": b"1234", "a/c/d": b"5"})
        hdfs = common_pb2.HDFS(delegation_token=world.options.web_hdfs.delegation_token)
        asked = dfdaemon_pb2.ListTaskEntriesRequest(url=world.url("a/"), hdfs=hdfs)
        for service in (local, upload):
            answer = await service.ListTaskEntries(asked)
            assert answer.content_length == 5
            assert [(one.url, one.content_length, one.is_dir) for one in answer.entries] == [
                (world.url("a/b"), 4, False),
                (world.url("a/c/"), 0, True),
                (world.url("a/c/d"), 1, False),
            ]
        missing = dfdaemon_pb2.ListTaskEntriesRequest(url=world.url("no/"), hdfs=hdfs)
        failure = await fails(local.ListTaskEntries(missing), grpc.StatusCode.INTERNAL)
        details = dict(failure.trailing_metadata() or ())["grpc-status-details-bin"]
        assert isinstance(details, bytes)
        assert b'"status_code":404' in details
    nothing = dfdaemon_pb2.ListTaskEntriesRequest()
    await fails(upload.ListTaskEntries(nothing), grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("service", ["", "dfdaemon.v2.DfdaemonUpload"])
async def test_health_is_told_for_each_service(service: str, one: Daemon) -> None:
    async with open_channel(target_of(one.facts.ip, one.facts.port)) as channel:
        answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
