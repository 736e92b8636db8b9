"""The learning half of the demo: the commands that an operator would type, one after another.

`odonata dataset build`, `odonata train --promote`, and then it waits until the running scheduler
has taken the model up by itself. Nothing of training is imported here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from odonata.errors import OdonataError, UnavailableError
from odonata.swarm.plan import IP, SwarmPlan
from odonata.wire.message import Value

TAKE_UP_TIMEOUT_S = 30.0  # the scheduler looks every half second; loading takes about one
POLL_S = 0.2
COMMAND_TIMEOUT_S = 180.0  # imports of the learning stack alone take 10 s on a busy machine


class Learned(Value, frozen=True, kw_only=True):
    """What came of the training: who is in service now, and what the evaluation said."""

    version: str
    decisions: int
    figures: list[dict[str, Any]]
    """What the evaluation found on decisions that were not trained on."""

    def regret(self) -> dict[str, float]:
        """Regret of the first choice by ranker, on held-out hosts; empty if there is too little."""
        return {
            figure["ranker"]: figure["value"]["mean"]
            for figure in self.figures
            if (figure["part"], figure["slice"], figure["metric"]) == ("hosts", "all", "regret@1")
        }


class Learning:
    """Folders and commands. Everything lies below `folder` and stays there."""

    def __init__(self, console: Console, folder: Path, plan: SwarmPlan) -> None:
        self._console = console
        self._folder = folder
        self._plan = plan

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps runs and models."""
        return f"sqlite:///{self._folder / 'mlflow.db'}"

    @property
    def dataset(self) -> Path:
        """The data set built from the telemetry."""
        return self._folder / "dataset"

    async def learn(self) -> Learned:
        """Build the data set, train, promote, and wait for the scheduler.

        UnavailableError if any of it fails.
        """
        telemetry = str(self._plan.telemetry)
        card = await self._command(
            ["dataset", "build", telemetry, "--out", str(self.dataset), "--json"]
        )
        trained = await self._command(
            [
                "train",
                str(self.dataset),
                "--tracking-uri",
                self.tracking_uri,
                "--place",
                str(self._plan.models),
                "--promote",
                "--force",  # the demo shows whichever wins
                "--json",
            ]
        )
        version = str(trained["version"])
        await self._taken_up(version)
        return Learned(
            version=version,
            decisions=int(card["decisions"]["kept"]),
            figures=trained["evaluation"]["figures"],
        )

    async def _command(self, words: Sequence[str]) -> dict[str, Any]:
        program = Path(sys.executable).with_name("odonata")
        self._console.print(f"[grey70]$ odonata {' '.join(words[:2])} …[/]", highlight=False)
        process = await asyncio.create_subprocess_exec(
            str(program),
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise UnavailableError(
                f"odonata {words[0]} took more than {COMMAND_TIMEOUT_S:.0f} s"
            ) from None
        if process.returncode != 0:
            raise UnavailableError(f"odonata {words[0]} failed: {err.decode().strip()}")
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def _taken_up(self, version: str) -> None:
        url = f"http://{IP}:{self._plan.scheduler.status_port}/model"
        try:
            async with asyncio.timeout(TAKE_UP_TIMEOUT_S), aiohttp.ClientSession() as session:
                while (await _model(session, url)).get("version") != version:  # noqa: ASYNC110  # a page can only be asked again
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise UnavailableError(
                f"the scheduler did not take model {version} up within {TAKE_UP_TIMEOUT_S:.0f} s"
            ) from None


async def _model(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    try:
        async with session.get(url) as response:
            answer: dict[str, Any] = await response.json()
    except (aiohttp.ClientError, ValueError) as error:
        raise OdonataError(f"the scheduler's status page does not answer: {error}") from error
    return answer
