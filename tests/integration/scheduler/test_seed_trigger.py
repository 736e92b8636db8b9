"""Seeds: triggered once, followed by many; and what happens when they fail."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest
from support.fake_seed import FakeSeed, announced_seed, serving_seed
from support.scheduler_client import (
    TASK,
    URL,
    PeerConversation,
    SchedulerClient,
    download,
    host,
)

from odonata.errors import (
    DiskFullError,
    InternalError,
    OdonataError,
    SourceError,
    StorageError,
)
from odonata.wire.message import (
    BackToSourceStarted,
    Failed,
    Finished,
    NeedBackToSource,
    NormalTask,
    SourceAnswer,
    SourceShare,
    Started,
)
from scheduler.core.effect import TriggerSeed
from scheduler.core.event import SeedFailed, SeedFinished
from scheduler.runtime import seed_trigger
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.seed_trigger import SeedTrigger

OK = grpc.StatusCode.OK


async def children(client: SchedulerClient, count: int) -> list[PeerConversation]:
    """`count` children on hosts of their own, none of them registered yet."""
    for number in range(count):
        await client.announce(host(f"child-{number}", f"127.0.1.{number + 1}"))
    return [client.peer(f"child-{number}", f"child-{number}-peer") for number in range(count)]


def trigger(seed_host: str, ip: str, port: int, **fields: object) -> TriggerSeed:
    return TriggerSeed(
        task_id=TASK, host=host(seed_host, ip, port, seed=True), download=download(**fields)
    )


def unused_port(ip: str) -> int:
    with socket.socket() as probe:
        probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port


# --- through a whole scheduler --------------------------------------------------------------------


async def test_ten_children_at_once_trigger_the_seed_exactly_once(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        peers = await children(client, 10)
        await asyncio.gather(
            *(
                peer.register(request_header={"authorization": "Bearer x"}, output_path="/out")
                for peer in peers
            )
        )

        async def follow(peer: PeerConversation) -> list[str]:
            answer = await peer.answer()
            assert isinstance(answer, NormalTask), answer
            await peer.send(Started())
            return [parent.host.ip for parent in answer.parents]

        seed.reach_source.set()
        parents = await asyncio.gather(*(follow(peer) for peer in peers))
        assert all(parents)
        assert any("127.0.0.9" in ips for ips in parents)
        (asked,) = seed.triggers
        assert (asked.url, asked.need_back_to_source, asked.output_path) == (URL, True, None)
        assert asked.request_header == {"authorization": "Bearer x"}
        for peer in peers:
            await peer.send(Finished())
            assert (await peer.end())[0] is OK
        seed.finish.set()


@pytest.mark.parametrize("share", [None, SourceShare(index=1, count=3)])
async def test_a_seed_is_told_which_of_how_many_it_is(share: SourceShare | None) -> None:
    async with serving_seed("seed", "127.0.0.9") as seed:
        seed.finish.set()
        seed.reach_source.set()
        runner = SeedTrigger(timeout_s=20.0)
        try:
            outcome = await runner.run(trigger("seed", seed.ip, seed.port, source_share=share))
        finally:
            await runner.close()
        assert isinstance(outcome, SeedFinished)
        assert seed.shares == [share]


async def test_a_seed_that_is_down_sends_the_child_to_the_source(client: SchedulerClient) -> None:
    await client.announce(host("dead", "127.0.0.9", unused_port("127.0.0.9"), seed=True))
    (child,) = await children(client, 1)
    await child.register()
    answer = await child.answer()
    assert isinstance(answer, NeedBackToSource)


async def test_a_source_that_refuses_the_seed_does_not_leave_children_waiting(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        seed.error = SourceError("not here", status_code=404)
        (child,) = await children(client, 1)
        await child.register()
        assert isinstance(await child.answer(), NeedBackToSource)
        await child.send(Failed())
        assert (await child.end())[0] is OK


async def test_a_seed_with_a_full_disk_sends_one_child_to_the_source_not_all(
    app: SchedulerApp, client: SchedulerClient
) -> None:
    async with announced_seed(app.address, TASK) as seed:
        seed.error = DiskFullError("no space left")
        first, second = await children(client, 2)
        await first.register()
        await second.register()
        assert isinstance(await first.answer(), NeedBackToSource)
        await first.send(BackToSourceStarted())
        answer = await second.answer()
        assert isinstance(answer, NormalTask)
        assert [parent.peer_id for parent in answer.parents] == [first.peer_id]


async def test_stopping_cancels_triggers_that_run(app: SchedulerApp) -> None:
    from support.scheduler_client import connected  # noqa: PLC0415

    async with announced_seed(app.address, TASK) as seed, connected(app.address) as client:
        (child,) = await children(client, 1)
        await child.register()
        await asyncio.wait_for(seed.triggered.wait(), 20)
        await app.stop()
        await asyncio.wait_for(seed.cancelled.wait(), 20)


# --- the trigger by itself ------------------------------------------------------------------------


@pytest.fixture
async def seeds() -> SeedTrigger:
    return SeedTrigger(timeout_s=60)


async def test_a_stream_that_ends_well_is_a_finished_seed(seeds: SeedTrigger) -> None:
    async with serving_seed("seed", "127.0.0.9") as seed:
        seed.reach_source.set()
        seed.finish.set()
        outcome = await seeds.run(trigger("seed", seed.ip, seed.port))
        await seeds.close()
    assert outcome == SeedFinished(task_id=TASK, host_id="seed")


async def test_a_source_error_keeps_the_words_and_the_status_of_the_source(
    seeds: SeedTrigger,
) -> None:
    async with serving_seed("seed", "127.0.0.9") as seed:
        seed.error = SourceError("no such blob", status_code=404, header={"x": "y"})
        outcome = await seeds.run(trigger("seed", seed.ip, seed.port))
        await seeds.close()
    assert isinstance(outcome, SeedFailed)
    assert not outcome.unreachable
    assert "404" in outcome.reason
    assert "no such blob" in outcome.reason
    assert outcome.answer == SourceAnswer(
        message="no such blob", status_code=404, header={"x": "y"}
    )


@pytest.mark.parametrize(
    "error",
    [
        DiskFullError("no space left"),
        StorageError("read-only"),
        InternalError("a bug"),
        SourceError("name not resolved"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_wrong_with_the_seed_itself_is_no_answer_of_the_source(
    seeds: SeedTrigger, error: OdonataError
) -> None:
    async with serving_seed("seed", "127.0.0.9") as seed:
        seed.error = error
        outcome = await seeds.run(trigger("seed", seed.ip, seed.port))
        await seeds.close()
    assert isinstance(outcome, SeedFailed)
    assert (outcome.unreachable, outcome.answer) == (False, None)


async def test_a_refused_connection_is_an_unreachable_seed(seeds: SeedTrigger) -> None:
    outcome = await seeds.run(trigger("seed", "127.0.0.9", unused_port("127.0.0.9")))
    await seeds.close()
    assert isinstance(outcome, SeedFailed)
    assert outcome.unreachable


async def test_a_seed_that_dies_in_mid_stream_is_unreachable_and_may_come_back(
    seeds: SeedTrigger,
) -> None:
    async with serving_seed("seed", "127.0.0.9") as seed:
        effect = trigger("seed", seed.ip, seed.port)
        running = asyncio.ensure_future(seeds.run(effect))
        await asyncio.wait_for(seed.triggered.wait(), 20)
        port = seed.port
    outcome = await running
    assert isinstance(outcome, SeedFailed)
    assert outcome.unreachable
    async with serving_seed("seed", "127.0.0.9", port) as again:
        again.reach_source.set()
        again.finish.set()
        assert isinstance(await seeds.run(effect), SeedFinished)
        await seeds.close()


async def test_a_download_that_takes_longer_than_allowed_fails_but_the_seed_is_alive() -> None:
    seeds = SeedTrigger(timeout_s=0.2)
    async with serving_seed("seed", "127.0.0.9") as seed:
        outcome = await seeds.run(trigger("seed", seed.ip, seed.port))
        await asyncio.wait_for(seed.cancelled.wait(), 20)
        await seeds.close()
    assert isinstance(outcome, SeedFailed)
    assert not outcome.unreachable


async def test_idle_connections_are_bounded(
    seeds: SeedTrigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_trigger, "MAX_IDLE_CHANNELS", 1)

    async def run(seed: FakeSeed) -> None:
        seed.reach_source.set()
        seed.finish.set()
        outcome = await seeds.run(trigger(seed.name, seed.ip, seed.port))
        assert isinstance(outcome, SeedFinished)

    async with serving_seed("one", "127.0.0.9") as one, serving_seed("two", "127.0.0.10") as two:
        await run(one)
        await run(two)
        await run(one)
        assert seeds.connection_count == 1
        await seeds.close()
