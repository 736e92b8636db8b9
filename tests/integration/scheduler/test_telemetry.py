"""What a real scheduler records of a conversation, and that it outlives the scheduler."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from random import Random

from support.scheduler_client import SchedulerClient, connected, host, piece, settings

from models.facts import FACT_NAMES
from models.features import FEATURE_NAMES
from odonata.telemetry.parquet import read_table
from odonata.telemetry.record import decision_id
from odonata.telemetry.settings import TelemetrySettings
from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    Finished,
    NeedBackToSource,
    NormalTask,
    PieceBackToSourceFinished,
    PieceFinished,
    Started,
)
from scheduler.runtime.app import SchedulerApp


async def converse(client: SchedulerClient) -> None:
    """One peer fetches from the source, another one from it."""
    await client.announce(host("parent", "127.0.0.2"))
    await client.announce(host("child", "127.0.0.3"))
    parent = client.peer("parent", "parent-peer")
    await parent.register(need_back_to_source=True)
    assert isinstance(await parent.answer(), NeedBackToSource)
    await parent.send(BackToSourceStarted())
    await parent.send(*(PieceBackToSourceFinished(piece=piece(number)) for number in range(4)))
    await parent.send(BackToSourceFinished())
    await parent.end()
    child = client.peer("child", "child-peer")
    await child.register()
    assert isinstance(await child.answer(), NormalTask)
    await child.send(Started())
    await child.send(*(PieceFinished(piece=piece(n, "parent-peer")) for n in range(4)))
    await child.send(Finished())
    await child.end()


async def test_its_decisions_can_be_read_when_it_has_stopped(tmp_path: Path) -> None:
    before_s = time.time()
    chosen = settings().model_copy(update={"telemetry": TelemetrySettings(dir=tmp_path)})
    async with SchedulerApp(chosen, Random(1)) as app, connected(app.address) as client:
        app.core.state.limits = replace(app.core.state.limits, feature_record_interval=1)
        await converse(client)
    decisions = read_table([tmp_path], "decision").to_pylist()
    (row,) = [row for row in decisions if row["outcome"] == "parents"]
    assert row["decision_id"] == decision_id("child-peer", 1)
    assert before_s - 1 <= row["at_s"] <= time.time() + 1
    (candidate,) = read_table([tmp_path], "candidate").to_pylist()
    assert (candidate["peer_id"], candidate["slot"]) == ("parent-peer", 0)
    assert set(FACT_NAMES) <= candidate.keys()
    assert {f"feature_{name}" for name in FEATURE_NAMES} <= candidate.keys()
    stats = app.recorder.stats()
    assert stats.dropped == 0
    assert stats.written >= len(decisions)
