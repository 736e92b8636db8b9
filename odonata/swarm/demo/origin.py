"""The demo's origin: a registry's blob endpoint behind a thin emulated uplink, in its own process.

`python -m odonata.swarm.demo.origin FOLDER RATE_BYTES_PER_S [IP]` prints its port and serves
`GET|HEAD /v2/<name>/blobs/<digest>` with Range; `GET /sent` tells how many body bytes it sent. A
rate of `inf` leaves the pace to the link.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from aiohttp import web

from odonata.swarm.demo.image import blob_path

CHUNK_BYTES = 64 << 10  # what the uplink sends at a time: 4 ms at 16 MB/s
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Uplink:
    """A link that carries `rate_bytes_per_s` in all, however many share it; chunks take turns."""

    def __init__(self, rate_bytes_per_s: float) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._free_at_s = 0.0
        self.sent_bytes = 0

    async def carry(self, n_bytes: int) -> None:
        """Return when `n_bytes` have passed."""
        now = asyncio.get_running_loop().time()
        self._free_at_s = max(now, self._free_at_s) + n_bytes / self._rate_bytes_per_s
        self.sent_bytes += n_bytes
        await asyncio.sleep(self._free_at_s - now)


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end (exclusive) of a single Range header; None: no range that we serve."""
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return None
    first = int(found[1])
    end = int(found[2]) + 1 if found[2] else size
    return first, min(end, size)


class Origin:
    """Serves the blobs of one folder."""

    def __init__(self, folder: Path, uplink: Uplink) -> None:
        self._folder = folder
        self._uplink = uplink

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self.blob)
        app.router.add_get("/sent", self.sent)
        return app

    async def sent(self, _request: web.Request) -> web.Response:
        """Bytes sent since the start, as text."""
        return web.Response(text=str(self._uplink.sent_bytes))

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """One blob or a range of it, as fast as the uplink allows."""
        digest = request.match_info["digest"]
        path = blob_path(self._folder, digest)
        if not _DIGEST.fullmatch(digest) or not path.exists():
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        size = path.stat().st_size
        wanted = wanted_range(request.headers.get("Range"), size)
        first, end = wanted or (0, size)
        if first >= end and size:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        response = web.StreamResponse(status=206 if wanted else 200)
        response.headers["Docker-Content-Digest"] = digest
        response.headers["Accept-Ranges"] = "bytes"
        response.content_type = "application/octet-stream"
        response.content_length = end - first
        if wanted:
            response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        await response.prepare(request)
        if request.method == "GET":
            await self._send(response, path, first, end)
        await response.write_eof()
        return response

    async def _send(self, response: web.StreamResponse, path: Path, first: int, end: int) -> None:
        with path.open("rb") as file:  # from the page cache: it was written a moment ago
            file.seek(first)
            while first < end:
                chunk = file.read(min(CHUNK_BYTES, end - first))
                await self._uplink.carry(len(chunk))
                await response.write(chunk)
                first += len(chunk)


async def _serve(folder: Path, rate_bytes_per_s: float, ip: str = "127.0.0.1") -> None:
    runner = web.AppRunner(Origin(folder, Uplink(rate_bytes_per_s)).app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, ip, 0)
    await site.start()
    port = runner.addresses[0][1]
    print(f"listening {port}", flush=True)  # noqa: T201  # the one thing the demo must learn
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
