"""A small HTTP server on loopback for emulated services, with a log of what it was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class WebService:
    """Subclasses answer. `contents`: what is stored, by key."""

    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    refuses: int | None = None  # answer this status to everything
    requests: list[tuple[str, str, Mapping[str, str]]] = field(
        default_factory=list[tuple[str, str, Mapping[str, str]]]
    )
    _runner: web.AppRunner | None = None
    port: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.refuses is not None:
            return web.Response(status=self.refuses)
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError


def span_of(text: str | None, length: int) -> tuple[int, int] | None:
    """[start, end) of a Range header; None: there is none."""
    found = _RANGE.fullmatch(text or "")
    if found is None:
        return None
    return int(found[1]), min(int(found[2]) + 1, length) if found[2] else length


def ranged(
    request: web.Request, data: bytes, header: Mapping[str, str], span_text: str | None
) -> web.Response:
    """What a good server answers to a GET or HEAD of `data`: 200, 206 or 416."""
    span = span_of(span_text, len(data))
    if request.method == "HEAD":
        return web.Response(headers={**header, "Content-Length": str(len(data))})
    if span is None:
        return web.Response(body=data, headers=header)
    if span[0] >= len(data):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
    where = {"Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(data)}"}
    return web.Response(status=206, body=data[slice(*span)], headers={**header, **where})


def names_below(
    contents: Mapping[str, bytes], prefix: str, delimiter: str
) -> tuple[list[str], list[str]]:
    """(keys, common prefixes) as object stores list them."""
    keys: list[str] = []
    prefixes: set[str] = set()
    for key in sorted(contents):
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found:
            prefixes.add(f"{prefix}{head}{delimiter}")
        else:
            keys.append(key)
    return keys, sorted(prefixes)
