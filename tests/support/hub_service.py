"""A model hub: the pages of its tree, and `resolve`, which sends on to a store at another address.

Whoever brings another token than TOKEN is refused with 401. The store takes no token: it answers
400 to who brings one. Its addresses are signed, each time anew; without a signature it answers 403.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web
from support.web_service import WebService, ranged

TOKEN = "hf_a-token-of-a-test"
COMMIT = "c0ffee" * 6 + "c0de"  # whatever the revision
SIGNED = {"Policy", "Signature", "Key-Pair-Id"}
"""Query parameters of the store's addresses."""
PAGE = 2  # entries


@dataclass
class HubStore(WebService):
    """`contents` by path."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return web.Response(status=400)
        if not request.query.keys() >= SIGNED:
            return web.Response(status=403)
        data = self.contents[request.path]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return ranged(request, data, {"ETag": etag}, request.headers.get("Range"))


@dataclass
class HubService(WebService):
    """`contents` by "kind/owner/repository/revision/path" (kind: models, datasets or spaces)."""

    store: HubStore = field(default_factory=HubStore)
    store_url: str = ""
    """Where the store is reached, if not at its own address."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, headers={"X-Error-Code": "RepoNotFound"})
        if request.path.startswith("/api/"):
            return self._tree(request)
        where = request.path.lstrip("/").replace("/resolve/", "/", 1)
        if where.partition("/")[0] not in {"datasets", "spaces"}:
            where = f"models/{where}"
        if where not in self.contents:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        path, data = f"/{where}", self.contents[where]
        self.store.contents[path] = data
        signed = "&".join(f"{name}={len(self.requests)}" for name in sorted(SIGNED))
        header = {
            "Location": f"{self.store_url or self.store.address}{quote(path)}?{signed}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
        }
        return web.Response(status=302, headers=header)

    def _tree(self, request: web.Request) -> web.Response:
        root = request.path.removeprefix("/api/").replace("/tree/", "/", 1).rstrip("/")
        repository = "/".join(root.split("/")[:4])
        below = sorted(key for key in self.contents if key.startswith(f"{root}/"))
        if not below:
            return web.Response(status=404)
        entries: dict[str, dict[str, object]] = {}
        for key in below:
            parts = key.removeprefix(f"{repository}/").split("/")
            for end in range(1, len(parts)):
                folder = "/".join(parts[:end])
                if len(f"{repository}/{folder}") > len(root):
                    entries[folder] = {"type": "directory", "path": folder, "size": 0}
            path = "/".join(parts)
            entries[path] = {"type": "file", "path": path, "size": len(self.contents[key])}
        start = int(request.query.get("cursor", 0))
        page = list(entries.values())[start : start + PAGE]
        header: dict[str, str] = {}
        if start + PAGE < len(entries):
            query = f"recursive={request.query['recursive']}&cursor={start + PAGE}"
            header["Link"] = f'<{self.address}{quote(request.path)}?{query}>; rel="next"'
        return web.json_response(page, headers=header)
