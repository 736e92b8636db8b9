"""Channels to schedulers, seeds and parents, with Dragonfly's client constants.

Calls and their deadlines belong to whoever makes them; failures become our errors by
`odonata.grpc_status.error_of`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import grpc

from odonata.errors import UnavailableError

# Dragonfly's client, dfdaemon.md §1.6: connect 3 s, request 10 s, HTTP/2 pings every 300 s
# answered within 20 s, messages of any size. A Download with many headers or certificates has no
# natural bound.
CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 10.0
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A peer that comes back is tried again soon: gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # And a new channel starts afresh: it does not inherit the back-off of an older one.
    ("grpc.use_local_subchannel_pool", 1),
    # Daemons of one machine talk to each other and to 10/8 addresses: a proxy in the environment
    # (often our own!) is never the way to a peer.
    ("grpc.enable_http_proxy", 0),
)


def target_of(host: str, port: int) -> str:
    """How gRPC writes `host`:`port`; IPv6 addresses get their brackets."""
    try:
        if ipaddress.ip_address(host).version == 6:
            return f"[{host}]:{port}"
    except ValueError:
        pass  # a name: the resolver's business
    return f"{host}:{port}"


def open_channel(target: str, *, dead_after_s: float | None = None) -> grpc.aio.Channel:
    """A channel to `target` ("host:port", "unix:/path"). It connects when first used.

    `dead_after_s`: after so much silence of the other end, while a call is open, the connection is
    taken for dead and its calls end with UNAVAILABLE; None: after 320 s. Only for those who take
    pings that often: all our servers, and Dragonfly's client; its scheduler would hang up.
    """
    return grpc.aio.insecure_channel(target, options=_options(dead_after_s))


def open_blocking_channel(target: str) -> grpc.Channel:
    """The same for callers without an event loop; from any thread."""
    return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)


def _options(dead_after_s: float | None) -> tuple[tuple[str, int], ...]:
    if dead_after_s is None:
        return CHANNEL_OPTIONS
    half_ms = int(dead_after_s * 500)
    quick = {
        "grpc.keepalive_time_ms": half_ms,
        "grpc.keepalive_timeout_ms": half_ms,
        # A ping of another kind may be under way (one for flow control, at just the wrong moment);
        # then this is what bounds the wait, not the above.
        "grpc.http2.ping_timeout_ms": half_ms,
        "grpc.http2.max_pings_without_data": 0,
    }
    return tuple((dict(CHANNEL_OPTIONS) | quick).items())


@contextmanager
def closing_is_unavailable(who: str) -> Generator[None]:
    """Around a call: if its channel is closed meanwhile, that is an UnavailableError.

    gRPC ends such a call as if its caller had been cancelled, which would silently end whoever
    waits for it.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise UnavailableError(f"the connection to {who} was closed") from None
