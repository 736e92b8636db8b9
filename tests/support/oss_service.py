"""The few REST calls of Alibaba Cloud's OSS that reading, listing and writing objects take.

Path style, as its SDK speaks to an IP address. Requests are signed (version 1: HMAC-SHA1), and the
signature is checked: another key is refused with 403.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web
from support.web_service import WebService, names_below, ranged

ACCESS_KEY_ID = "LTAI-test"
ACCESS_KEY_SECRET = "an-oss-secret"
_CHANGED = formatdate(1_700_000_000, usegmt=True)
# Of the query, what the signature covers ("sub-resources").
_SIGNED = {"uploads", "uploadId", "partNumber", "continuation-token"}


@dataclass
class OssService(WebService):
    """`contents` by "bucket/key"."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self._is_signed(request):
            return _error(403, "SignatureDoesNotMatch")
        key = request.path.lstrip("/")
        bucket, _, name = key.partition("/")
        if not name:
            return self._list(request, bucket)
        if request.method == "POST":
            return await self._post(request, bucket, name)
        if request.method == "PUT":
            part = request.query.get("partNumber")
            stored = f".parts/{request.query['uploadId']}/{int(part):05}" if part else key
            self.contents[stored] = await request.read()
            return web.Response(headers={"ETag": f'"{_md5(self.contents[stored])}"'})
        if key not in self.contents:
            return _error(404, "NoSuchKey")
        data = self.contents[key]
        header = {
            "ETag": f'"{_md5(data)}"',
            "Last-Modified": _CHANGED,
            "Content-Type": "application/octet-stream",
            "x-oss-object-type": "Normal",
        }
        return ranged(request, data, header, request.headers.get("Range"))

    async def _post(self, request: web.Request, bucket: str, name: str) -> web.Response:
        if "uploads" in request.query:
            text = (
                "<InitiateMultipartUploadResult><UploadId>one</UploadId>"
                f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key></InitiateMultipartUploadResult>"
            )
            return web.Response(text=text, content_type="application/xml")
        parts = sorted(key for key in self.contents if key.startswith(".parts/"))
        self.contents[f"{bucket}/{name}"] = b"".join(self.contents.pop(one) for one in parts)
        kind = "CompleteMultipartUploadResult"
        text = f"<{kind}><Key>{escape(name)}</Key></{kind}>"
        return web.Response(text=text, content_type="application/xml", headers={"ETag": '"1"'})

    def _is_signed(self, request: web.Request) -> bool:
        found = re.fullmatch(r"OSS ([^:]+):(.+)", request.headers.get("Authorization", ""))
        if found is None or found[1] != ACCESS_KEY_ID:
            return False
        own = sorted(
            f"{name.lower()}:{value}\n"
            for name, value in request.headers.items()
            if name.lower().startswith("x-oss-")
        )
        signed = "&".join(
            sorted(f"{k}={v}" if v else k for k, v in request.query.items() if k in _SIGNED)
        )
        resource = request.path + (f"?{signed}" if signed else "")
        head = request.headers
        text = "\n".join(
            (
                request.method,
                head.get("Content-MD5", ""),
                head.get("Content-Type", ""),
                head.get("Date", ""),
                "".join(own) + resource,
            )
        )
        digest = hmac.new(ACCESS_KEY_SECRET.encode(), text.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(base64.b64encode(digest).decode(), found[2])

    def _list(self, request: web.Request, bucket: str) -> web.Response:
        prefix = f"{bucket}/{request.query.get('prefix', '')}"
        keys, folders = names_below(self.contents, prefix, request.query.get("delimiter", ""))
        objects = "".join(
            f"<Contents><Key>{escape(key.removeprefix(f'{bucket}/'))}</Key>"
            '<LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>"1"</ETag>'
            f"<Type>Normal</Type><Size>{len(self.contents[key])}</Size>"
            "<StorageClass>Standard</StorageClass></Contents>"
            for key in keys
        )
        prefixes = "".join(
            f"<CommonPrefixes><Prefix>{escape(one.removeprefix(f'{bucket}/'))}</Prefix>"
            "</CommonPrefixes>"
            for one in folders
        )
        text = (
            f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>"
            f"{objects}{prefixes}</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest().upper()


def _error(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>no</Message><RequestId>1</RequestId></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")
