"""Asks an origin whether a client may have a content that is shared (`peer.core.proxy_permission`).

Asked while the content is looked for, so that it costs time only if the origin is the slower one.
What the origin refuses is the client's answer, as it is.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from odonata.errors import SourceError
from peer.core.proxy_permission import Permissions, is_permitted, permission_key, question
from peer.core.proxy_rule import RequestHead, loggable_url
from peer.runtime.proxy.direct import OriginClient
from peer.runtime.proxy.option import ProxyCounters

_NOT_ALLOWED = 405
_FIRST_BYTE = ("Range", "bytes=0-0")


class Gate:
    """Lets clients in. `origin` carries its questions."""

    def __init__(self, origin: OriginClient, counters: ProxyCounters, *, enabled: bool) -> None:
        self._origin = origin
        self._counters = counters
        self._enabled = enabled
        self._permissions = Permissions()
        self._asking: dict[bytes, asyncio.Event] = {}
        """Questions under way: at most one for each client of the proxy. Set when answered."""

    def is_open(self, url: str, head: RequestHead) -> bool:
        """Nobody has to be asked."""
        if not self._enabled or question(url, head.headers) is None:
            return True
        now_s = asyncio.get_running_loop().time()
        return self._permissions.holds(permission_key(url, head.headers), now_s)

    async def ask(self, url: str, head: RequestHead) -> None:
        """Ask the origin, if it must be. SourceError with its status and headers if it refuses.

        Of many with the same question one asks, and the others wait for what it is permitted, since
        twenty pulls of an image at once could take all connections of a small origin. If it is
        refused, they ask themselves.
        """
        method = question(url, head.headers)
        if method is None:
            return
        key = permission_key(url, head.headers)
        other = self._asking.get(key)
        if other is not None:
            await other.wait()
            if not self.is_open(url, head):
                await self._ask(method, url, head)
            return
        answered = self._asking[key] = asyncio.Event()
        try:
            await self._ask(method, url, head)
        finally:
            del self._asking[key]
            answered.set()

    async def _ask(self, method: str, url: str, head: RequestHead) -> None:
        self._counters.permissions_asked += 1
        status, header = await self._origin.probe(url, _asking(head, method))
        if status == _NOT_ALLOWED and method == "HEAD":
            status, header = await self._origin.probe(url, _asking(head, "GET"))
        if not is_permitted(status):
            self._counters.permissions_refused += 1
            raise SourceError(
                f"{loggable_url(url)} is not for this client: its origin answers {status}",
                status_code=status,
                header=header,
            )
        now_s = asyncio.get_running_loop().time()
        self._permissions.grant(permission_key(url, head.headers), now_s)


def _asking(head: RequestHead, method: str) -> RequestHead:
    """The client's request without what is about its own copy of the content."""
    kept = [
        (name, value)
        for name, value in head.headers
        if not name.lower().startswith(("if-", "range", "content-", "transfer-encoding", "expect"))
    ]
    if method == "GET":
        kept.append(_FIRST_BYTE)
    return replace(head, method=method, headers=tuple(kept))
