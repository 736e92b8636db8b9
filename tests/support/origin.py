"""A real HTTP origin on loopback whose manners can be chosen for each path, with a request log.

    async with Origin() as origin:
        url = origin.add("/blob", content)                          # ranges, like any good server
        bad = origin.add("/bad", content, Manners(short_by=10))     # breaks off 10 bytes early
        ...
        assert [seen.range for seen in origin.requests] == ["bytes=0-"]

`Origin(tls=context)` serves https. `origin.copies(path)` says how often the content left the house.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a path behaves. The defaults are those of a good server.

    With a `gate` the body waits after its first half until somebody sets the gate.
    """

    ranges: bool = True  # False: Range is ignored, 200 with everything
    says_ranges: bool = True  # Accept-Ranges: bytes, where it is true
    chunked: bool = False  # no Content-Length
    hides_total: bool = False  # Content-Range ends with /*
    short_by: int = 0  # so many bytes less than promised, then the connection closes
    content_range: str | None = None  # what a 206 says instead of the truth
    content_length: int | None = None  # likewise
    cap: int | None = None  # never more than so many bytes in a 206
    status: int | None = None  # answer this, with a small body
    header: Mapping[str, str] = field(default_factory=dict[str, str])
    redirect_to: str | None = None
    redirect_status: int = 302
    wants_header: tuple[str, str] | None = None  # 401 without it
    gate: asyncio.Event | None = None
    rate_bytes_per_s: float | None = None  # slow, but steady
    on_sent: Callable[[int], None] | None = None  # called with the bytes of each write
    fail_first: int = 0  # so many requests get a 503 before the first good answer
    most: int | None = None  # no more connections at once for it: others get a 503
    cut: Mapping[int, int] = field(default_factory=dict[int, int])
    """The connection of the so-manieth request (`Seen.number`) breaks after so many bytes."""


@dataclass(kw_only=True, eq=False)
class Seen:
    """One request and what it got. `number`: of those for its path, counted from 1."""

    number: int
    method: str
    path: str
    query: str
    target: str  # path and query as they came, byte for byte
    range: str | None
    header: Mapping[str, str]
    status: int = 0
    sent_bytes: int = 0  # of the body


class Origin:
    """The server. `requests` is the log, oldest first."""

    def __init__(self, *, ip: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._ip = ip
        self._tls = tls
        self._content: dict[str, tuple[bytes, Manners]] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.requests: list[Seen] = []
        self.at_once = 0
        """Requests that are being answered."""
        self.most_at_once = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._ip, 0, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close everything at once: connections in the middle of a body break off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def address(self) -> str:
        """`ip:port`."""
        return f"{self._ip}:{self._port}"

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://{self.address}{path}"

    def add(self, path: str, content: bytes = b"", manners: Manners | None = None) -> str:
        """Serve `content` at `path` from now on; returns its URL."""
        self._content[path] = (content, manners or Manners())
        return self.url(path)

    def sent_bytes(self, path: str) -> int:
        """Body bytes sent for `path`, all requests together."""
        return sum(seen.sent_bytes for seen in self.requests if seen.path == path)

    def copies(self, path: str) -> float:
        """How many times the whole content was sent."""
        return self.sent_bytes(path) / max(1, len(self._content[path][0]))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            number=1 + sum(one.path == request.path for one in self.requests),
            method=request.method,
            path=request.path,
            query=request.query_string,
            target=request.raw_path,
            range=request.headers.get("Range"),
            header=dict(request.headers),
        )
        self.requests.append(seen)
        if request.path not in self._content:
            seen.status = 404
            return web.Response(status=404, text="no such thing")
        content, manners = self._content[request.path]
        refusal = self._refusal(request, manners)
        if refusal is not None:
            seen.status = refusal.status
            return refusal
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._send(request, seen, content, manners)
        finally:
            self.at_once -= 1

    def _refusal(self, request: web.Request, manners: Manners) -> web.Response | None:
        if manners.redirect_to is not None:
            location = {"Location": manners.redirect_to}
            return web.Response(status=manners.redirect_status, headers=location)
        if manners.wants_header is not None:
            name, value = manners.wants_header
            if request.headers.get(name) != value:
                challenge = {"WWW-Authenticate": 'Bearer realm="r"', "Set-Cookie": "a=b"}
                return web.Response(status=401, headers=challenge, text="who are you?")
        if manners.status is not None:
            return web.Response(status=manners.status, headers=manners.header, text="no")
        past = sum(seen.path == request.path for seen in self.requests)
        is_full = manners.most is not None and self.at_once >= manners.most
        if past <= manners.fail_first or is_full:
            return web.Response(status=503, text="not yet")
        return None

    async def _send(
        self, request: web.Request, seen: Seen, content: bytes, manners: Manners
    ) -> web.StreamResponse:
        span = _span(seen.range, len(content), manners) if manners.ranges else None
        if span is not None and span[0] >= len(content):
            seen.status = 416
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
        body = content if span is None else content[span[0] : span[1]]
        response = web.StreamResponse(status=200 if span is None else 206, headers=manners.header)
        seen.status = response.status
        if manners.ranges and manners.says_ranges:
            response.headers["Accept-Ranges"] = "bytes"
        if span is not None:
            total = "*" if manners.hides_total else str(len(content))
            truth = f"bytes {span[0]}-{span[1] - 1}/{total}"
            response.headers["Content-Range"] = manners.content_range or truth
        if manners.chunked:
            response.enable_chunked_encoding()
        else:
            promised = manners.content_length
            response.content_length = len(body) if promised is None else promised
        await response.prepare(request)
        if request.method != "HEAD":
            await _send_body(request, response, seen, body, manners)
        return response


def _span(header: str | None, length: int, manners: Manners) -> tuple[int, int] | None:
    """[start, end) of a Range header; None if there is none that counts."""
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return None
    start = int(found[1])
    end = min(int(found[2]) + 1, length) if found[2] else length
    if manners.cap is not None:
        end = min(end, start + manners.cap)
    return start, end


async def _send_body(
    request: web.Request,
    response: web.StreamResponse,
    seen: Seen,
    body: bytes,
    manners: Manners,
) -> None:
    end, cut = len(body) - manners.short_by, manners.cut.get(seen.number)
    end = end if cut is None else min(end, cut)
    position = 0
    while position < end:
        if manners.gate is not None and position >= end // 2:
            await manners.gate.wait()
        stop = min(position + _CHUNK_BYTES, end)
        if manners.gate is not None and position < end // 2:
            stop = min(stop, end // 2)
        await response.write(body[position:stop])
        seen.sent_bytes += stop - position
        if manners.on_sent is not None:
            manners.on_sent(stop - position)
        if manners.rate_bytes_per_s is not None:
            await asyncio.sleep((stop - position) / manners.rate_bytes_per_s)
        position = stop
    if manners.short_by or cut is not None:
        assert request.transport is not None
        request.transport.abort() if manners.chunked else request.transport.close()
