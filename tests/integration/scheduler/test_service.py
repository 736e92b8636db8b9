"""The unary rpcs of a real scheduler, its limits, and that none is missing."""

from __future__ import annotations

from random import Random
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2
from dragonfly_api import scheduler_pb2 as api
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from support.grpc_stub import reflection_stub
from support.scheduler_client import (
    TASK,
    SchedulerClient,
    connected,
    host,
    settings,
)

from odonata.wire.dragonfly import host_to_wire
from odonata.wire.message import MetadataOnly
from scheduler.runtime.app import SchedulerApp, limits_of
from scheduler.settings import SchedulerGcSettings, SchedulerSettings, SchedulingSettings


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def hold(client: SchedulerClient, name: str, ip: str) -> None:
    await client.announce(host(name, ip))
    peer = client.peer(name, f"{name}-peer")
    await peer.register(metadata_only=True, tag="t", digest="sha256:00")
    assert await peer.answer() == MetadataOnly()
    await peer.call.done_writing()
    await peer.end()


async def test_list_hosts_repeats_what_hosts_said_of_themselves(client: SchedulerClient) -> None:
    said = host_to_wire(host("normal", "127.0.0.2"))
    said.os = "linux"
    said.memory.total = 7
    await client.stub.AnnounceHost(api.AnnounceHostRequest(host=said))
    await client.announce(host("seed", "127.0.0.3", seed=True))
    everybody = (await client.stub.ListHosts(api.ListHostsRequest())).hosts
    assert [known.id for known in everybody] == ["normal", "seed"]
    assert everybody[0] == said
    normal = (await client.stub.ListHosts(api.ListHostsRequest(type=0))).hosts
    assert [known.id for known in normal] == ["normal"]


