"""A persistent task from its upload to its end: through real gRPC, a real Redis, real holders."""

from __future__ import annotations

from contextlib import AsyncExitStack

import grpc
import pytest
from support.eventually import eventually, eventually_is
from support.fake_holder import FakeHolder, serving_holder
from support.persistent_client import (
    URL,
    PersistentClient,
    connected,
    host_message,
    redis_scheduler,
)
from support.redis_server import RedisServer, free_port

from scheduler.core.persistent.state import Kind

TASK = "a" * 64


async def counts(client: PersistentClient, task_id: str = TASK) -> tuple[int, int]:
    """Replicas, and hosts with a whole copy."""
    task = await client.stat_task(task_id)
    return task.current_persistent_replica_count, task.current_replica_count


async def has_replicas(client: PersistentClient, wanted: int) -> None:
    """Wait until so many hosts keep a replica."""

    async def replicas() -> int:
        return (await counts(client))[0]

    await eventually_is(replicas, wanted)


async def test_from_upload_to_delete(client: PersistentClient, kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        holders = {
            name: await stack.enter_async_context(serving_holder(name, client, TASK))
            for name in ("one", "two", "three", "four")
        }
        task = await client.upload("one", "one-peer", TASK, persistent_replica_count=3)
        assert (task.id, task.state, task.persistent_replica_count) == (TASK, "Succeeded", 3)
        assert (task.current_persistent_replica_count, task.current_replica_count) == (1, 1)
        await has_replicas(client, 3)
        fetched = [name for name, holder in holders.items() if holder.fetched]
        assert len(fetched) == 2
        assert "one" not in fetched
        check_request(kind, holders[fetched[0]])

        (fourth,) = set(holders) - {"one", *fetched}
        peer = client.peer(fourth, "reader", TASK)
        parents = await peer.download()
        assert len(parents) == 3
        assert await counts(client) == (3, 4)

        await client.leave(fetched[0])
        await eventually_is(lambda: counts(client), (3, 3))
        assert holders[fourth].kept == [(TASK, True)], "it had the bytes: it need only keep them"
        assert (await client.stat_peer("reader", TASK)).persistent

        await client.call("Delete{}Task", host_id="anyone", task_id=TASK)
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await client.stat_task(TASK)
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND
        keepers = [holders[name] for name in ("one", fetched[1], fourth)]
        await eventually(lambda: all((TASK, False) in keeper.kept for keeper in keepers))


def check_request(kind: Kind, holder: FakeHolder) -> None:
    (asked,) = holder.fetched
    assert asked.persistent
    if kind is Kind.PERSISTENT:
        assert (asked.url, asked.object_storage.region) == (URL, "r")
        assert not asked.object_storage.access_key_secret
    else:
        assert (asked.task_id, asked.tag) == (TASK, "t")


async def test_a_restarted_scheduler_and_a_second_one_know_all_of_it(
    redis: RedisServer, kind: Kind
) -> None:
    async with redis_scheduler(redis.address) as first, connected(first.address, kind) as client:
        await client.announce(host_message("one"))
        await client.announce(host_message("two"))
        said = await client.upload("one", "one-peer", TASK)
    async with (
        redis_scheduler(redis.address) as again,
        redis_scheduler(redis.address) as second,
        connected(again.address, kind) as client,
        connected(second.address, kind) as other,
    ):
        assert await client.stat_task(TASK) == said
        assert await client.peer("two", "two-peer", TASK).download() == ["one-peer"]
        assert await counts(other) == (1, 2)
        peer = await other.stat_peer("one-peer", TASK)
        assert (peer.host.os, peer.host.disk.total, peer.persistent) == ("linux", 1 << 41, True)
        with pytest.raises(grpc.aio.AioRpcError, match="not found"):
            await other.leave("one")  # its standard part has never heard of it
        await eventually_is(lambda: counts(client), (0, 1))


async def test_holders_that_fail_are_replaced_by_others(client: PersistentClient) -> None:
    async with (
        serving_holder("one", client, TASK),
        serving_holder("two", client, TASK) as two,
        serving_holder("three", client, TASK) as three,
    ):
        two.full = True
        await client.announce(host_message("dead", port=free_port()))
        await client.announce(host_message("small", disk_free_bytes=1))
        await client.announce(host_message("private", shared=False))
        await client.upload("one", "one-peer", TASK, persistent_replica_count=2)
        await has_replicas(client, 2)
        assert len(three.fetched) == 1
        assert len(two.fetched) <= 1, "nobody is asked twice"


async def test_a_silent_host_is_forgotten_and_its_replica_is_made_anew(
    redis: RedisServer, kind: Kind
) -> None:
    async with (
        redis_scheduler(redis.address, host_gc_interval_s=0.2) as app,
        connected(app.address, kind) as client,
        serving_holder("one", client, TASK) as one,
    ):
        await client.announce(host_message("quiet"), interval_s=0.5)
        await client.upload("quiet", "quiet-peer", TASK)
        assert await client.peer("one", "one-peer", TASK).download() == ["quiet-peer"]
        await eventually(lambda: one.kept)
        assert one.kept == [(TASK, True)]
        await eventually_is(lambda: counts(client), (1, 1))
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await client.stat_peer("quiet-peer", TASK)
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND
        with redis.client() as raw:

            async def quiet_keys() -> bool:
                return any(b"quiet" in key for key in raw.scan_iter())

            await eventually_is(quiet_keys, wanted=False)  # the other kind's turn comes after


async def test_a_record_that_nobody_can_read_does_not_stop_the_sweep(
    redis: RedisServer, kind: Kind
) -> None:
    async with (
        redis_scheduler(redis.address, host_gc_interval_s=0.2) as app,
        connected(app.address, kind) as client,
    ):
        await client.announce(host_message("a-broken"), interval_s=0.3)
        await client.announce(host_message("b-silent"), interval_s=0.3)
        await client.upload("a-broken", "broken-peer", TASK)
        await client.upload("b-silent", "silent-peer", "b" * 64)
        with redis.client() as raw:
            (key,) = (key for key in raw.scan_iter() if key.endswith(f"-tasks:{TASK}".encode()))
            raw.hset(key, "state", "Dancing")
            with pytest.raises(grpc.aio.AioRpcError, match="field state of Redis key"):
                await client.stat_task(TASK)

            async def silent_keys() -> bool:
                return any(b"b-silent" in key for key in raw.scan_iter())

            await eventually_is(silent_keys, wanted=False)


async def test_the_sweep_finishes_what_a_dead_scheduler_left_undone(
    redis: RedisServer, kind: Kind
) -> None:
    async with redis_scheduler(redis.address) as app, connected(app.address, kind) as client:
        await client.announce(host_message("one"))
        await client.upload("one", "one-peer", TASK, persistent_replica_count=2)
        assert await counts(client) == (1, 1), "nobody else is there"
    async with (
        redis_scheduler(redis.address, host_gc_interval_s=0.2) as app,
        connected(app.address, kind) as client,
        serving_holder("two", client, TASK),
    ):
        await has_replicas(client, 2)


async def test_a_stream_that_breaks_off_is_a_failed_peer(client: PersistentClient) -> None:
    await client.announce(host_message("one"))
    await client.announce(host_message("two"))
    await client.upload("one", "one-peer", TASK)
    peer = client.peer("two", "two-peer", TASK)
    await peer.register()
    assert await peer.parents() == ["one-peer"]
    await peer.started()
    await eventually_is(lambda: state_of(client, "two-peer"), "Running")
    peer.call.cancel()
    await eventually_is(lambda: state_of(client, "two-peer"), "Failed")
    assert await client.peer("two", "two-peer", TASK).download() == ["one-peer"]


async def state_of(client: PersistentClient, peer_id: str) -> str:
    state: str = (await client.stat_peer(peer_id, TASK)).state
    return state
