"""What a scheduler's page says after a conversation, under Dragonfly's names."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import grpc
import pytest
from dragonfly_api import scheduler_pb2
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from support.eventually import eventually
from support.scheduler_client import SchedulerClient, connected, host
from support.scheduler_page import Swarm, page, watching

from odonata.wire.message import Failed, PieceFailed, Started
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.rpc_metrics import RPC_NAMES
from scheduler.settings import MetricsSettings

NORMAL = '{host_type="normal",priority="LEVEL0",task_type="STANDARD"}'
TWINS = (
    "announce_peer", "stat_peer", "leave_peer", "register_peer", "download_peer_started",
    "download_peer_back_to_source_started", "download_peer_finished", "download_piece_finished",
    "stat_task", "leave_task", "announce_host", "list_hosts", "leave_host", "preheat_image",
    "stat_image", "preheat_file", "stat_file",
)  # fmt: skip
ONLY_FAILURES = (
    "download_peer_back_to_source_finished",
    "download_piece_back_to_source_finished",
)


async def values(app: SchedulerApp) -> dict[str, float]:
    """Every line of the page, by name and labels; dragonfly_scheduler_ left out."""
    _, body, _ = await page(app, "/metrics")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    split = (line.rpartition(" ") for line in lines)
    return {name.removeprefix("dragonfly_scheduler_"): float(value) for name, _, value in split}


def running(tmp_path: Path, **metrics: bool) -> SchedulerApp:
    settings = watching(tmp_path / "place", algorithm="rule")
    told = MetricsSettings(enable=True, addr="127.0.0.1:0", **metrics)
    return SchedulerApp(settings.model_copy(update={"metrics": told}), Random(1))


async def test_after_a_conversation_each_counter_says_what_happened(tmp_path: Path) -> None:
    async with running(tmp_path, enable_host=True) as app, connected(app.address) as client:
        swarm = Swarm(app, client)
        await swarm.begin()  # one from the source, one from it
        await client.stat_task()
        child = client.peer("first", "failing-peer")
        await child.register()
        await child.answer()
        await child.send(Started(), PieceFailed(parent_id="child-1-peer", temporary=True), Failed())
        await child.end()
        found = await values(app)
    labels = NORMAL
    for name, value in {
        "announce_peer_total": 3,
        "announce_peer_failure_total": 1,  # child-1 cancelled its stream
        "stat_task_total": 1,
        "stat_task_failure_total": 0,
        f"register_peer_total{labels}": 3,
        f"register_peer_failure_total{labels}": 0,
        f"download_peer_started_total{labels}": 2,
        f"download_peer_started_failure_total{labels}": 0,
        f"download_peer_back_to_source_started_total{labels}": 1,
        f"download_peer_finished_total{labels}": 1,
        f"download_peer_finished_failure_total{labels}": 1,
        f"download_peer_back_to_source_finished_failure_total{labels}": 0,
        "concurrent_schedule_total": 0,
        "schedule_duration_milliseconds_count": 3,
        'download_peer_duration_milliseconds_count{task_size_level="5"}': 1,
    }.items():
        assert found[name] == value, name
    piece = 4 * 1024 * 1024
    for traffic, pieces in (("BACK_TO_SOURCE", 4), ("REMOTE_PEER", 1), ("LOCAL_PEER", 0)):
        rest = 'host_type="normal",task_type="STANDARD"'
        of_piece = f'{{host_type="normal",task_type="STANDARD",traffic_type="{traffic}"}}'
        assert found[f"download_piece_finished_total{of_piece}"] == pieces
        assert found[f'traffic{{{rest},type="{traffic}"}}'] == piece * pieces
        failures = found[f"download_piece_finished_failure_total{of_piece}"]
        assert failures == (traffic == "REMOTE_PEER")
    given = {
        (way, host_id): found[
            f'host_traffic{{host_id="{host_id}",host_ip="{ip}",host_name="{host_id}",'
            f'host_type="normal",task_type="STANDARD",type="{way}"}}'
        ]
        for way, host_id, ip in (
            ("download", "first", "127.0.0.2"),
            ("upload", "first", "127.0.0.2"),
            ("download", "child-1", "127.0.0.3"),
        )
    }
    assert list(given.values()) == [4 * piece, piece, piece]
    assert found['schedule_duration_milliseconds{quantile="0.99"}'] > 0


async def expect_failures(client: SchedulerClient) -> None:
    """One call of each kind that fails."""
    stub, patience_s = client.stub, 20
    api = scheduler_pb2
    stranger = {"host_id": "h", "task_id": "b" * 64}
    for call in (
        stub.StatTask(api.StatTaskRequest(**stranger), timeout=patience_s),
        stub.StatPeer(api.StatPeerRequest(**stranger, peer_id="p"), timeout=patience_s),
        stub.DeleteTask(api.DeleteTaskRequest(), timeout=patience_s),
        stub.DeletePeer(api.DeletePeerRequest(), timeout=patience_s),
        stub.DeleteHost(api.DeleteHostRequest(), timeout=patience_s),
        stub.ListHosts(api.ListHostsRequest(type=7), timeout=patience_s),
        stub.AnnounceHost(api.AnnounceHostRequest(), timeout=patience_s),
        stub.AnnounceHost(
            api.AnnounceHostRequest(host={"os": "linux"}),
            timeout=patience_s,
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    unknown = client.peer("unknown-host", "p")
    await unknown.register()
    code, _ = await unknown.end()
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_call_that_fails_raises_its_twin(tmp_path: Path) -> None:
    async with running(tmp_path) as app, connected(app.address) as client:
        await expect_failures(client)
        await eventually(lambda: app.observation.rpcs.counts["AnnouncePeer"].failures)
        found = await values(app)
    for name in ("stat_task", "stat_peer", "leave_task", "leave_peer", "leave_host", "list_hosts"):
        assert (found[f"{name}_total"], found[f"{name}_failure_total"]) == (1, 1), name
    by_os: dict[str, float] = {}
    for key, value in found.items():
        if key.startswith("announce_host_failure_total"):
            by_os[key.partition('os="')[2].partition('"')[0]] = value
    assert by_os == {"": 1, "linux": 1}
    assert found[f"register_peer_failure_total{NORMAL}"] == 1
    assert found["announce_peer_failure_total"] == 1


async def test_an_rpc_that_is_not_there_is_a_failure_too(tmp_path: Path) -> None:
    async with running(tmp_path) as app, connected(app.address) as client:
        with pytest.raises(grpc.aio.AioRpcError):
            await client.stub.StatCachePeer(scheduler_pb2.StatCachePeerRequest(), timeout=20)
        found = await values(app)
    assert (found["stat_cache_peer_total"], found["stat_cache_peer_failure_total"]) == (1, 1)


async def test_all_names_of_dragonfly_are_there_from_the_start(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        _, body, _ = await page(app, "/metrics")
    heads = dict(re.findall(r"# TYPE dragonfly_scheduler_(\S+) (\S+)", body.decode()))
    wanted = {f"{name}_total" for name in (*TWINS, *RPC_NAMES.values())}
    wanted |= {f"{name}_failure_total" for name in (*TWINS, *ONLY_FAILURES, *RPC_NAMES.values())}
    wanted |= {"traffic"}
    assert {heads.get(name) for name in wanted} == {"counter"}, wanted - set(heads)
    assert heads["concurrent_schedule_total"] == heads["version"] == "gauge"
    assert heads["download_peer_duration_milliseconds"] == "summary"
    assert heads["schedule_duration_milliseconds"] == "summary"
    assert "host_traffic" not in heads
    assert not {f"{name}_total" for name in ONLY_FAILURES} & set(heads)
    families = {one.name for one in text_string_to_metric_families(body.decode())}
    assert "dragonfly_scheduler_traffic" in families


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 2)])
async def test_a_share_of_the_decisions_is_logged(tmp_path: Path, share: float, count: int) -> None:
    settings = watching(tmp_path / "place", algorithm="rule")
    scheduling = settings.scheduler.model_copy(update={"decision_log_share": share})
    chosen = settings.model_copy(update={"scheduler": scheduling})
    with capture_logs() as lines:
        async with SchedulerApp(chosen, Random(1)) as app, connected(app.address) as client:
            await Swarm(app, client).begin()
    logged = [line["decision_id"] for line in lines if line["event"] == "decision_sampled"]
    assert logged == ["first-peer#source1", "child-1-peer#1"][:count]


async def announce_often(client: SchedulerClient) -> None:
    """More often than once a second."""
    for _ in range(20):
        await client.announce(host("a", "127.0.0.2"))


async def test_calls_over_the_rate_are_counted_apart(tmp_path: Path) -> None:
    settings = watching(tmp_path / "place", algorithm="rule")
    server = settings.server.model_copy(update={"request_rate_limit": 1})
    limited = settings.model_copy(update={"server": server})
    async with SchedulerApp(limited, Random(1)) as app, connected(app.address) as client:
        await client.announce(host("a", "127.0.0.2"))
        with pytest.raises(grpc.aio.AioRpcError):
            await announce_often(client)
        found = await values(app)
    assert found["odonata_scheduler_refused_calls_total"] == 1
    assert not [key for key, value in found.items() if "announce_host_failure" in key and value]
