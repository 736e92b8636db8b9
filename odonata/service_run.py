"""Runs a service until SIGTERM or SIGINT tells it to stop. A second signal ends it at once.

What a service is, and how it starts and stops, is its own business: an async context manager.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager

import structlog

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


async def run_until_stopped(service: AbstractAsyncContextManager[object]) -> None:
    """Enter `service`, wait for a signal, leave it. Raises what entering and leaving raise."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        _log.info("stop_requested", signal=number.name)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    async with service:
        await stop.wait()
