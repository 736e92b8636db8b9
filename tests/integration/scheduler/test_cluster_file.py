"""What an operator changes under a running scheduler, as peers of the swarm see it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import grpc
import pytest
from dragonfly_api import scheduler_pb2
from support.eventually import eventually
from support.fake_seed import announced_seed
from support.scheduler_client import PATIENCE_S, TASK, URL, connected, host, settings

from odonata.errors import SettingsError
from odonata.wire.message import NeedBackToSource
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import DynConfigSettings, SchedulerSettings

BLOCKS = """
refreshInterval: 10ms
seedPeerClusterConfig: {blockList: {task: {download: {tags: [private]}}}}
schedulerClusterClientConfig: {blockList: {task: {download: {urls: ["^http://origin"]}}}}
"""
LEVELS = "applications: [{name: train, priority: {value: 1}}, {name: own, priority: {value: 3}}]\n"


def configured(folder: Path, text: str) -> SchedulerSettings:
    path = folder / "dynconfig.yaml"
    path.write_text(text)
    return settings().model_copy(update={"dyn_config": DynConfigSettings(file=path)})


async def test_a_forbidden_download_is_refused_until_the_file_allows_it(tmp_path: Path) -> None:
    async with (
        SchedulerApp(configured(tmp_path, BLOCKS), Random(1)) as app,
        connected(app.address) as client,
    ):
        await client.announce(host("h", "127.0.0.2"))
        refused = client.peer("h", "p1")
        await refused.register()
        code, details = await refused.end()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "block list of peers" in details
        assert URL not in details
        (tmp_path / "dynconfig.yaml").write_text("refreshInterval: 10ms\n")
        empty = app.core.state.cluster.config.__class__()
        await eventually(lambda: app.core.state.cluster.config == empty)
        allowed = client.peer("h", "p2")
        await allowed.register()
        assert isinstance(await allowed.answer(), NeedBackToSource)
        allowed.call.cancel()


async def test_what_is_forbidden_is_not_preheated_either(tmp_path: Path) -> None:
    async with (
        SchedulerApp(configured(tmp_path, BLOCKS), Random(1)) as app,
        connected(app.address) as client,
        announced_seed(app.address, TASK),
    ):
        await client.announce(host("h", "127.0.0.2"))
        for request in (
            scheduler_pb2.PreheatFileRequest(url="http://other.test/f", tag="private"),
            scheduler_pb2.PreheatFileRequest(url="http://origin/f", scope="all_peers"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.stub.PreheatFile(request, timeout=PATIENCE_S)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "block list" in (caught.value.details() or "")


async def test_levels_of_applications_reach_peers(tmp_path: Path) -> None:
    async with (
        SchedulerApp(configured(tmp_path, LEVELS), Random(1)) as app,
        connected(app.address) as client,
        announced_seed(app.address, TASK) as seed,
    ):
        await client.announce(host("h", "127.0.0.2"))
        forbidden = client.peer("h", "p1")
        await forbidden.register(application="train")
        assert (await forbidden.end())[0] is grpc.StatusCode.FAILED_PRECONDITION
        own = client.peer("h", "p2")
        await own.register(application="own")
        assert isinstance(await own.answer(), NeedBackToSource)
        own.call.cancel()
        assert not seed.triggers


async def test_a_scheduler_does_not_start_with_a_bad_file(tmp_path: Path) -> None:
    bad = configured(tmp_path, "applications: [{name: a, priority: {value: 9}}]")
    app = SchedulerApp(bad, Random(1))
    with pytest.raises(SettingsError, match="9 is too large"):
        await app.start()
