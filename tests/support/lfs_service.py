"""A store of Git LFS: the batch API, and objects at addresses that are signed for each client.

`contents` by oid. `sent_bytes` says what of each object has left, all answers together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from support.web_service import WebService, ranged

_TYPE = "application/vnd.git-lfs+json"
_OBJECTS = "/objects/"


@dataclass
class LfsService(WebService):
    """`host`: its name, as clients are told it."""

    host: str = "127.0.0.1"
    sent_bytes: Counter[str] = field(default_factory=Counter[str])
    batches: int = 0
    """How often somebody has asked where objects are."""

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.path == "/objects/batch":
            self.batches += 1
            asked = await request.json()
            objects = [self._download(one["oid"]) for one in asked["objects"]]
            return web.json_response({"objects": objects}, content_type=_TYPE)
        oid = request.path.removeprefix(_OBJECTS)
        if request.method not in {"GET", "HEAD"} or oid not in self.contents:
            return web.Response(status=404)
        response = ranged(request, self.contents[oid], {}, request.headers.get("Range"))
        if request.method == "GET" and isinstance(response.body, bytes):
            self.sent_bytes[oid] += len(response.body)
        return response

    def _download(self, oid: str) -> dict[str, Any]:
        href = f"{self.address}{_OBJECTS}{oid}?X-Amz-Signature={self.batches}"
        return {
            "oid": oid,
            "size": len(self.contents[oid]),
            "actions": {"download": {"href": href, "expires_in": 300}},
        }
