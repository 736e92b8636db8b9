"""A daemon's socket that also lists: its entries are a test's choice, all else a real daemon's.

What an origin names may be anything, also what no honest one would.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dragonfly_api import dfdaemon_pb2

from odonata.errors import SourceError
from odonata.grpc_client import open_channel
from odonata.grpc_server import GrpcServer
from odonata.grpc_stub import download_stub


class ListingService:
    """`entries`: folder URL -> what lies below it; others are answered as a 404.

    Only http URLs have contents.
    """

    def __init__(self, stub: Any, entries: Mapping[str, Sequence[dfdaemon_pb2.Entry]]) -> None:
        self._stub = stub
        self._entries = entries
        self.asked: list[dfdaemon_pb2.ListTaskEntriesRequest] = []

    async def ListTaskEntries(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.ListTaskEntriesRequest, _context: Any
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        self.asked.append(request)
        found = self._entries.get(request.url)
        if found is None:
            raise SourceError("no such folder", status_code=404)
        return dfdaemon_pb2.ListTaskEntriesResponse(entries=found)

    async def DownloadTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Any
    ) -> None:
        features = [one for one in context.invocation_metadata() if one[0] == "odonata-features"]
        if not request.download.url.startswith("http"):
            raise SourceError("that is a folder, if it is anything", status_code=404)
        async for message in self._stub.DownloadTask(request, metadata=features):
            await context.write(message)


@asynccontextmanager
async def listing_daemon(
    socket_path: Path, real: Path, entries: Mapping[str, Sequence[dfdaemon_pb2.Entry]]
) -> AsyncGenerator[ListingService]:
    """Serves on `socket_path`, and asks the daemon at `real`."""
    async with open_channel(f"unix:{real}") as channel:
        service = ListingService(download_stub(channel), entries)
        server = GrpcServer()
        server.add_service(dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonDownload"], service)
        server.bind_unix(socket_path, "the test's socket")
        await server.start()
        try:
            yield service
        finally:
            await server.stop(0.0)


def file_entry(url: str, length: int) -> dfdaemon_pb2.Entry:
    return dfdaemon_pb2.Entry(url=url, content_length=length)


def folder_entry(url: str) -> dfdaemon_pb2.Entry:
    return dfdaemon_pb2.Entry(url=url, is_dir=True)
