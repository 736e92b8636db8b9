"""A forward proxy as a site has one: absolute-form requests, passed on; it notes who asked."""

from __future__ import annotations

from typing import Self

import aiohttp
from aiohttp import web


class HttpProxy:
    """`asked`: method, URL and Proxy-Authorization of every request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        login = request.headers.get("Proxy-Authorization")
        self.asked.append((request.method, str(request.url), login))
        header = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"proxy-authorization", "proxy-connection", "connection"}
        }
        async with self._session.request(request.method, request.url, headers=header) as answer:
            body = await answer.read()
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}
            }
            return web.Response(status=answer.status, body=body, headers=kept)
