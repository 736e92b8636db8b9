"""The page beside the gRPC service, and `odonata explain`, which asks it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families
from support.ranker_bundle import published
from support.scheduler_client import TASK, connected
from support.scheduler_page import Swarm, json_page, page, watching

from odonata.cli import root
from odonata.errors import OdonataError, SettingsError, UnavailableError
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.explain_page import DECISION_LIMIT
from scheduler.runtime.status_page import is_loopback
from scheduler.settings import MetricsSettings, SchedulerSettings

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def running(settings: SchedulerSettings) -> AsyncGenerator[tuple[SchedulerApp, Swarm]]:
    async with (
        SchedulerApp(settings, Random(1)) as app,
        connected(app.address) as client,
    ):
        swarm = Swarm(app, client)
        await swarm.begin()
        yield app, swarm


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[SchedulerApp]:
    published(tmp_path / "place", "1")
    async with running(watching(tmp_path / "place")) as (app, swarm):
        await swarm.decide()
        yield app


async def explain(app: SchedulerApp, *arguments: str) -> Result:
    """Run the command in a thread: the scheduler answers meanwhile."""
    words = ["explain", "--scheduler-status", f"http://{app.status_page.address}", *arguments]
    return await asyncio.to_thread(CliRunner().invoke, root, words)


async def test_metrics_are_in_the_form_that_prometheus_reads(app: SchedulerApp) -> None:
    status, body, headers = await page(app, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    families = {one.name: one for one in text_string_to_metric_families(body.decode())}
    prefixes = ("odonata_scheduler_", "dragonfly_scheduler_")
    assert all(name.startswith(prefixes) for name in families)
    values = {
        (
            sample.name.removeprefix("odonata_scheduler_"),
            *sorted(sample.labels.values()),
        ): sample.value
        for one in families.values()
        for sample in one.samples
    }
    assert values["decisions_total", "", "learned", "parents"] == 1
    assert values["decisions_total", "parents", "rule", "unknown"] == 1
    assert values["fallbacks_total", "unknown"] == 1
    assert values["hosts", "normal"] == 3
    assert values["hosts", "seed"] == 0
    assert values["tasks",] == 1
    assert values["model_loaded",] == 1
    assert values["model_info", "1", "parent-ranker"] == 1
    assert values["hosts_by_standing", "good"] == 3
    assert values["evictions_total",] == values["readmissions_total",] == 0
    assert values["telemetry_records_total", "written"] == 0
    assert values["ranking_seconds_count",] == 2
    assert ("model_age_seconds",) in values
    assert ("streams",) in values
    assert ("peers",) in values


async def test_it_says_that_it_lives(app: SchedulerApp) -> None:
    assert (await page(app, "/healthz"))[:2] == (200, b"ok\n")
    assert (await page(app, "/nothing"))[0] == 404


async def test_the_model_page_shows_its_card(app: SchedulerApp) -> None:
    report = await json_page(app, "/model")
    assert (report["loaded"], report["version"], report["reason"]) == (True, "1", "")
    assert report["card"] == {"rows": 320, "about": "a toy"}
    assert report["by_model_count"] == 1
    assert set(report["files"]) == {"model.txt", "goodput.txt"}


async def test_a_decision_is_explained_with_its_candidates_and_features(app: SchedulerApp) -> None:
    answer = await json_page(app, "/explain?peer=child-2-peer")
    (decision,) = answer["decisions"]
    assert not answer["more"]
    assert decision["task_id"] == TASK
    assert (decision["ranked_by"], decision["model_version"]) == ("learned", "1")
    first = decision["candidates"][0]
    assert first["peer_id"] == "first-peer"
    assert first["features"]["children"] >= 0
    assert first["features"]["child_speed_to_swarm"] is None  # nobody knows
    by_task = (await json_page(app, f"/explain?task={TASK}"))["decisions"]
    assert decision in by_task
    assert [one["at_s"] for one in by_task] == sorted(one["at_s"] for one in by_task)


async def test_of_many_decisions_the_latest_are_told(tmp_path: Path) -> None:
    async with running(watching(tmp_path)) as (app, swarm):
        decisions = [await swarm.decide() for _ in range(DECISION_LIMIT + 5)]
        answer = await json_page(app, f"/explain?task={TASK}")
        assert len(answer["decisions"]) == DECISION_LIMIT
        assert answer["more"]
        assert answer["decisions"][-1]["child_id"] == decisions[-1].child_id


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "say which"),
        ("?peer=a&task=b", 400, "say which"),
        ("?peer=", 400, "say which"),
        ("?host=a", 400, "say which"),
        (f"?peer={'a' * 257}", 400, "say which"),
        ("?peer=nobody", 404, "no decision about peer nobody is remembered"),
        ("?task=nothing", 404, "no decision about task nothing is remembered"),
    ],
)
async def test_bad_questions_are_answered_in_words(
    app: SchedulerApp, query: str, status: int, words: str
) -> None:
    found, body, _ = await page(app, f"/explain{query}")
    assert found == status
    assert words in json.loads(body)["error"]


class Wire(asyncio.Transport):
    """A connection from somewhere."""

    def __init__(self, remote: str) -> None:
        super().__init__({"peername": (remote, 1234)})


@pytest.mark.parametrize("remotely", [False, True])
async def test_ids_are_told_to_this_machine_alone(tmp_path: Path, remotely: bool) -> None:
    told = MetricsSettings(explain_remotely=remotely)
    settings = watching(tmp_path).model_copy(update={"metrics": told})
    async with SchedulerApp(settings, Random(1)) as app:
        pages = app.status_page.app()
        statuses: list[int] = []
        for path in ("/explain?peer=a", "/model", "/hosts", "/metrics", "/healthz"):
            request = make_mocked_request("GET", path, transport=Wire("192.0.2.7"))
            handler = (await pages.router.resolve(request)).handler
            try:
                statuses.append((await handler(request)).status)
            except OdonataError as error:
                statuses.append(error.http_status)
    assert statuses == ([404, 200, 200, 200, 200] if remotely else [403, 403, 403, 200, 200])


@pytest.mark.parametrize(
    ("remote", "near"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.7", False),
        ("192.0.2.7", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_what_is_near(remote: str, near: bool) -> None:
    assert is_loopback(remote) is near


async def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    settings = watching(tmp_path).model_copy(update={"metrics": MetricsSettings()})
    async with SchedulerApp(settings, Random(1)) as app:
        assert app.status_page.address == ""


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = MetricsSettings(enable=True, addr=f"127.0.0.1:{port}")
        settings = watching(tmp_path).model_copy(update={"metrics": taken})
        with pytest.raises(UnavailableError, match=rf"port {port} .* choose another metrics\.addr"):
            await SchedulerApp(settings, Random(1)).start()
    foreign = MetricsSettings(enable=True, addr="192.0.2.1:0")
    settings = watching(tmp_path).model_copy(update={"metrics": foreign})
    with pytest.raises(SettingsError, match="is not an address of this machine"):
        await SchedulerApp(settings, Random(1)).start()


# --- the command ----------------------------------------------------------------------------------


async def test_explain_shows_who_ranked_the_candidates_and_their_features(
    app: SchedulerApp,
) -> None:
    for arguments in (("child-2-peer",), ("--peer", "child-2-peer")):
        done = await explain(app, *arguments)
        assert done.exit_code == 0, done.output
        for words in (
            "learned, model 1",
            "first-peer",
            "chosen",
            "served_to_swarm",
            "child-2-peer",
        ):
            assert words in done.output
    done = await explain(app, TASK, "--last", "2")
    assert "The latest 2 decisions" in done.output
    assert done.output.count("  child   ") == 2


async def test_explain_says_why_the_model_did_not_rank(app: SchedulerApp) -> None:
    done = await explain(app, "child-1-peer")
    assert "rule instead of learned (unknown: next to nothing is known" in done.output
    done = await explain(app, "first-peer")
    assert "nobody: there was nothing to rank" in done.output


async def test_explain_takes_the_beginning_of_an_id(app: SchedulerApp) -> None:
    done = await explain(app, "child-2")
    assert done.exit_code == 0, done.output
    assert "  child   child-2-peer" in done.output
    done = await explain(app, TASK[:8], "--last", "1")
    assert f"  task    {TASK}" in done.output
    done = await explain(app, "child-")
    assert done.exit_code == 2
    assert "child- is the beginning of child-1-peer, child-2-peer: say more" in done.output


async def test_explain_as_json(app: SchedulerApp) -> None:
    done = await explain(app, "--json", "--task", TASK)
    decisions = json.loads(done.output)["decisions"]
    assert len(decisions) == 3
    assert decisions[-1]["ranked_by"] == "learned"


async def test_explain_of_nobody_is_one_clear_line(app: SchedulerApp) -> None:
    for arguments, words in (
        (("nobody",), "no decision about a peer or task nobody is remembered"),
        (("--peer", TASK), f"no decision about peer {TASK} is remembered"),
        (("--task", "child-1-peer"), "no decision about task child-1-peer is remembered"),
    ):
        done = await explain(app, *arguments)
        assert done.exit_code == 1
        assert words in done.output
        assert len(done.output.splitlines()) == 1


def explain_in_vain(url: str) -> Result:
    return CliRunner().invoke(root, ["explain", "--scheduler-status", url, "somebody"])


def test_explain_where_nobody_listens() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        done = explain_in_vain(url)
    assert done.exit_code == 1
    assert f"no scheduler's page answers at {url}" in done.output
    assert "metrics.enable" in done.output


def test_explain_of_no_url() -> None:
    done = explain_in_vain("file:///etc/passwd")
    assert done.exit_code == 2
    assert "is no URL" in done.output


@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(text="hello"),
        lambda: web.Response(text="hello", status=404),
        lambda: web.json_response([1, 2]),
        lambda: web.json_response({"nothing": 1}, status=500),
    ],
)
async def test_explain_where_somebody_else_listens(response: Any) -> None:
    async def answer(_request: web.Request) -> web.Response:
        made: web.Response = response()
        return made

    app = web.Application()
    app.router.add_get("/explain", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        done = await asyncio.to_thread(explain_in_vain, url)
    finally:
        await runner.cleanup()
    assert done.exit_code == 1
    assert "is no scheduler's status page" in done.output


# --- what the process imports ---------------------------------------------------------------------

PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sorted({name.partition(".")[0] for name in sys.modules})))
from odonata.cli import root
root(prog_name="odonata")
"""
NEVER = {"mlflow", "pandas", "lightgbm", "scipy", "sklearn", "pyarrow", "matplotlib", "dask"}


class ProcessApp:
    """What `page` needs to know of a scheduler in another process."""

    def __init__(self, address: str) -> None:
        self.status_page = type("Page", (), {"address": address})()


def test_a_scheduler_with_a_loaded_model_imports_nothing_of_the_learning_stack(
    tmp_path: Path,
) -> None:
    published(tmp_path / "place", "1")
    words = [
        "scheduler", "--listen-ip=127.0.0.1", "--port=0", "--log-format=json",
        f"--set=model.dir={tmp_path / 'place'}", "--set=metrics.enable=true",
        "--set=metrics.addr=127.0.0.1:0", "--set=telemetry.enable=false",
    ]  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODONATA_")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        try:
            lines = [json.loads(process.stderr.readline()) for _ in range(3)]
            opened = {line["event"]: line for line in lines}
            assert set(opened) == {"model_loaded", "scheduler_started", "status_page_opened"}
            app: Any = ProcessApp(opened["status_page_opened"]["address"])
            report = asyncio.run(json_page(app, "/model"))
            assert (report["loaded"], report["version"]) == (True, "1")
        finally:
            process.terminate()
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    imported = set(out.split())
    assert {"scheduler", "models", "numpy", "grpc"} <= imported
    assert not imported & NEVER
