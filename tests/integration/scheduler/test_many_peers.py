"""Three hundred peers want one task at once, through real gRPC and one seed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import grpc
from dragonfly_api import scheduler_pb2
from support.fake_seed import FakeSeed, announced_seed
from support.scheduler_client import MIB, PeerConversation, SchedulerClient, host, piece

from odonata.wire.message import Finished, NormalTask, PieceFinished, Started
from scheduler.core.story import Outcome
from scheduler.runtime.app import SchedulerApp

PEERS = 300
PIECES = 16
# A seed's time to reach the source, and a child's to start: whoever waits longer waits for nobody.
LONGEST_WAIT_S = 11.0
# What the second crowd may add: its decisions (two a child, 2,000 are kept) and gRPC's own buffers.
GROWTH_BYTES = 6 * MIB


async def announce_all(client: SchedulerClient) -> None:
    for number in range(PEERS):
        ip = f"127.1.{number // 250}.{number % 250 + 1}"
        await client.announce(host(f"host-{number}", ip))


async def pull(peer: PeerConversation, asked: asyncio.Semaphore) -> int:
    """One whole download; returns how many parents it was given."""
    await peer.register(actual_content_length=PIECES * 4 * MIB, actual_piece_count=PIECES)
    asked.release()
    async with asyncio.timeout(LONGEST_WAIT_S):
        answer = await peer.answer()
    assert isinstance(answer, NormalTask), answer
    parent_id = answer.parents[0].peer_id
    await peer.send(Started())
    await peer.send(*(PieceFinished(piece=piece(n, parent_id)) for n in range(PIECES)))
    await peer.send(Finished())
    assert await peer.end() == (grpc.StatusCode.OK, "")
    return len(answer.parents)


async def crowd(app: SchedulerApp, client: SchedulerClient, seed: FakeSeed) -> list[int]:
    """All hosts come, pull and leave; returns how many parents each was given."""
    await announce_all(client)
    asked = asyncio.Semaphore(0)
    peers = [
        client.peer(f"host-{number}", f"{seed.task_id[0]}-{number}", seed.task_id)
        for number in range(PEERS)
    ]
    async with asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(pull(peer, asked)) for peer in peers]
        for _ in peers:
            await asked.acquire()
        seed.reach_source.set()
    seed.finish.set()
    for number in range(PEERS):
        request = scheduler_pb2.DeleteHostRequest(host_id=f"host-{number}")
        await client.stub.DeleteHost(request, timeout=20)
    return [each.result() for each in pulls]


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_three_hundred_at_once_all_end_well_by_one_trigger_and_leave_nothing_behind(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    used: list[int] = []
    tracemalloc.start()
    try:
        for task_id in ("a" * 64, "b" * 64):
            async with announced_seed(app.address, task_id, name=f"seed-{task_id[0]}") as seed:
                parent_counts = await crowd(app, client, seed)
                await client.stub.DeleteHost(
                    scheduler_pb2.DeleteHostRequest(host_id=seed.name), timeout=20
                )
            assert len(seed.triggers) == 1
            assert min(parent_counts) >= 1
            assert max(parent_counts) > 1, "the graph grew beyond the seed"
            used.append(traced_bytes())
    finally:
        tracemalloc.stop()
    outcomes = {decision.outcome for decision in app.core.explain()}
    assert outcomes == {Outcome.WAIT, Outcome.SEED, Outcome.PARENTS, Outcome.SOURCE}
    to_source = [one.child_id for one in app.core.explain() if one.outcome is Outcome.SOURCE]
    assert to_source == ["seed-a-peer-seed", "seed-b-peer-seed"], "nobody but the seeds"
    assert app.executor.stream_count == 0
    assert not app.core.state.hosts
    assert not app.core.state.peers
    assert used[1] - used[0] < GROWTH_BYTES
