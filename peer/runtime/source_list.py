"""ListTaskEntries, on both ports: what an origin has below a folder.

The answer names everything below it at any depth, folders among it, as Dragonfly's daemons do. What
a listing may hold is the source's business.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dragonfly_api import dfdaemon_pb2

from odonata.errors import SourceError
from odonata.wire.dragonfly import duration_from_wire, require_url
from odonata.wire.dragonfly.origin import listing_to_wire, origin_in
from peer.runtime.port import Source

TIMEOUT_S: Final = 60.0
"""Where the request allows none or more; callers rarely wait so long."""
LISTINGS_MAX: Final = 8
"""At once. Each may hold 10,000 names (a few MiB); others wait their turn, within their timeout."""


class SourceLister:
    """Serves ListTaskEntries calls by a source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._slots = asyncio.Semaphore(LISTINGS_MAX)

    async def answer(
        self, request: dfdaemon_pb2.ListTaskEntriesRequest
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        """Answer one call. Errors: CallerError, and SourceError with the source's status."""
        url = require_url("url", request.url)
        asked_s = duration_from_wire(request.timeout) if request.HasField("timeout") else 0.0
        timeout_s = min(asked_s, TIMEOUT_S) if asked_s > 0 else TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                found = await self._source.list(
                    url, dict(request.request_header), origin_in(request)
                )
        except TimeoutError:
            raise SourceError(
                f"the listing took more than {timeout_s:g} s: ask for a folder further down, or "
                "allow more time"
            ) from None
        return listing_to_wire(found)
