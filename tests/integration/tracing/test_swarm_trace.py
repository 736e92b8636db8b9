"""One download as one trace, across processes: peer -> scheduler -> seed -> scheduler."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, Process, daemon_arguments, get, process
from support.origin import Origin
from support.otlp_receiver import Got, Receiver, receiving_grpc

SCHEDULER, SEED, PEER = "odonata-scheduler", "the-seed", "the-peer"
AWAITED = {
    (PEER, "/DownloadTask"): 1,
    (PEER, "download"): 1,
    (SCHEDULER, "/AnnouncePeer"): 2,
    (SCHEDULER, "schedule"): 2,
    (SCHEDULER, "trigger_seed"): 1,
    (SEED, "/DownloadTask"): 1,
    (SEED, "download"): 1,
    (SEED, "/SyncPieces"): 1,
}
"""Spans of one download that a seed fetches; each program sends its own when it likes."""


@dataclass
class Traced:
    receiver: Receiver
    seed: Process
    peer: Process


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncGenerator[Traced]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving_grpc())
        tracing = {"tracing__protocol": "grpc", "tracing__endpoint": receiver.address}
        settings = {"server.listenIP": "127.0.0.1", "server.port": "0"}
        settings |= {key.replace("__", "."): value for key, value in tracing.items()}
        words = [f"--set={key}={value}" for key, value in settings.items()]
        scheduler = await stack.enter_async_context(process("scheduler", *words))
        tracing["scheduler__addrs"] = f"[{scheduler.address}]"
        seed = daemon_arguments(
            tmp_path, 2, **tracing, tracing__serviceName=SEED, seedPeer__enable="true"
        )
        peer = daemon_arguments(tmp_path, 3, **tracing, tracing__serviceName=PEER)
        yield Traced(
            receiver,
            await stack.enter_async_context(process(*seed)),
            await stack.enter_async_context(process(*peer)),
        )


def child_of(parent: Got, among: list[Got]) -> Got:
    (child,) = [one for one in among if one.parent_id == parent.span_id]
    assert child.trace_id == parent.trace_id
    return child


async def test_a_download_is_one_trace_across_all_programs(traced: Traced, tmp_path: Path) -> None:
    content = make_content(9 * MIB)
    async with Origin() as origin:
        url = origin.add("/blob", content)
        output = await get(traced.peer.socket_path, url, tmp_path / "out")
    assert output.read_bytes() == content
    receiver = traced.receiver

    def is_complete(_: list[Got]) -> bool:
        return all(len(receiver.named(*span)) == count for span, count in AWAITED.items())

    await receiver.until(is_complete)
    (asked,) = receiver.named(PEER, "dfdaemon.v2.DfdaemonDownload/DownloadTask")
    assert asked.parent_id == ""
    fetched = child_of(asked, receiver.named(PEER, "download"))
    announced = child_of(fetched, receiver.named(SCHEDULER, "scheduler.v2.Scheduler/AnnouncePeer"))
    decided = child_of(announced, receiver.named(SCHEDULER, "schedule"))
    triggered = child_of(decided, receiver.named(SCHEDULER, "trigger_seed"))
    ordered = child_of(triggered, receiver.named(SEED, "dfdaemon.v2.DfdaemonUpload/DownloadTask"))
    sourced = child_of(ordered, receiver.named(SEED, "download"))
    seeded = child_of(sourced, receiver.named(SCHEDULER, "/AnnouncePeer"))
    seed_decided = child_of(seeded, receiver.named(SCHEDULER, "schedule"))
    child_of(fetched, receiver.named(SEED, "/SyncPieces"))

    told = decided.attributes
    assert told["question"] == "Register"
    assert told["outcome"] == "parents"
    assert told["ranked_by"] == "rule"
    assert told["candidates"] >= 1
    assert told["decision_id"] == f"{told['peer_id']}#1"
    assert told["parent_ids"] == [seed_decided.attributes["peer_id"]]
    ((event, waited),) = decided.events
    assert event == "waiting"
    assert waited["reason"].endswith("was triggered")
    assert seed_decided.attributes["outcome"] == "source"
    assert announced.attributes["rpc.method"] == "AnnouncePeer"
    assert all(one.failure is None for one in (asked, fetched, announced, decided, triggered))
