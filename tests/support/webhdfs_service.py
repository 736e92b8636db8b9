"""The few calls of WebHDFS that reading and listing take: a name node that sends on to data nodes.

Whoever brings another delegation token than TOKEN is refused, as Hadoop does.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from support.web_service import WebService

TOKEN = "HAAEcm9vdAdyZW5ld2Vy-delegation"
_PREFIX = "/webhdfs/v1"
_CHANGED_MS = 1_700_000_000_000


@dataclass
class WebHdfsService(WebService):
    """`contents` by path, which begins with a slash."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(_PREFIX).rstrip("/") or "/"
        if request.path.startswith("/data-node"):
            return self._send(request)
        if request.query.get("delegation") != TOKEN:
            return _error(403, "AccessControlException")
        return self._of_name_node(request.query["op"], path, request.query_string)

    def _of_name_node(self, op: str, path: str, query: str) -> web.Response:
        if op == "OPEN":
            if path not in self.contents:
                return _error(404, "FileNotFoundException")
            where = f"/data-node{path}?{query}"
            return web.Response(status=307, headers={"Location": f"{self.address}{where}"})
        if op == "GETFILESTATUS":
            status = self._status(path)
            if status is None:
                return _error(404, "FileNotFoundException")
            return web.json_response({"FileStatus": status})
        assert op == "LISTSTATUS"
        return self._list(path)

    def _send(self, request: web.Request) -> web.Response:
        data = self.contents[request.path.removeprefix("/data-node")]
        start = int(request.query.get("offset", 0))
        length = int(request.query.get("length", len(data)))
        return web.Response(body=data[start : start + length])

    def _status(self, path: str) -> dict[str, object] | None:
        is_file = path in self.contents
        if not is_file and not any(one.startswith(f"{path.rstrip('/')}/") for one in self.contents):
            return None
        return {
            "pathSuffix": "",
            "type": "FILE" if is_file else "DIRECTORY",
            "length": len(self.contents[path]) if is_file else 0,
            "modificationTime": _CHANGED_MS,
        }

    def _list(self, path: str) -> web.Response:
        if path in self.contents:
            return web.json_response({"FileStatuses": {"FileStatus": [self._status(path)]}})
        start = f"{path.rstrip('/')}/"
        names = {
            one.removeprefix(start).partition("/")[0]
            for one in self.contents
            if one.startswith(start)
        }
        if not names:
            return _error(404, "FileNotFoundException")
        found = [
            {**(self._status(start + name) or {}), "pathSuffix": name} for name in sorted(names)
        ]
        return web.json_response({"FileStatuses": {"FileStatus": found}})


def _error(status: int, kind: str) -> web.Response:
    text = {"RemoteException": {"exception": kind, "message": "no", "javaClassName": kind}}
    return web.json_response(text, status=status)
