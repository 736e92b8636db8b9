"""A scheduler with a model and a status page, for tests: what it decides, what the page says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace
from support.eventually import eventually
from support.scheduler_client import PATIENCE_S, SchedulerClient, host, piece, settings

from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    NeedBackToSource,
    NormalTask,
    PieceBackToSourceFinished,
    PieceFinished,
    Started,
    TrafficType,
)
from scheduler.core.story import Decision
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import MetricsSettings, ModelSettings, SchedulerSettings, SchedulingSettings


def watching(
    place: Path, *, algorithm: str = "default", budget_s: float = 5.0
) -> SchedulerSettings:
    """A scheduler that looks at `place` all the time, with a page on any port.

    Its time budget is no test of how busy this machine is. It does not explore.
    """
    return settings().model_copy(
        update={
            "scheduler": SchedulingSettings.model_validate(
                {"algorithm": algorithm, "exploration": 0.0}
            ),
            "model": ModelSettings(dir=place, check_interval_s=0.01, budget_s=budget_s),
            "metrics": MetricsSettings(enable=True, addr="127.0.0.1:0"),
        }
    )


class Swarm:
    """Children that come one after the other, each with a host of its own.

    The first one fetches from the source; from then on each is given parents, and reports a piece
    of one of them, so that something is known of its speed.
    """

    def __init__(self, app: SchedulerApp, client: SchedulerClient) -> None:
        self._app = app
        self._client = client
        self._count = 0

    async def begin(self) -> None:
        """A first peer holds everything, and has served a second one."""
        await self._client.announce(host("first", "127.0.0.2"))
        peer = self._client.peer("first", "first-peer")
        await peer.register(need_back_to_source=True)
        assert isinstance(await peer.answer(), NeedBackToSource)
        await peer.send(BackToSourceStarted())
        for number in range(4):
            fetched = replace(piece(number), traffic_type=TrafficType.BACK_TO_SOURCE)
            await peer.send(PieceBackToSourceFinished(piece=fetched))
        await peer.send(BackToSourceFinished())
        await peer.end()
        await self.decide()

    async def decide(self) -> Decision:
        """One more child is given parents: the decision, as the scheduler tells it."""
        self._count += 1
        name = f"child-{self._count}"
        await self._client.announce(host(name, "127.0.0.3", 4000 + self._count))
        child = self._client.peer(name, f"{name}-peer")
        await child.register()
        answer = await child.answer()
        assert isinstance(answer, NormalTask)
        await child.send(Started(), PieceFinished(piece=piece(0, "first-peer")))
        await eventually(lambda: self._app.core.stat_peer(child.peer_id).finished_pieces)
        child.call.cancel()
        (decision,) = self._app.core.explain(child_id=f"{name}-peer")
        return decision


async def page(app: SchedulerApp, path: str) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of a page."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://{app.status_page.address}{path}") as response,
    ):
        return response.status, await response.read(), dict(response.headers)


async def json_page(app: SchedulerApp, path: str) -> Any:
    """A page that must be there, decoded."""
    status, body, headers = await page(app, path)
    assert status == 200, body
    assert headers["Content-Type"].startswith("application/json")
    return json.loads(body)


async def metric(app: SchedulerApp, line: str) -> float:
    """The value of a metric, by its name with labels as the page writes them; 0 if absent."""
    _, body, _ = await page(app, "/metrics")
    for found in body.decode().splitlines():
        name, _, value = found.rpartition(" ")
        if name == line:
            return float(value)
    return 0.0
