"""The store against a real Redis: names and fields as Dragonfly's, no lost update, time to live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from support.eventually import eventually_is
from support.persistent_client import host_message
from support.redis_server import RedisServer

from odonata.errors import StorageError, UnavailableError
from odonata.settings.database import RedisSettings
from scheduler.core.persistent.core import PersistentCore
from scheduler.core.persistent.effect import AnswerTask, PersistentEffect, Refuse
from scheduler.core.persistent.event import (
    PeerSpoke,
    PersistentEvent,
    Register,
    UploadFailed,
    UploadFinished,
    UploadStarted,
    scope_of,
)
from scheduler.core.persistent.lifecycle import TaskState
from scheduler.core.persistent.state import Kind, Snapshot, Task
from scheduler.runtime.persistent.fields import task_to_fields
from scheduler.runtime.persistent.redis_gate import RedisGate
from scheduler.runtime.persistent.store import PersistentStore

CACHE = Kind.PERSISTENT_CACHE
TASK = Task(
    id="t",
    state=TaskState.PENDING,
    persistent_replica_count=2,
    content_length=16,
    piece_count=4,
    piece_length=4,
    tag="tag",
    application="app",
    ttl_s=3600.0,
    created_at_s=0.0,
    updated_at_s=0.0,
)
ROOT = "scheduler:scheduler-clusters:7:"


class Scheduler:
    """A core and a store with connections of its own: one scheduler of cluster 7."""

    def __init__(self, address: str, kind: Kind) -> None:
        self.gate = RedisGate(RedisSettings(addrs=(address,)))
        self.store = PersistentStore(self.gate, 7, kind)
        self.core = PersistentCore(4, Random(1))

    async def hear(
        self, event: PersistentEvent, host_id: str, peer_id: str, task_id: str = "t"
    ) -> list[PersistentEffect]:
        now = round(time.time(), 6)

        def decide(snapshot: Snapshot) -> list[PersistentEffect]:
            return self.core.handle(event, snapshot, now)

        return await self.store.transact(
            task_id, decide, now, host_id=host_id, peer_id=peer_id, scope=scope_of(event)
        )

    async def announce(self, name: str) -> None:
        await self.store.put_host(host_message(name, idc="i", location="a|b"), 300.0, time.time())

    async def start(self, host_id: str, peer_id: str, task: Task = TASK) -> list[PersistentEffect]:
        event = UploadStarted(host_id=host_id, peer_id=peer_id, task=task)
        return await self.hear(event, host_id, peer_id, task.id)

    async def finish(self, host_id: str, peer_id: str) -> list[PersistentEffect]:
        return await self.hear(UploadFinished(host_id=host_id, peer_id=peer_id), host_id, peer_id)

    async def register(self, host_id: str, peer_id: str) -> list[PersistentEffect]:
        event = PeerSpoke(host_id=host_id, peer_id=peer_id, message=Register())
        return await self.hear(event, host_id, peer_id)


@pytest.fixture
async def pair(redis: RedisServer, kind: Kind) -> AsyncIterator[tuple[Scheduler, Scheduler]]:
    pair = (Scheduler(redis.address, kind), Scheduler(redis.address, kind))
    yield pair
    for each in pair:
        await each.gate.close()


async def test_names_and_fields_are_dragonflys(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer, kind: Kind
) -> None:
    one, _ = pair
    await one.announce("h")
    await one.start("h", "p")
    word = str(kind)
    peers, replicas = f"persistent-cache-peers-for-{word}-task", f"persistent-peers-for-{word}-task"
    with redis.client(decode_responses=True) as raw:
        assert set(raw.scan_iter()) == {
            f"{ROOT}{word}-tasks:t",
            f"{ROOT}{word}-tasks:t:{peers}",
            f"{ROOT}{word}-tasks:t:{replicas}",
            f"{ROOT}{peers}:p",
            f"{ROOT}{word}-hosts",
            f"{ROOT}{word}-hosts:h",
            f"{ROOT}{word}-hosts:h:{peers}",
        }
        task = raw.hgetall(f"{ROOT}{word}-tasks:t")
        said = {name: task[name] for name in task if not name.endswith("_at")}
        assert said == {
            "id": "t",
            "persistent_replica_count": "2",
            "tag": "tag",
            "application": "app",
            "piece_length": "4",
            "content_length": "16",
            "total_piece_count": "4",
            "state": "Uploading",
            "ttl": "3600000000000",
            "url": "",
            "object_storage": "",
        }
        peer = raw.hgetall(f"{ROOT}{peers}:p")
        assert set(peer) == {
            *("id", "persistent", "finished_pieces", "state", "block_parents", "task_id"),
            *("host_id", "cost", "created_at", "updated_at", "concurrent_piece_count"),
        }
        host = raw.hgetall(f"{ROOT}{word}-hosts:h")
        assert len(host) == 60, "as many as Dragonfly writes"
        picked = ("type", "announce_interval", "network_idc", "disk_total", "disable_shared")
        said_of_host = [host[name] for name in picked]
        assert said_of_host == ["normal", "300000000000", "i", "2199023255552", "0"]
        for key in (f"{word}-tasks:t", f"{word}-tasks:t:{peers}", f"{peers}:p"):
            left_s = raw.ttl(ROOT + key)
            assert 3590 <= left_s <= 3600, key


async def test_what_is_left_of_the_time_is_ttl_less_age(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, _ = pair
    await one.announce("h")
    await one.start("h", "p")
    key = one.store.keys.task("t")
    with redis.client() as raw:
        raw.hset(key, "created_at", "2020-01-01T08:00:00+08:00")  # as Go writes it
        raw.hset(key, "ttl", str(round((time.time() - 1577836800 + 100) * 1e9)))
        await one.finish("h", "p")
        left_s = raw.ttl(key)
        assert 95 <= left_s <= 100


async def test_of_two_uploads_at_once_exactly_one_begins(
    pair: tuple[Scheduler, Scheduler],
) -> None:
    one, two = pair
    await one.announce("h1")
    await one.announce("h2")
    for number in range(20):
        task = replace(TASK, id=f"t{number}")
        told = await asyncio.gather(
            one.start("h1", f"p1-{number}", task), two.start("h2", f"p2-{number}", task)
        )
        refusals = [
            effect.error.code for effect in (*told[0], *told[1]) if isinstance(effect, Refuse)
        ]
        assert refusals == ["already_exists"], number
        snapshot = await one.store.load(task.id)
        assert len(snapshot.peers) == 1


async def test_no_peer_is_lost_when_two_schedulers_register_many_at_once(
    pair: tuple[Scheduler, Scheduler],
) -> None:
    one, two = pair
    names = [f"h{number}" for number in range(40)]
    await asyncio.gather(*(one.announce(name) for name in ["home", *names]))
    await one.start("home", "first")
    await one.finish("home", "first")
    await asyncio.gather(
        *(pair[number % 2].register(name, f"p-{name}") for number, name in enumerate(names))
    )
    snapshot = await two.store.load("t")
    assert set(snapshot.peers) == {"first", *(f"p-{name}" for name in names)}
    assert set(snapshot.hosts) == {"home", *names}


async def test_a_host_that_leaves_while_its_peer_registers_leaves_no_peer_behind(
    pair: tuple[Scheduler, Scheduler],
) -> None:
    one, two = pair
    for number in range(10):
        await one.announce("home")
        await one.announce("h")
        task = f"task{number}"
        await one.start("home", f"first{number}", replace(TASK, id=task))
        spoke = PeerSpoke(host_id="h", peer_id=f"p{number}", message=Register())
        _, task_ids = await asyncio.gather(
            one.hear(spoke, "h", f"p{number}", task), two.store.begin_host_departure("h")
        )
        snapshot = await one.store.load(task)
        registered = f"p{number}" in snapshot.peers
        assert not registered or task in task_ids or "h" in snapshot.hosts


async def test_a_task_expires_by_rediss_clock_with_all_that_belongs_to_it(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, two = pair
    await one.announce("h")
    await one.announce("h2")
    await one.start("h", "p", replace(TASK, ttl_s=1.5))
    await one.finish("h", "p")
    await two.register("h2", "p2")
    keys = one.store.keys
    with redis.client() as raw:
        of_task = [keys.task("t"), keys.peers_of_task("t"), keys.replicas_of_task("t")]
        of_task += [keys.peer("p"), keys.peer("p2")]
        assert raw.exists(*of_task) == len(of_task)

        async def left() -> object:
            return raw.exists(*of_task)

        await eventually_is(left, 0)
    assert await one.store.load("t") == Snapshot(kind=one.store.kind, task_id="t")
    (refused,) = await two.register("h2", "p3")
    assert isinstance(refused, Refuse)
    assert refused.error.code == "not_found"
    assert await one.start("h", "p4") == [], "it may be uploaded anew"
    assert await two.store.begin_host_departure("h") == ["t"]


async def test_a_peer_id_of_another_task_is_not_taken_over(
    pair: tuple[Scheduler, Scheduler],
) -> None:
    one, _ = pair
    await one.announce("h")
    await one.start("h", "p")
    (refused,) = await one.start("h", "p", replace(TASK, id="other"))
    assert isinstance(refused, Refuse)
    assert refused.error.code == "already_exists"


async def test_a_failed_upload_drops_the_peer_from_the_replicas(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, _ = pair
    await one.announce("h")
    await one.start("h", "p")
    replicas = one.store.keys.replicas_of_task("t")
    with redis.client() as raw:
        assert raw.smembers(replicas) == {b"p"}
        await one.hear(UploadFailed(host_id="h", peer_id="p"), "h", "p")
        assert raw.smembers(replicas) == set()
        await one.start("h", "p2")
        told = await one.finish("h", "p2")
        assert isinstance(told[0], AnswerTask)
        assert raw.smembers(replicas) == {b"p2"}


async def test_short_tasks_are_found_among_many(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, _ = pair
    keys = one.store.keys
    with redis.client() as raw:
        pipe = raw.pipeline(transaction=False)
        for number in range(1200):
            state = TaskState.SUCCEEDED if number != 100 else TaskState.UPLOADING
            wanted = 1 + (number % 100 == 0)
            task = replace(TASK, id=f"t{number}", state=state, persistent_replica_count=wanted)
            fields: dict[Any, Any] = dict(task_to_fields(task))
            pipe.hset(keys.task(task.id), mapping=fields)
            pipe.sadd(keys.replicas_of_task(task.id), "p")
        pipe.execute()
    short = {task_id async for task_id in one.store.tasks_short_of_replicas()}
    assert short == {f"t{number}" for number in range(0, 1200, 100) if number != 100}


async def test_one_scheduler_sweeps_at_a_time(pair: tuple[Scheduler, Scheduler]) -> None:
    one, two = pair
    assert await one.store.take_sweep(0.3)
    assert not await two.store.take_sweep(0.3)
    await eventually_is(lambda: two.store.take_sweep(0.3), wanted=True)


async def test_a_hash_that_nobody_can_read_is_named(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, _ = pair
    with redis.client() as raw:
        raw.hset(one.store.keys.task("t"), "id", "t")
    with pytest.raises(StorageError, match=r"field state of Redis key .*:t can't be read"):
        await one.store.load("t")


async def test_a_wrong_kind_of_key_is_unavailable_not_a_crash(
    pair: tuple[Scheduler, Scheduler], redis: RedisServer
) -> None:
    one, _ = pair
    with redis.client() as raw:
        raw.set(one.store.keys.task("t"), "text")
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        await one.store.load("t")
