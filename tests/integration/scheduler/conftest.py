"""A real scheduler on loopback, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest
from support.scheduler_client import SchedulerClient, connected, settings

from scheduler.runtime.app import SchedulerApp


@pytest.fixture
async def app() -> AsyncIterator[SchedulerApp]:
    async with SchedulerApp(settings(), Random(1)) as app:
        yield app


@pytest.fixture
async def client(app: SchedulerApp) -> AsyncIterator[SchedulerClient]:
    async with connected(app.address) as client:
        yield client