async def test_announcing_again_updates_the_host(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"), interval_s=300)
    await client.announce(host("h", "127.0.0.3"), interval_s=300)
    (known,) = (await client.stub.ListHosts(api.ListHostsRequest())).hosts
    assert known.ip == "127.0.0.3"


async def test_a_task_is_told_without_its_request_headers(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(
        need_back_to_source=True, request_header={"authorization": "Bearer x"}, tag="t"
    )
    await peer.answer()
    task = await client.stat_task()
    assert (task.id, task.tag, task.state, task.peer_count) == (TASK, "t", "Running", 1)
    assert task.created_at.seconds > 1_700_000_000, "wall clock"
    assert not task.request_header
    assert b"Bearer" not in task.SerializeToString()


async def test_deleting_a_task_forgets_the_hosts_peers_of_it(client: SchedulerClient) -> None:
    await hold(client, "one", "127.0.0.2")
    await hold(client, "two", "127.0.0.3")
    assert (await client.stat_task()).peer_count == 2
    await client.stub.DeleteTask(api.DeleteTaskRequest(host_id="one", task_id=TASK))
    assert (await client.stat_task()).peer_count == 1
    gone = api.StatPeerRequest(host_id="one", task_id=TASK, peer_id="one-peer")
    assert (await refusal(client.stub.StatPeer(gone)))[0] is grpc.StatusCode.NOT_FOUND


async def test_deleting_a_host_forgets_its_peers(client: SchedulerClient) -> None:
    await hold(client, "one", "127.0.0.2")
    await client.stub.DeleteHost(api.DeleteHostRequest(host_id="one"))
    assert not (await client.stub.ListHosts(api.ListHostsRequest())).hosts
    gone = api.StatPeerRequest(host_id="one", task_id=TASK, peer_id="one-peer")
    assert (await refusal(client.stub.StatPeer(gone)))[0] is grpc.StatusCode.NOT_FOUND


async def test_deleting_a_peer_forgets_it_and_its_host_stays(client: SchedulerClient) -> None:
    await hold(client, "one", "127.0.0.2")
    request = api.DeletePeerRequest(host_id="one", task_id=TASK, peer_id="one-peer")
    await client.stub.DeletePeer(request)
    gone = api.StatPeerRequest(host_id="one", task_id=TASK, peer_id="one-peer")
    assert (await refusal(client.stub.StatPeer(gone)))[0] is grpc.StatusCode.NOT_FOUND
    assert len((await client.stub.ListHosts(api.ListHostsRequest())).hosts) == 1


@pytest.mark.parametrize(
    ("rpc", "request_message"),
    [
        ("StatTask", api.StatTaskRequest(host_id="h", task_id="nobody")),
        ("StatPeer", api.StatPeerRequest(host_id="h", task_id="t", peer_id="nobody")),
        ("DeleteHost", api.DeleteHostRequest(host_id="nobody")),
        ("DeleteTask", api.DeleteTaskRequest(host_id="nobody", task_id="t")),
    ],
)
async def test_what_is_unknown_is_not_found_by_name(
    client: SchedulerClient, rpc: str, request_message: object
) -> None:
    code, details = await refusal(getattr(client.stub, rpc)(request_message))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "nobody" in details


@pytest.mark.parametrize(
    ("rpc", "request_message", "field"),
    [
        ("AnnounceHost", api.AnnounceHostRequest(), "host"),
        ("AnnounceHost", api.AnnounceHostRequest(host={"ip": "10.0.0.1"}), "host.id"),
        (
            "AnnounceHost",
            api.AnnounceHostRequest(
                host={"id": "h", "hostname": "n", "ip": "10.0.0.1", "port": 1},
                interval={"seconds": -1},
            ),
            "interval",
        ),
        ("DeleteHost", api.DeleteHostRequest(), "host_id"),
        ("StatTask", api.StatTaskRequest(task_id="t"), "host_id"),
        ("StatCacheTask", api.StatCacheTaskRequest(task_id="t"), "host_id"),
        ("DeleteCacheTask", api.DeleteCacheTaskRequest(host_id="h"), "task_id"),
        ("StatCachePeer", api.StatCachePeerRequest(host_id="h", task_id="t"), "peer_id"),
        ("DeleteCachePeer", api.DeleteCachePeerRequest(host_id="h", peer_id="p"), "task_id"),
        ("StatTask", api.StatTaskRequest(host_id="h"), "task_id"),
        ("DeleteTask", api.DeleteTaskRequest(host_id="h"), "task_id"),
        ("StatPeer", api.StatPeerRequest(host_id="h", task_id="t"), "peer_id"),
        ("DeletePeer", api.DeletePeerRequest(host_id="h", peer_id="p"), "task_id"),
        ("ListHosts", api.ListHostsRequest(type=9), "type"),
    ],
)
async def test_invalid_requests_name_the_field(
    client: SchedulerClient, rpc: str, request_message: object, field: str
) -> None:
    code, details = await refusal(getattr(client.stub, rpc)(request_message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(field)


async def test_an_invalid_download_names_the_field(client: SchedulerClient) -> None:
    await client.announce(host("h", "127.0.0.2"))
    peer = client.peer("h", "p")
    await peer.register(piece_length=1024)
    code, details = await peer.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "download.piece_length 1024" in details


async def test_no_rpc_of_the_service_is_unimplemented(client: SchedulerClient) -> None:
    service = api.DESCRIPTOR.services_by_name["Scheduler"]
    assert len(service.methods) > 20
    for method in service.methods:
        call = getattr(client.stub, method.name)
        request = GetMessageClass(method.input_type)()
        started = call(iter([request])) if method.client_streaming else call(request)
        code = await started.code()
        assert code is not grpc.StatusCode.UNIMPLEMENTED, method.name


async def test_cache_tasks_are_answered_with_nothing(client: SchedulerClient) -> None:
    stub = client.stub
    peer = api.StatCachePeerRequest(host_id="h", task_id="t", peer_id="p")
    assert await stub.StatCachePeer(peer) == common_pb2.CachePeer()
    task = api.StatCacheTaskRequest(host_id="h", task_id="t")
    assert await stub.StatCacheTask(task) == common_pb2.CacheTask()
    old_peer = api.DeleteCachePeerRequest(host_id="h", task_id="t", peer_id="p")
    assert await stub.DeleteCachePeer(old_peer) == Empty()
    old_task = api.DeleteCacheTaskRequest(host_id="h", task_id="t")
    assert await stub.DeleteCacheTask(old_task) == Empty()


async def test_a_stream_about_a_cache_task_ends_without_an_answer(client: SchedulerClient) -> None:
    register = api.RegisterCachePeerRequest(url="http://o/f")
    request = api.AnnounceCachePeerRequest(
        host_id="h", task_id="t", peer_id="p", register_cache_peer_request=register
    )
    stream = client.stub.AnnounceCachePeer()
    await stream.write(request)
    assert [answer async for answer in stream] == []
    assert await stream.code() is grpc.StatusCode.OK


async def test_reflection_lists_the_services(app: SchedulerApp) -> None:
    async with grpc.aio.insecure_channel(app.address) as channel:
        stub = reflection_stub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        await call.done_writing()
        assert {"scheduler.v2.Scheduler", "grpc.health.v1.Health"} <= {s.name for s in listed}


async def test_reflection_v1_answers_newer_tools(app: SchedulerApp) -> None:
    async with grpc.aio.insecure_channel(app.address) as channel:
        rpc = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call: Any = rpc()
        symbol = "scheduler.v2.Scheduler"
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()


async def test_more_calls_than_allowed_are_refused_and_health_still_answers() -> None:
    async with (
        SchedulerApp(settings(request_rate_limit=5), Random(1)) as app,
        connected(app.address) as client,
    ):
        codes: list[grpc.StatusCode] = []
        while grpc.StatusCode.RESOURCE_EXHAUSTED not in codes:
            codes.append((await refusal(client.stat_task("nobody")))[0])
            assert len(codes) < 10_000
        assert len(codes) > 5
        # A new stream counts too; with the bucket emptied again it is refused before it is read.
        stream = client.peer("h", "p")
        while (await stream.end())[0] is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            stream = client.peer("h", "p")
            await stream.call.done_writing()
        assert "calls a second" in (await stream.end())[1]


def test_limits_follow_the_settings() -> None:
    gc = SchedulerGcSettings(piece_download_timeout_s=7.0, host_ttl_s=8.0)
    scheduling = SchedulingSettings(candidate_parent_limit=5, back_to_source_count=6, gc=gc)
    limits = limits_of(SchedulerSettings(scheduler=scheduling))
    assert (limits.candidate_parent_limit, limits.back_to_source_limit) == (5, 6)
    assert (limits.piece_timeout_s, limits.host_ttl_s) == (7.0, 8.0)
    assert limits.seed_flight_timeout_s == 36_000
