"""A real Redis, schedulers that share it, and clients of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.persistent_client import PersistentClient, connected, redis_scheduler
from support.redis_server import RedisServer

from scheduler.core.persistent.state import Kind
from scheduler.runtime.app import SchedulerApp


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture(params=list(Kind), ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def app(redis: RedisServer) -> AsyncIterator[SchedulerApp]:
    async with redis_scheduler(redis.address) as app:
        yield app


@pytest.fixture
async def client(app: SchedulerApp, kind: Kind) -> AsyncIterator[PersistentClient]:
    async with connected(app.address, kind) as client:
        yield client
