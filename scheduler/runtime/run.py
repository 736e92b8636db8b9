"""Runs a scheduler until SIGTERM or SIGINT tells it to stop. A second signal ends it at once."""

from __future__ import annotations

import asyncio
import signal

import structlog

from scheduler.runtime.app import SchedulerApp
from scheduler.settings import SchedulerSettings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


async def run(settings: SchedulerSettings) -> None:
    """Start, wait for a signal, stop. Raises what `SchedulerApp.start` raises."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        _log.info("stop_requested", signal=number.name)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    async with SchedulerApp(settings):
        await stop.wait()
