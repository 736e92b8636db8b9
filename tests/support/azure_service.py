"""The few REST calls of Azure Blob Storage that reading, listing and writing blobs take.

Account ACCOUNT, container by the first part of the path. Who signs for another account, or not at
all, is refused with 403; the signature itself is not computed anew.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web
from support.web_service import WebService, names_below, ranged

ACCOUNT = "testaccount"
KEY = base64.b64encode(b"a key that only this test knows.").decode()
_CHANGED = formatdate(1_700_000_000, usegmt=True)


@dataclass
class AzureService(WebService):
    """`contents` by "container/blob"."""

    _blocks: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def endpoint(self) -> str:
        return f"{self.address}/{ACCOUNT}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not request.headers.get("Authorization", "").startswith(f"SharedKey {ACCOUNT}:"):
            return _error(403, "AuthenticationFailed")
        key = request.path.removeprefix(f"/{ACCOUNT}/")
        if request.query.get("comp") == "list":
            return self._list(request, key.strip("/"))
        if request.method == "PUT":
            return await self._put(request, key)
        if key not in self.contents:
            return _error(404, "BlobNotFound" if "/" in key else "ContainerNotFound")
        data = self.contents[key]
        header = {
            "ETag": f'"0x{hashlib.md5(data).hexdigest().upper()}"',
            "Last-Modified": _CHANGED,
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }
        asked = request.headers.get("x-ms-range") or request.headers.get("Range")
        answer = ranged(request, data, header, asked)
        return _error(416, "InvalidRange") if answer.status == 416 else answer

    async def _put(self, request: web.Request, key: str) -> web.StreamResponse:
        body = await request.read()
        kind = request.query.get("comp", "")
        if kind == "block":
            self._blocks[request.query["blockid"]] = body
        elif kind == "blocklist":
            names = body.decode().split("<Latest>")[1:]
            ids = [name.partition("<")[0] for name in names]
            self.contents[key] = b"".join(self._blocks.pop(one) for one in ids)
        else:
            self.contents[key] = body
        return web.Response(status=201, headers={"ETag": '"0x1"', "Last-Modified": _CHANGED})

    def _list(self, request: web.Request, container: str) -> web.Response:
        prefix = f"{container}/{request.query.get('prefix', '')}"
        keys, folders = names_below(self.contents, prefix, request.query.get("delimiter", ""))
        blobs = "".join(
            f"<Blob><Name>{escape(key.removeprefix(f'{container}/'))}</Name><Properties>"
            f"<Last-Modified>{_CHANGED}</Last-Modified><Etag>0x1</Etag>"
            f"<Content-Length>{len(self.contents[key])}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for key in keys
        )
        prefixes = "".join(
            f"<BlobPrefix><Name>{escape(one.removeprefix(f'{container}/'))}</Name></BlobPrefix>"
            for one in folders
        )
        text = (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<EnumerationResults ServiceEndpoint="{self.endpoint}/" ContainerName="{container}">'
            f"<Blobs>{blobs}{prefixes}</Blobs><NextMarker/></EnumerationResults>"
        )
        return web.Response(text=text, content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'
    return web.Response(
        status=status, text=body, content_type="application/xml", headers={"x-ms-error-code": code}
    )
