"""Finds out whether anybody answers at a host, by a connection that says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from odonata.wire.message import Host

PROBE_TIMEOUT_S: Final = 2.0
"""One lost SYN is sent again after 1 s. With it a host that vanished is left within 5 s of the
first piece that failed."""

MAX_PROBES: Final = 64
"""At once. A whole rack that vanishes is found out within seconds all the same."""

Probe = Callable[[Host], Awaitable[bool]]


async def connects(host: Host) -> bool:
    """Whether the gRPC port of `host` takes connections, or at least its machine is there."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.ip, host.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
