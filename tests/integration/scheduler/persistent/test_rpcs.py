"""Each rpc about persistent tasks by itself: its answer, and the status of each refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from support.eventually import eventually_is
from support.persistent_client import PersistentClient, host_message

from scheduler.core.persistent.state import Kind

TASK = "a" * 64
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
IDS = {"host_id": "one", "task_id": TASK, "peer_id": "p"}


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_an_upload_answers_with_all_that_is_known(
    client: PersistentClient, kind: Kind
) -> None:
    await client.announce(host_message("one"))
    task = await client.upload("one", "p", TASK, persistent_replica_count=2)
    assert (task.id, task.state) == (TASK, "Succeeded")
    assert (task.content_length, task.piece_count, task.ttl.seconds) == (16 << 20, 4, 3600)
    assert task.created_at.seconds
    assert task.updated_at.seconds >= task.created_at.seconds
    if kind is Kind.PERSISTENT_CACHE:
        assert (task.tag, task.application, task.piece_length) == ("t", "", 4 << 20)
    assert await client.finish_upload("one", "p", TASK) == task, "asked again, answered again"
    peer = await client.stat_peer("p", TASK)
    assert (peer.id, peer.state, peer.persistent, peer.task) == ("p", "Succeeded", True, task)
    assert (peer.host.id, peer.host.disk.free) == ("one", 1 << 40)
    assert peer.HasField("cost")


async def test_uploads_are_refused_with_the_right_status(client: PersistentClient) -> None:
    assert (await refusal(client.start_upload("one", "p", TASK)))[0] is NOT_FOUND
    await client.announce(host_message("one"))
    code, details = await refusal(client.start_upload("one", "p", TASK, ttl={"seconds": 1}))
    assert code is INVALID
    assert "ttl 1 s is out of bounds" in details
    assert (await refusal(client.finish_upload("one", "p", TASK)))[0] is NOT_FOUND
    assert (await refusal(client.call("Upload{}TaskFailed", **IDS)))[0] is NOT_FOUND
    await client.start_upload("one", "p", TASK)
    assert (await refusal(client.start_upload("one", "q", TASK)))[0] is EXISTS
    await client.call("Upload{}TaskFailed", **IDS, description="the disk broke")
    assert (await client.stat_task(TASK)).state == "Failed"
    assert (await client.stat_peer("p", TASK)).state == "Failed"
    assert (await refusal(client.start_upload("one", "p", TASK)))[0] is EXISTS
    assert (await client.upload("one", "q", TASK)).state == "Succeeded"
    assert (await refusal(client.call("Upload{}TaskFailed", **{**IDS, "peer_id": "q"})))[
        0
    ] is PRECONDITION


@pytest.mark.parametrize(
    "rpc",
    ["Upload{}TaskFinished", "Upload{}TaskFailed", "Stat{}Peer", "Delete{}Peer"],
)
async def test_ids_are_asked_for(client: PersistentClient, rpc: str) -> None:
    for missing in IDS:
        given = {name: value for name, value in IDS.items() if name != missing}
        assert await refusal(client.call(rpc, **given)) == (
            INVALID,
            f"{missing} is empty: every request names it, set {missing}",
        )


@pytest.mark.parametrize("rpc", ["Stat{}Task", "Delete{}Task"])
async def test_ids_of_tasks_are_asked_for(client: PersistentClient, rpc: str) -> None:
    assert (await refusal(client.call(rpc, host_id="x")))[0] is INVALID
    assert (await refusal(client.call(rpc, task_id="x")))[0] is INVALID


async def test_what_is_unknown_is_not_found_or_deleted_in_silence(
    client: PersistentClient,
) -> None:
    assert (await refusal(client.stat_task(TASK)))[0] is NOT_FOUND
    assert (await refusal(client.stat_peer("p", TASK)))[0] is NOT_FOUND
    await client.call("Delete{}Task", host_id="x", task_id=TASK)
    await client.call("Delete{}Peer", **IDS)


async def test_a_deleted_peer_is_gone(client: PersistentClient) -> None:
    await client.announce(host_message("one"))
    await client.announce(host_message("two"))
    await client.upload("one", "p", TASK)
    assert await client.peer("two", "q", TASK).download() == ["p"]
    await client.call("Delete{}Peer", host_id="one", task_id=TASK, peer_id="q")
    assert (await client.stat_peer("q", TASK)).state == "Succeeded", "it is not host one's"
    await client.call("Delete{}Peer", host_id="two", task_id=TASK, peer_id="q")
    assert (await refusal(client.stat_peer("q", TASK)))[0] is NOT_FOUND
    assert (await client.stat_task(TASK)).current_replica_count == 1


async def test_an_empty_task_is_answered_empty(client: PersistentClient, kind: Kind) -> None:
    await client.announce(host_message("one"))
    await client.announce(host_message("two"))
    await client.upload("one", "p", TASK, content_length=0, piece_count=0)
    peer = client.peer("two", "q", TASK)
    await peer.register()
    word = str(kind).replace("-", "_")
    assert (await peer.answer()).WhichOneof("response") == f"empty_{word}_task_response"
    await peer.started()
    await peer.finished()
    assert (await peer.end())[0] is grpc.StatusCode.OK


async def test_a_register_without_parents_is_a_failed_precondition(
    client: PersistentClient,
) -> None:
    for name in ("one", "two"):
        await client.announce(host_message(name))
    await client.start_upload("one", "p", TASK)
    peer = client.peer("two", "q", TASK)
    await peer.register()
    assert await peer.end() == (PRECONDITION, "no candidate parents found")
    peer = client.peer("two", "q", "b" * 64)
    await peer.register()
    assert (await peer.end())[0] is NOT_FOUND
    peer = client.peer("nowhere", "q", TASK)
    await peer.register()
    assert (await peer.end())[0] is NOT_FOUND


async def test_only_object_storage_is_a_source(client: PersistentClient, kind: Kind) -> None:
    for name in ("one", "two"):
        await client.announce(host_message(name))
    await client.upload("one", "p", TASK)
    await client.leave("one")

    async def state() -> str:
        return str((await client.stat_task(TASK)).state)

    peer = client.peer("two", "q", TASK)
    if kind is Kind.PERSISTENT_CACHE:
        await eventually_is(state, "Failed")
        await peer.register()
        assert (await peer.end())[0] is PRECONDITION
        return
    await peer.register(need_back_to_source=True)
    assert (await peer.answer()).need_back_to_source_response.description
    await peer.send("download_{}_peer_back_to_source_started_request")
    await peer.send("download_piece_back_to_source_finished_request", piece={"number": 0})
    await peer.send("download_{}_peer_back_to_source_finished_request")
    assert (await peer.end())[0] is grpc.StatusCode.OK
    assert (await client.stat_peer("q", TASK)).state == "Succeeded"


async def test_a_stream_is_kept_to_its_rules(client: PersistentClient) -> None:
    for name in ("one", "two"):
        await client.announce(host_message(name))
    await client.upload("one", "p", TASK)
    early = client.peer("two", "q", TASK)
    await early.started()
    code, details = await early.end()
    assert code is INVALID
    assert "send the register request first" in details
    stray = client.peer("two", "q", TASK)
    await stray.register()
    await stray.answer()
    stray.say_as(peer_id="r")
    await stray.started()
    code, details = await stray.end()
    assert code is INVALID
    assert "changed in mid-stream" in details


async def test_pieces_are_counted_though_they_are_written_in_batches(
    client: PersistentClient,
) -> None:
    for name in ("one", "two"):
        await client.announce(host_message(name))
    await client.upload("one", "p", TASK, piece_count=200, content_length=200 * (4 << 20))
    peer = client.peer("two", "q", TASK)
    await peer.register()
    await peer.parents()
    await peer.started()
    for number in range(150):
        await peer.piece(number)
    await peer.call.done_writing()
    assert (await peer.end())[0] is grpc.StatusCode.OK

    async def state() -> str:
        return str((await client.stat_peer("q", TASK)).state)

    await eventually_is(state, "Failed")


async def test_a_hundred_readers_at_once(client: PersistentClient) -> None:
    names = [f"h{number}" for number in range(100)]
    await asyncio.gather(*(client.announce(host_message(name)) for name in ["one", *names]))
    await client.upload("one", "p", TASK)
    found = await asyncio.gather(
        *(client.peer(name, f"p-{name}", TASK).download() for name in names)
    )
    assert all(found)
    assert (await client.stat_task(TASK)).current_replica_count == 101
