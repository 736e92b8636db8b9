"""A web server whose contents change: ETags, conditional requests, a log of what was asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from aiohttp import web
from support.web_service import WebService, ranged


@dataclass
class VersionedOrigin(WebService):
    """`contents` by path. `etags` False: it names no validators."""

    etags: bool = True

    def put(self, path: str, data: bytes) -> str:
        self.contents[path] = data
        return f"{self.address}{path}"

    @property
    def statuses(self) -> list[int]:
        """Of the answers so far."""
        return self._statuses

    def __post_init__(self) -> None:
        self._statuses: list[int] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = self._answer_to(request)
        self._statuses.append(answer.status)
        return answer

    def _answer_to(self, request: web.Request) -> web.Response:
        data = self.contents.get(request.path)
        if data is None:
            return web.Response(status=404)
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.etags and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        header = {"ETag": etag} if self.etags else {}
        return ranged(request, data, header, request.headers.get("Range"))
