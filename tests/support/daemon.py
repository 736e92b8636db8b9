"""Real peer daemons in a test: in this process, or as processes that can be killed.

Each lives on an address of its own (127.0.0.N), all ports are the system's choice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from odonata.settings.loading import load
from odonata.telemetry.settings import TelemetrySettings
from odonata.wire.dragonfly import PieceArrived, download_request_to_wire, progress_from_wire
from odonata.wire.message import Download, Piece
from peer.get import get_file
from peer.runtime.daemon import Daemon
from peer.settings import DaemonSettings
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import SchedulerSettings, ServerSettings

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
"""Long enough for a loaded machine; a test that needs it has failed."""

MIB = 1024 * 1024
NO_TELEMETRY = TelemetrySettings(enable=False)
"""Or a test would write to the system's folder."""


def overrides(folder: Path, number: int, **more: Any) -> dict[str, Any]:
    """Settings of daemon `number`; `more` by dotted key with "__" for the dots."""
    ip = f"127.0.0.{number}"
    own = {
        "host.ip": ip,
        "host.hostname": f"host{number}",
        "storage.dir": str(folder / f"data{number}"),
        "download.server.socketPath": str(folder / f"run{number}" / "d.sock"),
        "upload.server.ip": ip,
        "upload.server.port": 0,
        "storage.server.ip": ip,
        "storage.server.tcpPort": 0,
        "proxy.server.ip": ip,
        "proxy.server.port": 0,
        "telemetry.dir": str(folder / "telemetry"),
        "telemetry.enable": False,
    }
    return own | {key.replace("__", "."): value for key, value in more.items()}


def settings(folder: Path, number: int, **more: Any) -> DaemonSettings:
    return load(DaemonSettings, overrides=overrides(folder, number, **more)).settings


@asynccontextmanager
async def scheduler(
    telemetry: TelemetrySettings = NO_TELEMETRY, **more: Any
) -> AsyncGenerator[SchedulerApp]:
    """A scheduler in this process; `more` as of `SchedulerApp`."""
    server = ServerSettings(listen_ip="127.0.0.1", port=0)
    async with SchedulerApp(SchedulerSettings(server=server, telemetry=telemetry), **more) as app:
        yield app


@asynccontextmanager
async def daemon(folder: Path, number: int, **more: Any) -> AsyncGenerator[Daemon]:
    """A daemon in this process."""
    async with Daemon(settings(folder, number, **more)) as one:
        yield one


async def get(one: Daemon | Path, url: str, output: Path, **fields: Any) -> Path:
    """What `odonata get` does, by the socket of a daemon. Raises OdonataError."""
    socket_path = one.socket_path if isinstance(one, Daemon) else one
    download = Download(url=url, output_path=str(output), **fields)
    async with asyncio.timeout(PATIENCE_S):
        await get_file(download, socket_path, quiet=True)
    return output


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Process:
    """`odonata ...` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, started: dict[str, Any]) -> None:
        self._process = process
        self.started = started
        """The event it says it started with."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def socket_path(self) -> Path:
        return Path(self.started["path"])

    async def drain(self) -> None:
        """Read and drop all it says until it ends: a full pipe would hold it up."""
        assert self._process.stderr is not None, "a pipe was asked for"
        while await self._process.stderr.read(MIB):
            pass

    @property
    def address(self) -> str:
        return str(self.started["address"])

    async def until(self, name: str) -> dict[str, Any]:
        """The next event of that name that it logs."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._process.stderr:
                event: dict[str, Any] = json.loads(line)
                if event["event"] == name:
                    return event
        raise AssertionError(f"it ended without {name}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def terminate(self) -> tuple[int, list[dict[str, Any]]]:
        """SIGTERM; the exit code and the events it logged."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            _, err = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, [json.loads(line) for line in err.splitlines()]


def command(*arguments: str) -> list[str]:
    """The console script, without being installed."""
    start = (
        "import click; from odonata.cli import CommandGroup\n"
        "import odonata.completion, peer.command, peer.doctor_command\n"
        "import peer.get_command, peer.task_command\n"
        "import scheduler.command\n"
        "class Group(CommandGroup):\n"
        "    def get_command(self, ctx, name):\n"
        "        return known[name]\n"
        "    def list_commands(self, ctx): return list(known)\n"
        "known = {'daemon': peer.command.daemon, 'get': peer.get_command.get,\n"
        "    'task': peer.task_command.task, 'doctor': peer.doctor_command.doctor,\n"
        "    'completion': odonata.completion.completion,\n"
        "    'preheat': scheduler.command.preheat, 'scheduler': scheduler.command.scheduler}\n"
        "click.group(cls=Group)(lambda: None).main(prog_name='odonata')\n"
    )
    return [sys.executable, "-c", start, *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODONATA_")}
    return kept | {"PYTHONPATH": str(ROOT), "ODONATA_TELEMETRY__ENABLE": "false"}


@asynccontextmanager
async def process(*arguments: str, within: Sequence[str] = ()) -> AsyncGenerator[Process]:
    """A daemon or scheduler that runs; killed at the end if it still does.

    `within`: a program that runs it in other surroundings.
    """
    child = await asyncio.create_subprocess_exec(
        *within,
        *command(*arguments, "--log-format=json"),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        limit=MIB,
    )
    one = Process(child, {})
    try:
        one.started = await _until_started(child)
        yield one
    finally:
        await one.kill()


async def _until_started(child: asyncio.subprocess.Process) -> dict[str, Any]:
    assert child.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        async for line in child.stderr:
            said.append(line.decode())
            event: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") in {"daemon_started", "scheduler_started"}:
                return event
    raise AssertionError("it did not start: " + "".join(said))


def daemon_arguments(folder: Path, number: int, **more: Any) -> list[str]:
    """The command line of daemon `number`."""
    given = overrides(folder, number, **more)
    return ["daemon", *(f"--set={key}={value}" for key, value in given.items())]


async def run(*arguments: str) -> tuple[int, str]:
    """Run a command to its end; exit code and stderr."""
    code, _, err = await run_whole(*arguments)
    return code, err


async def run_whole(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run a command to its end, with these environment variables; exit code, stdout, stderr."""
    code, out, err = await run_with_output(*arguments, **variables)
    return code, out.decode(), err


async def run_with_output(*arguments: str, **variables: str) -> tuple[int, bytes, str]:
    """As `run_whole`, with stdout as it came."""
    child = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment() | variables,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out, err.decode()


async def watch(one: Daemon | Path, url: str, output: Path) -> AsyncGenerator[Piece]:
    """Like `get`, but yields each piece as it arrives."""
    socket_path = one.socket_path if isinstance(one, Daemon) else one
    download = Download(url=url, output_path=str(output))
    async with asyncio.timeout(PATIENCE_S), open_channel(f"unix:{socket_path}") as channel:
        call = download_stub(channel).DownloadTask(download_request_to_wire(download))
        async for response in call:
            step = progress_from_wire(response).step
            if isinstance(step, PieceArrived):
                yield step.piece
