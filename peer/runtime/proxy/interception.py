"""CONNECT to a host that is opened: answer in its place, and read the requests inside its TLS.

The client must trust the operator's authority. One that does not breaks off the handshake, which is
told with its fix; nothing of what it wanted is known then.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import structlog

from odonata.errors import CallerError
from peer.core.proxy_rule import Intercept
from peer.runtime.proxy.conversation import Conversation
from peer.runtime.proxy.option import ProxyOptions

if TYPE_CHECKING:  # cryptography is 7 MB, for daemons that intercept
    from peer.runtime.proxy.authority import Certificates

_log = structlog.get_logger("proxy")


class EarlyBytesError(CallerError):
    """TLS that began before the tunnel stood."""

    code = "early_bytes"


async def intercept(
    route: Intercept,
    conversation: Conversation,
    certificates: Certificates,
    options: ProxyOptions,
) -> Conversation | None:
    """The conversation inside, None if there will be none. CallerError before any answer."""
    try:
        context = certificates.context(route.host)
    except ValueError as cause:
        raise CallerError(f"CONNECT {route.host[:200]!r}: {cause}") from None
    if conversation.has_more:
        raise EarlyBytesError(
            "bytes came along with CONNECT: wait for the proxy's answer before TLS begins"
        )
    wire = conversation.wire
    wire.on_end = None
    wire.hold()  # the client's TLS may come as soon as it has our answer
    await conversation.switch()
    try:
        inner = await wire.opened(context, handshake_s=options.head_timeout_s)
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, TimeoutError) as cause:
        _log.warning(
            "interception_failed",
            url=f"https://{route.host}:{route.port}",
            error=_reason(cause),
        )
        wire.abort()
        return None
    return Conversation(inner, options, inside=(route.host, route.port))


def _reason(cause: Exception) -> str:
    if isinstance(cause, TimeoutError):
        return "the client did not begin TLS in time"
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else ""
    if "UNKNOWN_CA" in reason or "CERTIFICATE_UNKNOWN" in reason or "BAD_CERTIFICATE" in reason:
        return (
            "the client does not trust the proxy's authority: let it (`odonata ca trust`), or take "
            f"the host out of proxy.interceptHosts ({reason})"
        )
    return f"the client broke off TLS: {reason or str(cause) or type(cause).__name__}"
