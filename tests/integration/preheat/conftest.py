"""A scheduler, daemons and a client of the scheduler, all on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import daemon, scheduler
from support.scheduler_client import connected

from peer.runtime.daemon import Daemon
from scheduler.runtime.app import SchedulerApp


@pytest.fixture
async def app() -> AsyncIterator[SchedulerApp]:
    async with scheduler() as app:
        yield app


@pytest.fixture
async def stub(app: SchedulerApp) -> AsyncIterator[Any]:
    """The generated stub of the scheduler."""
    async with connected(app.address) as client:
        yield client.stub


@pytest.fixture
async def seed(app: SchedulerApp, tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=[app.address]) as one:
        yield one


@pytest.fixture
async def peer(app: SchedulerApp, tmp_path: Path) -> AsyncIterator[Daemon]:
    rules = [{"regex": "blobs/sha256.*"}]
    async with daemon(tmp_path, 3, scheduler__addrs=[app.address], proxy__rules=rules) as one:
        yield one
