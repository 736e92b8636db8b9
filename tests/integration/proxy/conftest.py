"""A proxy before a hub in memory and a real origin, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from support.memory_hub import MemoryHub
from support.origin import Origin

from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

POLICY = ProxyPolicy(rules=(ProxyRule(regex="blobs/sha256"),))


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def hub(tmp_path: Path) -> MemoryHub:
    return MemoryHub(tmp_path)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


@pytest.fixture
async def proxy(hub: MemoryHub) -> AsyncIterator[ProxyServer]:
    options = ProxyOptions(
        port=0, stop_grace_s=0.5, linger_s=0.2, server_ip="127.0.0.9", authorize=False
    )
    async with ProxyServer(hub, POLICY, options) as running:
        yield running
