"""Files and folders of files ahead of time, and who holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs
from support.content import MIB, make_content
from support.daemon import PATIENCE_S, get
from support.eventually import eventually
from support.fake_seed import FakeSeed, serving_seed
from support.origin import Manners, Origin
from support.scheduler_client import connected, host, settings
from support.scheduler_page import metric
from support.source_world import S3World

from odonata.errors import (
    DiskFullError,
    NotFoundError,
    OdonataError,
    SourceError,
    UnavailableError,
)
from odonata.ids import url_task_id
from odonata.wire.dragonfly import download_to_wire
from odonata.wire.dragonfly.origin import object_storage_to_wire
from odonata.wire.message import Download, Register
from peer.runtime.daemon import Daemon
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.preheat_job import JOBS_MAX
from scheduler.settings import MetricsSettings

CONTENT = make_content(5 * MIB)


class Lister:
    """What a seed knows of object storage: `folders` is what it lists, by URL."""

    def __init__(self) -> None:
        self.folders: dict[str, list[dfdaemon_pb2.Entry]] = {}
        self.listed: list[dfdaemon_pb2.ListTaskEntriesRequest] = []
        self.error: OdonataError | None = None

    async def ListTaskEntries(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.ListTaskEntriesRequest, _context: Any
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        self.listed.append(request)
        if self.error is not None:
            raise self.error
        return dfdaemon_pb2.ListTaskEntriesResponse(entries=self.folders.get(request.url, []))


def entry(url: str, *, is_dir: bool = False) -> dfdaemon_pb2.Entry:
    return dfdaemon_pb2.Entry(url=url, is_dir=is_dir)


@asynccontextmanager
async def listing_seed(app: SchedulerApp) -> AsyncGenerator[tuple[FakeSeed, Lister]]:
    lister = Lister()
    async with (
        serving_seed("lister", "127.0.0.9", 0, lister) as seed,
        connected(app.address) as client,
    ):
        seed.reach_source.set()
        seed.finish.set()
        await client.announce(seed.host)
        yield seed, lister


async def preheat(app: SchedulerApp, stub: Any, url: str, **more: Any) -> None:
    request = scheduler_pb2.PreheatFileRequest(url=url, **more)
    await stub.PreheatFile(request, timeout=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        await app.preheats.wait()


async def stat(stub: Any, url: str, **more: Any) -> dict[str, dict[str, bool]]:
    request = scheduler_pb2.StatFileRequest(url=url, **more)
    answer = await stub.StatFile(request, timeout=PATIENCE_S)
    return {
        peer.hostname: {file.url: file.is_finished for file in peer.cached_files}
        for peer in answer.peers
    }


@pytest.mark.parametrize(
    "naming",
    [
        {},
        {"tag": "t", "application": "a"},
        {"piece_length": 8 * MIB},
        {"filtered_query_params": ["sig"], "tag": "t"},
    ],
    ids=["plain", "tag and application", "piece length", "filtered parameters"],
)
async def test_a_download_of_the_same_name_asks_the_source_for_nothing(
    app: SchedulerApp,
    stub: Any,
    seed: Daemon,
    peer: Daemon,
    tmp_path: Path,
    naming: dict[str, Any],
) -> None:
    async with Origin() as origin:
        url = origin.add("/file", CONTENT)
        signed = "?sig=" if "filtered_query_params" in naming else ""
        await preheat(app, stub, f"{url}{signed}{'one' if signed else ''}", **naming)
        assert app.preheats.counts.jobs == {("file", "success"): 1}
        assert origin.copies("/file") == 1
        wanted = f"{url}{signed}{'two' if signed else ''}"
        fields = dict(naming)
        if "filtered_query_params" in fields:
            fields["filtered_query_params"] = tuple(naming["filtered_query_params"])
        output = await get(peer, wanted, tmp_path / "out", **fields)
        assert output.read_bytes() == CONTENT
        assert origin.copies("/file") == 1
        assert set(await stat(stub, wanted, **naming)) == {"host2", "host3"}
        assert await stat(stub, f"{url}-other", **naming) == {}


async def test_headers_reach_the_source(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    async with Origin() as origin:
        url = origin.add("/file", CONTENT, Manners(wants_header=("x-key", "secret")))
        await preheat(app, stub, url, header={"x-key": "secret"})
        assert app.preheats.counts.jobs == {("file", "success"): 1}
        await preheat(app, stub, url, tag="another")
        assert app.preheats.counts.jobs[("file", "failure")] == 1


async def test_a_source_that_refuses_is_asked_once_not_by_every_seed(
    app: SchedulerApp, stub: Any, seed: Daemon
) -> None:
    async with Origin() as origin, listing_seed(app):
        url = origin.url("/nothing")
        for number in range(8):  # whichever seed the ring names
            await preheat(app, stub, f"{url}{number}")
        counts = app.preheats.counts
        assert counts.jobs[("file", "failure")] + counts.fetches["success"] == 8
        assert counts.fetches["failure"] == counts.jobs[("file", "failure")]


async def test_a_folder_is_listed_with_all_below_it(app: SchedulerApp, stub: Any) -> None:
    async with listing_seed(app) as (seed, lister):
        base = "s3://bucket/model/"
        lister.folders = {
            base: [entry(f"{base}a"), entry(f"{base}sub", is_dir=True), entry(base, is_dir=True)],
            f"{base}sub/": [entry(f"{base}sub/b"), entry(f"{base}sub/c")],
        }
        storage = common_pb2.ObjectStorage(access_key_id="id", access_key_secret="key")
        await preheat(
            app,
            stub,
            base,
            object_storage=storage,
            output_path="/models/",
            certificate_chain=[b"der"],
            priority=5,
        )
        assert app.preheats.counts.jobs == {("file", "success"): 1}
        assert [one.url for one in lister.listed] == [base, f"{base}sub/"]
        assert all(one.object_storage == storage for one in lister.listed)
        assert all(one.certificate_chain == [b"der"] for one in lister.listed)
        asked = sorted(seed.triggers, key=lambda one: one.url)
        assert [(one.url, one.output_path) for one in asked] == [
            (f"{base}a", "/models/a"),
            (f"{base}sub/b", "/models/sub/b"),
            (f"{base}sub/c", "/models/sub/c"),
        ]
        wire = download_to_wire(asked[0])
        assert wire.object_storage == storage
        assert wire.certificate_chain == [b"der"]
        assert wire.priority == common_pb2.LEVEL5
        assert (asked[0].always_schedule, asked[0].need_back_to_source) == (True, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("no such bucket"), grpc.StatusCode.NOT_FOUND),
        (UnavailableError("no room"), grpc.StatusCode.UNAVAILABLE),
        (None, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_a_folder_that_can_not_be_listed_is_the_callers_answer(
    app: SchedulerApp, stub: Any, error: OdonataError | None, code: grpc.StatusCode
) -> None:
    async with listing_seed(app) as (_, lister):
        lister.error = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await preheat(app, stub, "s3://bucket/empty/")
        assert caught.value.code() is code


async def test_a_listing_to_the_depth_is_asked_for_once(app: SchedulerApp, stub: Any) -> None:
    async with listing_seed(app) as (seed, lister):
        base = "s3://bucket/model/"
        lister.folders = {
            base: [
                entry(f"{base}a"),
                entry(f"{base}sub/", is_dir=True),
                entry(f"{base}sub/b"),
                entry(f"{base}sub/below/", is_dir=True),
                entry(f"{base}sub/below/c"),
            ]
        }
        await preheat(app, stub, base)
        assert [one.url for one in lister.listed] == [base]
        assert sorted(one.url for one in seed.triggers) == [
            f"{base}a",
            f"{base}sub/b",
            f"{base}sub/below/c",
        ]


async def test_a_folder_of_a_store_is_preheated_by_a_seed_of_ours(
    app: SchedulerApp, stub: Any, seed: Daemon, peer: Daemon, tmp_path: Path
) -> None:
    contents = {
        "model/weights one.bin": CONTENT,
        "model/sub/config.json": b"{}",
        "other/not this": b"no",
    }
    async with S3World(tmp_path) as world:
        await world.fill(contents)
        storage = object_storage_to_wire(world.options.storage)
        await preheat(app, stub, world.url("model/"), object_storage=storage)
        assert app.preheats.counts.jobs == {("file", "success"): 1}
        wanted = {world.url(path) for path in contents if path.startswith("model/")}
        for url in wanted:
            assert set(await stat(stub, url, object_storage=storage)) == {"host2"}
        assert await stat(stub, world.url("other/not this"), object_storage=storage) == {}
        listed = await stat(stub, world.url("model/"), object_storage=storage)
        assert listed == {"host2": dict.fromkeys(wanted, True)}
        # Without credentials a peer gets it from the seed alone.
        url = world.url("model/weights one.bin")
        output = await get(peer, url, tmp_path / "out", disable_back_to_source=True)
        assert output.read_bytes() == CONTENT


async def test_a_folder_of_a_web_server_can_not_be_listed(
    app: SchedulerApp, stub: Any, seed: Daemon
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await preheat(app, stub, "http://origin.test/folder/")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "http or https folder can't be listed" in (caught.value.details() or "")


async def test_stopping_the_scheduler_ends_its_preheats(stub: Any, app: SchedulerApp) -> None:
    async with listing_seed(app) as (seed, _):
        seed.finish.clear()
        await stub.PreheatFile(
            scheduler_pb2.PreheatFileRequest(url="http://origin.test/f"), timeout=PATIENCE_S
        )
        await asyncio.wait_for(seed.triggered.wait(), PATIENCE_S)
        await app.stop()
        await asyncio.wait_for(seed.cancelled.wait(), PATIENCE_S)
    assert app.preheats.counts.jobs == {("file", "failure"): 1}


async def test_the_ring_of_pulls_names_the_seed(app: SchedulerApp, stub: Any) -> None:
    url = "http://origin.test/some/file"
    async with (
        listing_seed(app) as (first, _),
        serving_seed("second", "127.0.0.10") as second,
        connected(app.address) as client,
    ):
        second.reach_source.set()
        second.finish.set()
        await client.announce(second.host)
        await preheat(app, stub, url)
        (asked,) = [one for one in (first, second) if one.triggers]
        # A child that finds nobody has the same seed triggered.
        await client.announce(host("child", "127.0.0.11"))
        child = client.peer("child", "child-peer", url_task_id(url))
        await child.send(Register(download=Download(url=url)))
        await eventually(lambda: len(asked.triggers) == 2)
        child.call.cancel()


@pytest.mark.parametrize(
    ("error", "tries"),
    [(DiskFullError("no space left"), 2), (SourceError("not here", status_code=404), 1)],
    ids=["the seed's own trouble", "the source's answer"],
)
async def test_the_next_seed_is_asked_unless_it_would_hear_the_same(
    app: SchedulerApp, stub: Any, error: OdonataError, tries: int
) -> None:
    async with (
        serving_seed("one", "127.0.0.9") as one,
        serving_seed("two", "127.0.0.10") as two,
        connected(app.address) as client,
    ):
        for seed in (one, two):
            seed.error = error
            await client.announce(seed.host)
        with capture_logs() as logs:
            await preheat(app, stub, "http://user:secret@origin.test/file?token=secret")
        assert len(one.triggers) + len(two.triggers) == tries
    assert app.preheats.counts.jobs == {("file", "failure"): 1}
    assert app.preheats.counts.fetches == {"failure": tries}
    (failed,) = [entry for entry in logs if entry["event"] == "preheat_failed"]
    assert error.detail in failed["reason"]
    assert "1 of 1 contents arrived nowhere" in failed["reason"]
    assert "secret" not in str(logs)


async def test_a_preheat_ends_when_its_time_is_over(app: SchedulerApp, stub: Any) -> None:
    async with listing_seed(app) as (seed, _):
        seed.finish.clear()
        with capture_logs() as logs:
            await preheat(app, stub, "http://origin.test/f", timeout=Duration(nanos=300_000_000))
        await asyncio.wait_for(seed.cancelled.wait(), PATIENCE_S)
    (failed,) = [entry for entry in logs if entry["event"] == "preheat_failed"]
    assert "did not finish within the 0.3 s that were left" in failed["reason"]
    assert app.preheats.counts.fetches == {"failure": 1}


async def test_there_is_a_greatest_number_of_preheats_at_a_time(
    app: SchedulerApp, stub: Any
) -> None:
    async with listing_seed(app) as (seed, _):
        seed.finish.clear()
        for number in range(JOBS_MAX):
            request = scheduler_pb2.PreheatFileRequest(url=f"http://origin.test/{number}")
            await stub.PreheatFile(request, timeout=PATIENCE_S)
        assert app.preheats.counts.running == JOBS_MAX
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await preheat(app, stub, "http://origin.test/one-more")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        seed.finish.set()
        async with asyncio.timeout(PATIENCE_S):
            await app.preheats.wait()
        await preheat(app, stub, "http://origin.test/one-more")
    assert app.preheats.counts.jobs == {("file", "success"): JOBS_MAX + 1}


async def test_monitoring_sees_jobs_and_fetches() -> None:
    metrics = MetricsSettings(enable=True, addr="127.0.0.1:0")
    async with (
        SchedulerApp(settings().model_copy(update={"metrics": metrics})) as app,
        connected(app.address) as client,
        listing_seed(app) as (seed, _),
    ):
        await preheat(app, client.stub, "http://origin.test/good")
        seed.error = SourceError("gone", status_code=410)
        await preheat(app, client.stub, "http://origin.test/bad")
        prefix = "odonata_scheduler_preheat"
        assert await metric(app, f'{prefix}s_total{{kind="file",result="success"}}') == 1
        assert await metric(app, f'{prefix}s_total{{kind="file",result="failure"}}') == 1
        assert await metric(app, f'{prefix}_fetches_total{{result="failure"}}') == 1
        assert await metric(app, f"{prefix}s_running") == 0
