"""AnnouncePeer, whole conversations of stock clients with a real scheduler over real gRPC."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from structlog.testing import capture_logs
from support.scheduler_client import PATIENCE_S, TASK, SchedulerClient, host, piece

from odonata.wire.dragonfly import PeerRequest, add_finished, request_to_wire
from odonata.wire.dragonfly.feature import TAKES_NEWS, WRITES_PIECES
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    EmptyTask,
    Failed,
    Finished,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    PeerMessage,
    PieceBackToSourceFinished,
    PieceFinished,
    Reschedule,
    Started,
)
from scheduler.runtime.app import SchedulerApp

OK = grpc.StatusCode.OK


async def hold_everything(client: SchedulerClient, name: str, ip: str) -> None:
    """A host that fetched the whole task from the source."""
    await client.announce(host(name, ip))
    peer = client.peer(name, f"{name}-peer")
    await peer.register(need_back_to_source=True)
    assert isinstance(await peer.answer(), NeedBackToSource)
    await peer.send(BackToSourceStarted())
    await peer.send(*(PieceBackToSourceFinished(piece=piece(number)) for number in range(4)))
    await peer.send(BackToSourceFinished())
    assert await peer.end() == (OK, "")


async def test_a_child_is_given_a_parent_by_literal_address_and_upload_port(
    client: SchedulerClient,
) -> None:
    await hold_everything(client, "parent", "127.0.0.2")
    await client.announce(host("child", "127.0.0.3"))
    child = client.peer("child", "child-peer")
    await child.register()
    response = await child.read()
    assert response is not None
    (parent,) = response.normal_task_response.candidate_parents
    assert (parent.id, parent.host.ip, parent.host.port) == ("parent-peer", "127.0.0.2", 4000)
    assert (parent.task.id, parent.task.content_length) == (TASK, 16 * 1024 * 1024)
    assert parent.task.piece_count == 4
    assert sorted(held.number for held in parent.pieces) == [0, 1, 2, 3]
    await child.send(Started())
    await child.send(*(PieceFinished(piece=piece(n, "parent-peer")) for n in range(4)))
    await child.send(Finished())
    assert await child.end() == (OK, "")
    task = await client.stat_task()
    assert (task.state, task.peer_count, task.has_available_peer) == ("Succeeded", 2, True)


@pytest.mark.parametrize(
    "terminal",
    [
        Finished(),
        Failed(description="gave up"),
        BackToSourceFinished(),
        BackToSourceFailed(description="404"),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_each_terminal_message_ends_the_stream_though_the_client_never_half_closes(
    client: SchedulerClient, app: SchedulerApp, terminal: PeerMessage
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    assert isinstance(await peer.answer(), NeedBackToSource)
    await peer.send(BackToSourceStarted(), terminal)
    assert (await peer.end())[0] is OK
    assert app.executor.stream_count == 0


async def test_metadata_only_is_noted_and_makes_a_parent(client: SchedulerClient) -> None:
    await client.announce(host("seed", "127.0.0.2", seed=True))
    seed = client.peer("seed", "seed-peer")
    await seed.register(metadata_only=True)
    assert await seed.answer() == MetadataOnly()
    await seed.send(Started(), Finished())
    assert (await seed.end())[0] is OK
    await client.announce(host("child", "127.0.0.3"))
    child = client.peer("child", "child-peer")
    await child.register()
    answer = await child.answer()
    assert isinstance(answer, NormalTask)
    assert [parent.peer_id for parent in answer.parents] == ["seed-peer"]


async def test_an_empty_file_needs_nobody(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(actual_content_length=0, actual_piece_count=0)
    assert await peer.answer() == EmptyTask()
    await peer.send(Started(), Finished())
    assert (await peer.end())[0] is OK


async def test_a_length_that_was_not_said_is_not_an_empty_file(client: SchedulerClient) -> None:
    """dragonfly-control.md §1.4: there, unset reads as 0 and the download ends empty."""
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(
        actual_content_length=None, actual_piece_length=None, actual_piece_count=None
    )
    assert isinstance(await peer.answer(), NeedBackToSource)


async def test_a_reschedule_brings_another_parent(client: SchedulerClient) -> None:
    await hold_everything(client, "one", "127.0.0.2")
    await client.announce(host("child", "127.0.0.4"))
    child = client.peer("child", "child-peer")
    await child.register()
    assert isinstance(await child.answer(), NormalTask)
    await hold_everything_else(client)
    await child.send(Started(), Reschedule(parent_ids=("one-peer",), description="not all pieces"))
    answer = await child.answer()
    assert isinstance(answer, NormalTask)
    assert [parent.peer_id for parent in answer.parents] == ["two-peer"]


async def hold_everything_else(client: SchedulerClient) -> None:
    await client.announce(host("two", "127.0.0.3"))
    peer = client.peer("two", "two-peer")
    await peer.register(metadata_only=True)
    assert await peer.answer() == MetadataOnly()
    await peer.send(Started(), Finished())
    await peer.end()


async def test_an_unknown_host_is_not_found(client: SchedulerClient, app: SchedulerApp) -> None:
    peer = client.peer("stranger", "p")
    await peer.register()
    code, details = await peer.end()
    assert code is grpc.StatusCode.NOT_FOUND
    assert "stranger" in details
    assert app.executor.stream_count == 0


async def test_the_first_message_must_be_a_register(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.send(Started())
    code, details = await peer.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "first message" in details
    assert "register_peer_request" in details


@pytest.mark.parametrize("field", ["host_id", "task_id", "peer_id"])
async def test_ids_must_not_change_in_mid_stream(client: SchedulerClient, field: str) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    await peer.answer()
    setattr(peer, field, "other")
    await peer.send(BackToSourceStarted())
    code, details = await peer.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "mid-stream" in details
    assert "other" in details


async def test_a_broken_message_in_mid_stream_ends_it_and_the_peer_is_gone(
    client: SchedulerClient, app: SchedulerApp
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    await peer.answer()
    await peer.send(BackToSourceStarted())
    broken = peer.request(Failed())
    broken.ClearField("download_peer_failed_request")
    await peer.call.write(broken)
    assert (await peer.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert app.core.stat_peer("p").state == "Failed"


async def test_a_second_stream_of_the_same_peer_takes_over(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"))
    first = client.peer("h", "p")
    await first.register(need_back_to_source=True)
    await first.answer()
    second = client.peer("h", "p")
    await second.register(need_back_to_source=True)
    code, details = await first.end()
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "another stream" in details
    assert isinstance(await second.answer(), NeedBackToSource)
    await second.send(BackToSourceStarted(), BackToSourceFinished())
    assert (await second.end())[0] is OK


async def test_a_client_that_vanishes_leaves_nothing_open(
    client: SchedulerClient, app: SchedulerApp
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    await peer.answer()
    with capture_logs() as logs:
        peer.call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            while app.executor.stream_count:
                await client.stat_task()  # a round trip, in which the server hears of the end
    assert app.executor.stream_count == 0
    assert app.core.stat_peer("p").state == "Failed"
    assert "call_crashed" not in [log["event"] for log in logs]


async def test_stopping_tells_open_streams_that_the_scheduler_goes(app: SchedulerApp) -> None:
    from support.scheduler_client import connected  # noqa: PLC0415

    async with connected(app.address) as client:
        await client.announce(host("h", "127.0.0.2"))
        peer = client.peer("h", "p")
        await peer.register(need_back_to_source=True)
        await peer.answer()
        await app.stop()
        code, details = await peer.end()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "shuts down" in details


@pytest.mark.parametrize(
    ("features", "is_ours", "is_recorded_here"),
    [
        ("", False, True),
        (TAKES_NEWS, True, True),
        (f"{TAKES_NEWS},{WRITES_PIECES}", True, False),
    ],
    ids=["stock", "ours without telemetry", "ours"],
)
async def test_a_peer_says_in_metadata_what_it_can(
    client: SchedulerClient,
    app: SchedulerApp,
    features: str,
    is_ours: bool,
    is_recorded_here: bool,
) -> None:
    app.core.state.limits = replace(app.core.state.limits, records=True)
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p", features=features)
    await peer.register(need_back_to_source=True)
    await peer.answer()
    known = app.core.state.peers["p"]
    assert known.is_ours is is_ours
    assert (known.account is not None) is is_recorded_here
    await peer.send(BackToSourceStarted(), BackToSourceFinished())
    assert (await peer.end())[0] is OK


async def test_pieces_that_are_told_together_all_count(client: SchedulerClient) -> None:
    await hold_everything(client, "parent", "127.0.0.2")
    await client.announce(host("child", "127.0.0.3"))
    child = client.peer("child", "child-peer")
    await child.register()
    assert isinstance(await child.answer(), NormalTask)
    await child.send(Started())
    first, *others = (PieceFinished(piece=piece(number, "parent-peer")) for number in range(4))
    request = PeerRequest(host_id="child", task_id=TASK, peer_id="child-peer", message=first)
    message = request_to_wire(request)
    add_finished(message, others)
    await child.call.write(message)
    await child.send(Finished())
    assert await child.end() == (OK, "")
    await client.announce(host("late", "127.0.0.4"))
    late = client.peer("late", "late-peer")
    await late.register()
    response = await late.read()
    assert response is not None
    parents = response.normal_task_response.candidate_parents
    held = {parent.id: sorted(one.number for one in parent.pieces) for parent in parents}
    assert held["child-peer"] == [0, 1, 2, 3]
