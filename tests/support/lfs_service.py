"""A store of Git LFS: the batch API, and objects at addresses that are signed for each client.

By the first part of its path: /none lets in everybody. /basic wants USER's password for both; the
batch API tells its clients to say it again. /token gives whoever has it a token for the objects.
`contents` by oid. `sent_bytes` says what of each object has left, all answers together.
"""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from support.guarded_registry import PASSWORD, USER, Guard
from support.web_service import WebService, ranged

_TYPE = "application/vnd.git-lfs+json"
_BASIC = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
_OF_OBJECTS = {Guard.NONE: None, Guard.BASIC: _BASIC, Guard.TOKEN: "Bearer a-token-for-objects"}


@dataclass
class LfsService(WebService):
    """`by_tls`: host:port of the doors with TLS before it: addresses that it tells are https."""

    by_tls: set[str] = field(default_factory=set[str])
    sent_bytes: Counter[str] = field(default_factory=Counter[str])
    batches: Counter[str] = field(default_factory=Counter[str])
    """How often somebody has been told where an object is."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        login, _, rest = request.path.lstrip("/").partition("/")
        guard, said = Guard(login), request.headers.get("Authorization")
        if request.method == "POST" and rest == "objects/batch":
            if guard is not Guard.NONE and said != _BASIC:
                return _who_are_you()
            asked = await request.json()
            objects = [self._download(request, guard, one["oid"]) for one in asked["objects"]]
            return web.json_response({"objects": objects}, content_type=_TYPE)
        oid = rest.removeprefix("objects/")
        if request.method not in {"GET", "HEAD"} or oid not in self.contents:
            return web.Response(status=404)
        if guard is not Guard.NONE and said != _OF_OBJECTS[guard]:
            return _who_are_you()
        response = ranged(request, self.contents[oid], {}, request.headers.get("Range"))
        if request.method == "GET" and isinstance(response.body, bytes):
            self.sent_bytes[oid] += len(response.body)
        return response

    def _download(self, request: web.Request, guard: Guard, oid: str) -> dict[str, Any]:
        self.batches[oid] += 1
        scheme = "https" if request.host in self.by_tls else "http"
        where = f"{scheme}://{request.host}/{guard.value}/objects/{oid}"
        action: dict[str, Any] = {
            "href": f"{where}?X-Amz-Signature={self.batches[oid]}",
            "expires_in": 300,
        }
        if _OF_OBJECTS[guard] is not None:
            action["header"] = {"Authorization": _OF_OBJECTS[guard]}
        return {"oid": oid, "size": len(self.contents[oid]), "actions": {"download": action}}


def _who_are_you() -> web.Response:
    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="a test"'})
