"""aiohttp's answer, which also tells how a body ended that only the connection's end ends.

Such a body has neither a length nor chunks. aiohttp takes any end of the connection for its end, a
reset as well, so what broke off would look whole. Here a reset is told apart; nothing else changes.
"""

from __future__ import annotations

from typing import Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection


class HttpResponse(aiohttp.ClientResponse):
    """For `ClientSession(response_class=...)`."""

    _carrier: ResponseHandler | None = None

    async def start(self, connection: Connection) -> Self:
        """Remember the connection: with the last byte it is gone from here."""
        self._carrier = connection.protocol
        await super().start(connection)
        return self

    @property
    def cut_off(self) -> bool:
        """The body's end was the connection's, and that was none in good order. Ask at its end."""
        framed = "Transfer-Encoding" in self.headers or "Content-Length" in self.headers
        if framed or self._carrier is None:
            return False
        # An orderly end is an error too for aiohttp's connection, but not one of the system.
        return isinstance(self._carrier.exception(), OSError)
