"""`odonata host ls` and `host show`, and the page that they ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from io import StringIO
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from support.eventually import eventually
from support.scheduler_client import SchedulerClient, connected, host, piece
from support.scheduler_page import Swarm, json_page, metric, page, watching

from odonata.cli import root
from odonata.wire.message import NormalTask, PieceFailed, PieceFinished, Started
from scheduler.core.standing import FIRST_TERM_S, HostState
from scheduler.host_list import Hosts, ask_hosts, show_hosts
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.host_page import HOST_LIMIT

LONG_NAME = "a-node-with-a-name-of-forty-characters-x"


async def accuse(app: SchedulerApp, client: SchedulerClient, name: str, times: int) -> None:
    """A child on a host of its own gets a piece of first-peer, and blames it then so often."""
    await client.announce(host(name, "127.0.0.4", 4100))
    child = client.peer(name, f"{name}-peer")
    await child.register()
    answer = await child.answer()
    assert isinstance(answer, NormalTask)
    before = app.core.state.hosts["first"].upload_failed_count
    served = msgspec.structs.replace(piece(0, "first-peer"), cost_s=0.05)
    await child.send(Started(), PieceFinished(piece=served))
    await child.send(*[PieceFailed(parent_id="first-peer", temporary=True)] * times)
    await eventually(lambda: app.core.state.hosts["first"].upload_failed_count == before + times)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[SchedulerApp]:
    """Its host "first" is evicted; a seed with a place has announced itself."""
    settings = watching(tmp_path / "place", algorithm="rule")
    async with SchedulerApp(settings, Random(1)) as app, connected(app.address) as client:
        swarm = Swarm(app, client)
        await swarm.begin()
        await client.announce(host(LONG_NAME, "127.0.0.9", seed=True), interval_s=30.0)
        await accuse(app, client, "one", 2)
        await accuse(app, client, "two", 1)
        yield app


async def odonata(app: SchedulerApp, *words: str) -> Result:
    url = f"http://{app.status_page.address}"
    run = CliRunner().invoke
    return await asyncio.to_thread(run, root, ["host", *words, "--scheduler-status", url])


async def test_an_evicted_host_is_told_with_its_reason(app: SchedulerApp) -> None:
    told = {one["id"]: one for one in (await json_page(app, "/hosts"))["hosts"]}
    first = told["first"]
    assert first["standing"] == HostState.EVICTED
    assert first["why"] == "3 of 4 pieces in a row were bad: the last one failed"
    assert first["standing_until_s"] == pytest.approx(first["standing_since_s"] + FIRST_TERM_S)
    assert (first["eviction_count"], first["doubtful_eviction_count"]) == (1, 1)
    assert (first["task_count"], first["piece_count"]) == (1, 4)
    assert first["upload_failed_count"] == 3
    assert first["recent_failure_count"] == pytest.approx(3.0, abs=0.1)
    assert first["child_count"] == 0, "an evicted host loses its children"
    seed = told[LONG_NAME]
    assert (seed["is_seed"], seed["standing"], seed["standing_until_s"]) == (True, "Good", None)
    assert (seed["served_rate_bytes_per_s"], seed["announce_interval_s"]) == (None, 30.0)
    assert seed["standing_since_s"] <= seed["heard_at_s"]


async def test_evictions_are_metrics(app: SchedulerApp) -> None:
    assert await metric(app, "odonata_scheduler_evictions_total") == 1
    assert await metric(app, "odonata_scheduler_doubtful_evictions_total") == 1
    assert await metric(app, "odonata_scheduler_readmissions_total") == 0
    assert await metric(app, 'odonata_scheduler_hosts_by_standing{standing="evicted"}') == 1


async def test_the_list_is_for_people(app: SchedulerApp) -> None:
    done = await odonata(app, "ls")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith("first ")]
    assert "Evicted" in lines[number]
    assert number < min(n for n, line in enumerate(lines) if "Good" in line)
    (story,) = [line for line in lines if line.startswith("first: Evicted for ")]
    assert story.endswith("to go; 3 of 4 pieces in a row were bad: the last one failed")
    assert lines[-1] == "5 hosts, 1 of them seeds; evicted once, 1 of them doubtfully"


@pytest.mark.parametrize("width", [80, 120])
async def test_the_table_fits_the_terminal(app: SchedulerApp, width: int) -> None:
    found: Hosts = await asyncio.to_thread(ask_hosts, f"http://{app.status_page.address}")
    out = StringIO()
    show_hosts(Console(width=width, file=out), found)
    table = out.getvalue().partition("first: Evicted")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table, "nothing is cut"
    assert ("location" in table) == (width == 120)
    holds = "holds" if width == 80 else "pieces/tasks"
    heads = ("host", "kind", "standing", "children", "rate", "failed", holds, "heard")
    assert set(heads) <= set(table.splitlines()[0].split())


async def test_the_list_is_for_machines(app: SchedulerApp) -> None:
    done = await odonata(app, "ls", "--json")
    told = json.loads(done.output)
    assert told["total_count"] == 5
    assert told["hosts"][0]["id"] == "first"
    assert {one["standing"] for one in told["hosts"][1:]} == {"Good"}


async def test_one_host_by_the_beginning_of_its_id(app: SchedulerApp) -> None:
    done = await odonata(app, "show", "fir")
    assert done.exit_code == 0, done.output
    for line in (
        "host        first",
        "evicted for 3 of 4 pieces in a row were bad: the last one failed",
        "evictions   1, 1 of them doubtful",
        "holds       4 pieces of 1 tasks",
    ):
        assert line in done.output.splitlines()
    told = json.loads((await odonata(app, "show", "first", "--json")).output)
    assert told["standing"] == "Evicted"
    done = await odonata(app, "show", "nobody")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "no host nobody is known" in done.output


async def test_hosts_come_page_by_page(app: SchedulerApp) -> None:
    first = await json_page(app, "/hosts?limit=3")
    second = await json_page(app, "/hosts?offset=3&limit=3")
    ids = [one["id"] for answer in (first, second) for one in answer["hosts"]]
    assert ids == ["first", "child-1", LONG_NAME, "one", "two"]
    assert first["total_count"] == second["total_count"] == 5
    for query, words in (
        ("offset=-1", "offset '-1' is no number"),
        ("limit=x", "limit 'x' is no number"),
        ("host=a", "host is no question of /hosts"),
    ):
        status, body, _ = await page(app, f"/hosts?{query}")
        assert (status, words in body.decode()) == (400, True), body


async def test_more_hosts_than_a_page_holds(tmp_path: Path) -> None:
    settings = watching(tmp_path / "place", algorithm="rule")
    count = HOST_LIMIT + 5
    async with SchedulerApp(settings, Random(1)) as app:
        for number in range(count):
            app.core.state.announce(host(f"h{number}", "127.0.0.2"), 0.0, app.executor.now)
        assert len((await json_page(app, "/hosts?limit=999999"))["hosts"]) == HOST_LIMIT
        found: Hosts = await asyncio.to_thread(ask_hosts, f"http://{app.status_page.address}")
    assert len(found.hosts) == found.total_count == count


def test_without_a_page_the_way_is_shown() -> None:
    done = CliRunner().invoke(root, ["host", "ls", "--scheduler-status", "http://127.0.0.1:1"])
    assert done.exit_code == 1
    assert "--set metrics.enable=true" in done.output
