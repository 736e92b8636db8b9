"""The rpcs of scheduler.v2 about *cache* tasks, which no scheduler keeps.

AnnounceCachePeer, StatCachePeer, DeleteCachePeer, StatCacheTask and DeleteCacheTask are in the
API, no client calls them, and Dragonfly's scheduler answers them OK with nothing. So does this one,
once the request is a proper one: a program that was written against Dragonfly is not to fail here.
What is kept for good are persistent tasks (`scheduler.runtime.persistent`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.wire.dragonfly.rule import check_request


class CacheService:
    """The rpcs, by their names. There is no state: nothing was kept, so nothing is found."""

    async def AnnounceCachePeer(  # noqa: N802  # the rpc's name
        self,
        requests: AsyncIterator[scheduler_pb2.AnnounceCachePeerRequest],
        _context: Any,
    ) -> None:
        """Ends at the first request, without an answer, as Dragonfly's does."""
        async for request in requests:
            check_request(request)
            return

    def StatCachePeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatCachePeerRequest, _context: Any
    ) -> common_pb2.CachePeer:
        """No field of the answer is set."""
        check_request(request)
        return common_pb2.CachePeer()

    def DeleteCachePeer(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteCachePeerRequest, _context: Any
    ) -> Empty:
        """Nothing was kept, so there is nothing left to delete."""
        check_request(request)
        return Empty()

    def StatCacheTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatCacheTaskRequest, _context: Any
    ) -> common_pb2.CacheTask:
        """No field of the answer is set."""
        check_request(request)
        return common_pb2.CacheTask()

    def DeleteCacheTask(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteCacheTaskRequest, _context: Any
    ) -> Empty:
        """Nothing was kept, so there is nothing left to delete."""
        check_request(request)
        return Empty()
