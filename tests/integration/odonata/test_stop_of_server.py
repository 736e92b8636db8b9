"""The HTTP/2 server is stopped at the moment in which somebody connects: nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from odonata.grpc_h2.server import H2GrpcServer

Runner = Callable[[Coroutine[Any, Any, None]], None]


async def _stop_amid_a_connect(turns: int) -> None:
    """A client connects, and so many turns of the event loop later the server stops."""
    server = H2GrpcServer()
    port = server.bind_tcp("127.0.0.1", 0, "server.port")
    await server.start()
    with socket.create_connection(("127.0.0.1", port)):
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop(0.0)


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_of_the_last_moment_is_closed(run: Runner, turns: int) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(_stop_amid_a_connect(turns))
        gc.collect()

    assert [str(one.message) for one in said if one.category is ResourceWarning] == []
