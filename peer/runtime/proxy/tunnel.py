"""CONNECT: bytes to a server and back, untouched, until both sides have finished.

Either side may finish its half first; the other half goes on. Opens nobody's TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from odonata.errors import CallerError, SourceError
from peer.core.proxy_rule import Tunnel
from peer.runtime.proxy.conversation import Conversation
from peer.runtime.proxy.direct import OriginTimeoutError
from peer.runtime.proxy.option import ProxyCounters, ProxyOptions
from peer.runtime.proxy.wire import Wire


async def run_tunnel(
    tunnel: Tunnel, conversation: Conversation, options: ProxyOptions, counters: ProxyCounters
) -> None:
    """Connect, say so, pass bytes. SourceError, before any answer, if there is no connection."""
    server = await _connect(tunnel, options, counters)
    client = conversation.wire
    whole = False
    try:
        early = await conversation.switch()
        client.on_end = None  # from here on a half may end on its own
        async with asyncio.timeout(options.tunnel_idle_s) as idle, asyncio.TaskGroup() as group:

            def moved(n_bytes: int) -> None:
                counters.bytes_tunnel += n_bytes
                conversation.body_bytes += n_bytes
                idle.reschedule(asyncio.get_running_loop().time() + options.tunnel_idle_s)

            if early:
                await server.write(early, stall_s=options.write_stall_s)
                moved(len(early))
            group.create_task(_pump(client, server, moved, options.write_stall_s))
            group.create_task(_pump(server, client, moved, options.write_stall_s))
        whole = True
    except* (ConnectionError, TimeoutError):
        # One side is gone or nothing moves any more: the other must not take it for a clean end.
        client.abort(reset=True)
    finally:
        if not whole:
            server.abort(reset=True)
        await server.close()


async def _pump(source: Wire, sink: Wire, moved: Callable[[int], None], stall_s: float) -> None:
    while data := await source.read():
        await sink.write(data, stall_s=stall_s)
        moved(len(data))
    sink.end_writing()


async def _connect(tunnel: Tunnel, options: ProxyOptions, counters: ProxyCounters) -> Wire:
    place = f"{tunnel.host}:{tunnel.port}"
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            _, server = await asyncio.get_running_loop().create_connection(
                lambda: Wire(counters), tunnel.host, tunnel.port
            )
    except TimeoutError:
        raise OriginTimeoutError(
            f"{place} did not accept a connection within {options.connect_timeout_s:g} s"
        ) from None
    except UnicodeError as cause:
        raise CallerError(f"CONNECT {place[:200]!r} names no host: {cause}") from None
    except OSError as cause:
        raise SourceError(f"{place} can't be reached: {cause.strerror or cause}") from None
    return server
