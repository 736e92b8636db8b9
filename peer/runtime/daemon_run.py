"""Runs a peer daemon until SIGTERM or SIGINT tells it to stop. A second signal ends it at once."""

from __future__ import annotations

import asyncio
import signal

import structlog

from peer.runtime.daemon import Daemon
from peer.settings import DaemonSettings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


async def run(settings: DaemonSettings) -> None:
    """Start, wait for a signal, stop. Raises what `Daemon.start` raises."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        _log.info("stop_requested", signal=number.name)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    async with Daemon(settings):
        await stop.wait()
    _log.info("daemon_stopped")
