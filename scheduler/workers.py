"""`odonata scheduler --workers N`: N schedulers on consecutive ports, and who minds them.

Each worker is a process like any scheduler of its own; they share no state. Clients spread their
tasks over them by their ring, if they are told all addresses (`HOST:8002-8005`). A worker that dies
is started again, later each time it dies soon; signals are passed on. All write to one stderr, each
line with its worker's number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from odonata.errors import SettingsError, UnavailableError
from odonata.settings.value import PORT_MAX, split_listen_address
from scheduler.settings import SchedulerSettings

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
LONG_LIFE_S: Final = 60.0
"""Who lived as long is started again at once, nearly."""
STOP_S: Final = 15.0
"""A scheduler stops within 2 s; telemetry may take 5 s more, on a busy machine longer."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PROGRAM = "from odonata.cli import main; main()"

_log = structlog.get_logger(__name__)


def command_lines(
    settings: SchedulerSettings, config: Path | None, overrides: Mapping[str, object]
) -> list[list[str]]:
    """The options of each worker: as given, but with ports of its own.

    Raises SettingsError if there are not so many ports.
    """
    numbers = range(1, settings.server.workers + 1)
    return [_words(settings, number, config, overrides) for number in numbers]


def _words(
    settings: SchedulerSettings, number: int, config: Path | None, overrides: Mapping[str, object]
) -> list[str]:
    own: dict[str, object] = {
        "server.port": _port(settings.server.port, number, "server.port"),
        "server.workers": 1,
        "log.worker": number,
    }
    ip, page = split_listen_address(settings.metrics.addr)
    if ":" in ip:  # its brackets would be read as a YAML list
        raise SettingsError(
            f"metrics.addr {settings.metrics.addr} is IPv6, which several workers can't be given: "
            f"use an IPv4 address, or :{page} for all"
        )
    own["metrics.addr"] = f"{ip}:{_port(page, number, 'metrics.addr')}"
    given = {**overrides, **own}
    words = [] if config is None else ["--config", str(config)]
    return [*words, *(f"--set={key}={value}" for key, value in given.items())]


def _port(first: int, number: int, what: str) -> int:
    if first == 0:
        return 0  # any, for each
    port = first + number - 1
    if port > PORT_MAX:
        raise SettingsError(
            f"worker {number} would need port {port}: choose a lower {what} or fewer workers"
        )
    return port


class Workers:
    """Runs the workers until a signal comes."""

    def __init__(self, command_lines: Sequence[Sequence[str]]) -> None:
        """One command line for each worker, without the program and its subcommand."""
        self._command_lines = command_lines
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Raises UnavailableError if a worker can't even start."""
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._stop, each)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, words in enumerate(self._command_lines, start=1):
                    tasks.create_task(self._keep(number, words))
        except* UnavailableError as failed:
            raise failed.exceptions[0] from None
        finally:
            for each in _SIGNALS:
                loop.remove_signal_handler(each)
        _log.info("workers_stopped", count=len(self._command_lines))

    def _stop(self, number: signal.Signals) -> None:
        _log.info("stop_requested", signal=number.name)
        self._stopping.set()
        self._signal_all(number)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int, words: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = BACKOFF_FIRST_S
        has_lived = False
        while not self._stopping.is_set():
            began_s = loop.time()
            status = await self._live(number, words)
            if self._stopping.is_set():
                return
            lived_s = loop.time() - began_s
            if status in (1, 2) and not has_lived:  # it has said why: a port in use, a setting
                raise UnavailableError(f"worker {number} could not start: see above")
            has_lived = True
            if lived_s >= LONG_LIFE_S:
                backoff_s = BACKOFF_FIRST_S
            _log.error("worker_died", worker=number, code=status, wait_s=backoff_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _live(self, number: int, words: Sequence[str]) -> int:
        """Run a worker to its end; its exit status."""
        leash = [sys.executable, "-m", "odonata.swarm.leash", str(os.getpid())]
        process = await asyncio.create_subprocess_exec(
            *leash, sys.executable, "-c", _PROGRAM, "scheduler", *words,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self._processes[number] = process
        try:
            return await self._end_of(process)
        finally:
            if process.returncode is None:  # another worker could not start
                process.terminate()
                await self._end_of(process)
            del self._processes[number]

    async def _end_of(self, process: asyncio.subprocess.Process) -> int:
        """When told to stop it has `STOP_S` for that."""
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await asyncio.wait({ended}, timeout=STOP_S)
            if not ended.done():
                process.kill()
            return await ended
        finally:
            stopping.cancel()
            ended.cancel()


async def run(lines: Sequence[Sequence[str]]) -> None:
    """Run a worker for each command line. Raises what `Workers.run` raises."""
    _log.info("workers_started", count=len(lines))
    await Workers(lines).run()
