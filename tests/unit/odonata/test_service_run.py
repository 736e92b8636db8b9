"""A service runs until it is told to stop, and is stopped as it should be."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from odonata.service_run import run_until_stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_the_next_one_would_end_the_process(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    said: list[str] = []

    @asynccontextmanager
    async def service() -> AsyncGenerator[None]:
        said.append("started")
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        yield
        said.append("stopped")

    async with asyncio.timeout(10):
        await run_until_stopped(service())
    assert said == ["started", "stopped"]
    assert signal.getsignal(number) is not signal.SIG_IGN
    assert asyncio.get_running_loop().remove_signal_handler(number) is False, "handled once only"
    signal.signal(number, before)
