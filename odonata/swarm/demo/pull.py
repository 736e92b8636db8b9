"""Pulling the image: plainly from the origin, and through a peer daemon; both report every byte.

A puller is what a container runtime is: it fetches three layers at a time until all are there.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from dragonfly_api import dfdaemon_pb2

from odonata.errors import DigestMismatchError, OdonataError, UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_status import error_of
from odonata.grpc_stub import download_stub
from odonata.swarm.demo.image import Image, Layer
from odonata.swarm.demo.tally import ORIGIN, Tally
from odonata.swarm.plan import IP, Member
from odonata.wire.dragonfly import PieceArrived, download_request_to_wire, progress_from_wire
from odonata.wire.message import Download, Piece, TrafficType

LAYERS_AT_ONCE = 3  # docker's and containerd's default
READ_BYTES = 256 << 10

Giver = Callable[[Piece], str]


async def pull_all(
    image: Image, fetch: Callable[[Layer], Coroutine[Any, Any, None]], tally: Tally
) -> None:
    """Fetch every layer with `fetch`, three at a time; stamp the end."""
    places = asyncio.Semaphore(LAYERS_AT_ONCE)

    async def one(layer: Layer) -> None:
        async with places:
            await fetch(layer)

    started_s = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for layer in image.layers:
                group.create_task(one(layer))
    except* OdonataError as errors:
        tally.error = str(errors.exceptions[0])
    except* aiohttp.ClientError as errors:
        tally.error = f"origin: {errors.exceptions[0]}"
    else:
        tally.seconds = time.monotonic() - started_s


class PlainPuller:
    """One peer without Odonata: it asks the origin for everything."""

    def __init__(self, origin: str, image: Image, tally: Tally) -> None:
        self._origin = origin
        self._image = image
        self._tally = tally

    async def pull(self) -> None:
        """Fetch and check the whole image."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

            async def fetch(layer: Layer) -> None:
                await self._fetch(session, layer)

            await pull_all(self._image, fetch, self._tally)

    async def _fetch(self, session: aiohttp.ClientSession, layer: Layer) -> None:
        digest = hashlib.sha256()
        async with session.get(blob_url(self._origin, self._image, layer)) as response:
            response.raise_for_status()
            async for chunk in response.content.iter_chunked(READ_BYTES):
                digest.update(chunk)
                self._tally.add(ORIGIN, len(chunk))
        if f"sha256:{digest.hexdigest()}" != layer.digest:
            raise DigestMismatchError(f"{layer.digest} arrived damaged from the origin")


class SwarmPuller:
    """One peer with Odonata: its daemon fetches, and says for every piece who gave it."""

    def __init__(
        self, member: Member, names: list[str], origin: str, image: Image, out: Path, tally: Tally
    ) -> None:
        self._member = member
        self._names = names
        self._origin = origin
        self._image = image
        self._out = out
        self._tally = tally

    async def pull(self) -> None:
        """Fetch the whole image through the daemon; files end up in `out`."""
        async with open_channel(f"unix:{self._member.socket}") as channel:
            stub = download_stub(channel)

            async def fetch(layer: Layer) -> None:
                await self._fetch(stub, layer)

            await pull_all(self._image, fetch, self._tally)

    async def _fetch(self, stub: Any, layer: Layer) -> None:
        download = Download(
            url=blob_url(self._origin, self._image, layer),
            output_path=str(self._out / layer.digest.replace(":", "-")),
            overwrite=True,
        )
        request: dfdaemon_pb2.DownloadTaskRequest = download_request_to_wire(download)
        try:
            async for response in stub.DownloadTask(request):
                step = progress_from_wire(response).step
                if isinstance(step, PieceArrived):
                    self._tally.add(self._giver(step.piece), step.piece.length)
        except grpc.aio.AioRpcError as error:
            raise error_of(error, "the peer daemon") from error

    def _giver(self, piece: Piece) -> str:
        if piece.traffic_type is TrafficType.BACK_TO_SOURCE:
            return ORIGIN
        for name in self._names:
            if piece.parent_id.startswith(f"{IP}-{name}-"):
                return name
        return "unknown"


def blob_url(origin: str, image: Image, layer: Layer) -> str:
    """Where the origin serves `layer`."""
    return f"{origin}/v2/{image.name}/blobs/{layer.digest}"


async def sent_bytes(origin: str) -> int:
    """Body bytes that the origin has sent since its start."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{origin}/sent") as response:
            return int(await response.text())
    except aiohttp.ClientError as error:
        raise UnavailableError(f"the demo's origin does not answer: {error}") from error


def verify(image: Image, out: Path) -> list[str]:
    """Digests of `out` that are wrong or missing; empty if all is well."""
    wrong: list[str] = []
    for layer in image.layers:
        path = out / layer.digest.replace(":", "-")
        if not path.exists():
            wrong.append(f"{layer.digest} is missing")
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if f"sha256:{found}" != layer.digest:
            wrong.append(f"{layer.digest} holds sha256:{found}")
    return wrong
