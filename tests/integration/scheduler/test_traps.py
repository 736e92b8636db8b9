"""Each trap for a scheduler, by its number in dfdaemon.md (§0 traps, §13 checklist)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import grpc
import msgspec
import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2
from support.fake_seed import announced_seed
from support.raw_http2 import (
    ACK,
    DATA,
    HEADERS,
    PING,
    RST_STREAM,
    Frame,
    raw_http2,
)
from support.scheduler_client import (
    MIB,
    TASK,
    PeerConversation,
    SchedulerClient,
    connected,
    host,
    piece,
    settings,
)

from odonata.grpc_stub import health_stub, scheduler_stub
from odonata.wire.dragonfly import host_to_wire
from odonata.wire.dragonfly.feature import FEATURES_KEY, UNSIZED_REGISTER, features_in
from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    Failed,
    Finished,
    Host,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    PieceBackToSourceFinished,
    PieceFinished,
    Started,
)
from scheduler.runtime.app import SchedulerApp

OK = grpc.StatusCode.OK
ANNOUNCE_PEER = "/scheduler.v2.Scheduler/AnnouncePeer"


async def hold_everything(client: SchedulerClient, parent: Host) -> None:
    """`parent` announces that it holds the whole task; its peer is "<host id>-peer"."""
    await client.announce(parent)
    peer = client.peer(parent.id, f"{parent.id}-peer")
    await peer.register(metadata_only=True)
    assert await peer.answer() == MetadataOnly()
    await peer.send(Started(), Finished())
    assert (await peer.end())[0] is OK


async def child_of(client: SchedulerClient, name: str, ip: str) -> PeerConversation:
    """A child that has registered from a host of its own."""
    await client.announce(host(name, ip))
    child = client.peer(name, f"{name}-peer")
    await child.register()
    return child


# --- §0 trap 2, §13.3: the server closes AnnouncePeer, the client waits for it without a timeout --


def requests_of(conversation: PeerConversation) -> list[scheduler_pb2.AnnouncePeerRequest]:
    return [conversation.request(message) for message in (BackToSourceStarted(), Failed())]


async def test_trap_2_a_sync_client_that_never_half_closes_sees_the_end(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    scripted = client.peer("h", "sync-peer")
    scripted.call.cancel()  # only its ids are used here

    def converse() -> tuple[list[str | None], Any]:
        never = threading.Event()

        def requests() -> Any:
            register = scheduler_pb2.RegisterPeerRequest(
                download={"url": "http://a/b", "need_back_to_source": True}
            )
            yield scheduler_pb2.AnnouncePeerRequest(
                host_id="h", task_id=TASK, peer_id="sync-peer", register_peer_request=register
            )
            yield from requests_of(scripted)
            never.wait(30)

        with grpc.insecure_channel(app.address) as channel:
            stub = scheduler_stub(channel)
            call = stub.AnnouncePeer(requests(), timeout=20)
            kinds = [response.WhichOneof("response") for response in call]
            code = call.code()
            never.set()
        return kinds, code

    kinds, code = await asyncio.to_thread(converse)
    assert kinds == ["need_back_to_source_response"]
    assert code is OK


async def test_trap_2_on_the_wire_trailers_come_and_then_the_request_side_is_released(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    scripted = client.peer("h", "raw-peer")
    scripted.call.cancel()
    async with raw_http2("127.0.0.1", app.port) as raw:
        await raw.call(1, ANNOUNCE_PEER)
        register = scheduler_pb2.RegisterPeerRequest(
            download={"url": "http://a/b", "need_back_to_source": True}
        )
        first = scheduler_pb2.AnnouncePeerRequest(
            host_id="h", task_id=TASK, peer_id="raw-peer", register_peer_request=register
        )
        for request in (first, *requests_of(scripted)):
            await raw.message(1, request.SerializeToString())
        frames = await raw.until(RST_STREAM, 1)
    assert frames[0].kind == HEADERS
    assert not frames[0].ends_stream
    assert DATA in [frame.kind for frame in frames]
    trailers, reset = frames[-2:]
    assert trailers.kind == HEADERS
    assert trailers.ends_stream
    assert reset == Frame(RST_STREAM, 0, 1, bytes(4)), "NO_ERROR"


async def test_checklist_3_a_half_close_ends_the_stream_and_the_peer(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    await peer.answer()
    await peer.send(BackToSourceStarted())
    await peer.call.done_writing()
    assert await peer.end() == (OK, "")
    assert app.core.stat_peer("p").state == "Failed"


# --- §0 trap 3, §13.2: response headers within 10 s -----------------------------------------------


async def test_trap_3_headers_come_before_any_answer_while_a_child_is_parked(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        child = await child_of(client, "child", "127.0.0.3")
        assert UNSIZED_REGISTER in features_in((await child.headers()).items())
        await seed.triggered.wait()
        reading = asyncio.ensure_future(child.answer())
        assert app.core.stat_peer("child-peer").is_waiting
        assert not reading.done()
        seed.reach_source.set()
        assert isinstance(await reading, NormalTask)
        seed.finish.set()


async def test_trap_3_headers_come_before_the_first_request_too(client: SchedulerClient) -> None:
    peer = client.peer("h", "p")
    assert FEATURES_KEY in await peer.headers()
    peer.call.cancel()


async def test_a_host_is_told_what_this_scheduler_can_do_beyond_the_api(
    client: SchedulerClient,
) -> None:
    request = scheduler_pb2.AnnounceHostRequest(host=host_to_wire(host("h", "127.0.0.2")))
    call = client.stub.AnnounceHost(request)
    assert await call == Empty()
    assert UNSIZED_REGISTER in features_in(await call.initial_metadata())


async def test_a_host_that_is_refused_is_told_too(client: SchedulerClient) -> None:
    call = client.stub.AnnounceHost(scheduler_pb2.AnnounceHostRequest())
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert UNSIZED_REGISTER in features_in(await call.initial_metadata())


async def test_a_peer_that_is_refused_is_told_too(client: SchedulerClient) -> None:
    stranger = client.peer("stranger", "p")
    await stranger.register()
    assert (await stranger.end())[0] is grpc.StatusCode.NOT_FOUND
    assert UNSIZED_REGISTER in features_in((await stranger.headers()).items())


async def test_a_peer_beyond_the_rate_of_calls_is_told_too() -> None:
    async with (
        SchedulerApp(settings(request_rate_limit=1)) as app,
        connected(app.address) as client,
    ):
        peers = [client.peer("h", f"p{number}") for number in range(5)]
        # What comes in one packet with the end of a call grpcio's client may forget; that all are
        # told is seen on the wire (tests/conformance).
        told = [features_in((await peer.headers()).items()) for peer in peers]
        assert all(UNSIZED_REGISTER in able for able in told if able)
        for peer in peers:
            # Refused while it still writes, or before: grpcio says so in two ways.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await peer.register()
        codes = [(await peer.end())[0] for peer in peers]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes


# --- §0 trap 7, §13.4: addresses of candidates ----------------------------------------------------


@pytest.mark.parametrize("ip", ["seed.local", "", "[::1]", "0.0.0.0", "10.0.0.256"])
async def test_trap_7_a_host_whose_ip_is_no_literal_is_refused_with_the_fix(
    client: SchedulerClient, ip: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.announce(host("h", ip))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "set host.ip of that daemon" in str(caught.value.details())


async def test_checklist_4_ipv6_parents_are_named_without_brackets(
    client: SchedulerClient,
) -> None:
    await hold_everything(client, host("parent", "2001:db8::1", 4001))
    child = await child_of(client, "child", "127.0.0.3")
    response = await child.read()
    assert response is not None
    (parent,) = response.normal_task_response.candidate_parents
    assert (parent.host.ip, parent.host.port) == ("2001:db8::1", 4001)


# --- §0 trap 8: seeds are known by their announcement alone ---------------------------------------


async def test_trap_8_a_seed_is_whoever_announces_itself_as_super(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        await child_of(client, "child", "127.0.0.3")
        await asyncio.wait_for(seed.triggered.wait(), 20)
    hosts = await client.stub.ListHosts(scheduler_pb2.ListHostsRequest(type=1))
    assert [known.id for known in hosts.hosts] == ["seed"]


# --- §13 ------------------------------------------------------------------------------------------


async def test_checklist_1_health_of_the_empty_name_is_serving(app: SchedulerApp) -> None:
    async with grpc.aio.insecure_channel(app.address) as channel:
        stub = health_stub(channel)
        for name in ("", "scheduler.v2.Scheduler"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_checklist_5_useless_parents_are_never_offered(client: SchedulerClient) -> None:
    shy = msgspec.structs.replace(host("shy", "127.0.0.4"), disable_shared=True)
    await hold_everything(client, shy)
    await hold_everything(client, host("child", "127.0.0.3"))
    await hold_everything(client, host("good", "127.0.0.5"))
    same_host = client.peer("child", "second-peer-of-child")
    await same_host.register()
    answer = await same_host.answer()
    assert isinstance(answer, NormalTask)
    assert [parent.peer_id for parent in answer.parents] == ["good-peer"]


async def test_checklist_5_a_peer_whose_stream_broke_is_not_offered(
    client: SchedulerClient,
) -> None:
    await client.announce(host("broken", "127.0.0.2"))
    broken = client.peer("broken", "broken-peer")
    await broken.register(need_back_to_source=True)
    await broken.answer()
    await broken.send(BackToSourceStarted(), PieceBackToSourceFinished(piece=piece(0)))
    await broken.call.done_writing()
    await broken.end()
    child = await child_of(client, "child", "127.0.0.3")
    assert isinstance(await child.answer(), NeedBackToSource)


async def test_checklist_8_who_asks_for_the_source_is_sent_there_though_parents_exist(
    client: SchedulerClient,
) -> None:
    await hold_everything(client, host("parent", "127.0.0.2"))
    await client.announce(host("h", "127.0.0.3"))
    peer = client.peer("h", "p")
    await peer.register(need_back_to_source=True)
    assert isinstance(await peer.answer(), NeedBackToSource)


async def test_checklist_9_metadata_only_is_recorded_with_what_it_says_of_the_content(
    client: SchedulerClient,
) -> None:
    await hold_everything(client, host("holder", "127.0.0.2"))
    task = await client.stat_task()
    assert (task.state, task.content_length, task.piece_count) == ("Succeeded", 16 * MIB, 4)
    request = scheduler_pb2.StatPeerRequest(host_id="h", task_id=TASK, peer_id="holder-peer")
    assert (await client.stub.StatPeer(request)).state == "Succeeded"


async def test_checklist_11_pieces_are_learned_from_what_peers_report(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    await hold_everything(client, host("parent", "127.0.0.2"))
    child = await child_of(client, "child", "127.0.0.3")
    await child.answer()
    await child.send(Started(), PieceFinished(piece=piece(2, "parent-peer")))
    grandchild = await child_of(client, "grandchild", "127.0.0.4")
    answer = await grandchild.answer()
    assert isinstance(answer, NormalTask)
    assert app.core.stat_peer("child-peer").finished_pieces == (2,)
    held = {parent.peer_id: parent.finished_pieces for parent in answer.parents}
    assert held["child-peer"] == (2,)


async def test_checklist_12_the_trigger_gives_the_seed_as_long_as_a_download_may_take(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        await child_of(client, "child", "127.0.0.3")
        await asyncio.wait_for(seed.triggered.wait(), 20)
        (trigger,) = seed.triggers
    assert trigger.need_back_to_source
    assert trigger.output_path is None
    assert seed.time_remaining_s is not None
    assert seed.time_remaining_s > 9.9 * 3600


async def test_pings_of_rust_clients_are_not_abuse(app: SchedulerApp) -> None:
    """dragonfly-control.md §1.1: gRPC's default drops a connection after three early pings."""
    async with raw_http2("127.0.0.1", app.port) as raw:
        for number in range(20):
            payload = number.to_bytes(8, "big")
            await raw.send(PING, 0, 0, payload)
            frame = await raw.frame()
            while frame.kind != PING:
                frame = await raw.frame()
            assert frame == Frame(PING, ACK, 0, payload)


async def test_a_back_to_source_peer_is_a_parent_while_it_downloads(
    client: SchedulerClient,
) -> None:
    await client.announce(host("first", "127.0.0.2"))
    first = client.peer("first", "first-peer")
    await first.register()
    assert isinstance(await first.answer(), NeedBackToSource)
    await first.send(BackToSourceStarted(), PieceBackToSourceFinished(piece=piece(0)))
    child = await child_of(client, "child", "127.0.0.3")
    answer = await child.answer()
    assert isinstance(answer, NormalTask)
    assert answer.parents[0].peer_id == "first-peer"
    await first.send(BackToSourceFinished())
    assert (await first.end())[0] is OK
