"""A package index as PEP 503 has it: pages of links, and wheels, with a log-in or without.

index.add("thing", size=MIB, seed=1)        # .../none/simple/ and .../basic/simple/ have it
assert index.copies("thing") == 1.0         # of its one wheel, all log-ins together
"""

from __future__ import annotations

import base64
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO

from aiohttp import web
from support.content import make_content
from support.guarded_registry import PASSWORD, USER, Guard
from support.web_service import WebService, ranged

_LOGIN = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


@dataclass
class PackageIndex(WebService):
    """`contents` by the wheels' file names."""

    sent_bytes: Counter[str] = field(default_factory=Counter[str])
    pages: Counter[str] = field(default_factory=Counter[str])
    """How often each package's page has been given."""

    def add(self, package: str, *, size: int, seed: int) -> bytes:
        """Version 1.0 of a package with so many random bytes; returns its wheel."""
        wheel = self.contents[wheel_name(package)] = _make_wheel(package, size, seed)
        return wheel

    def copies(self, package: str) -> float:
        """How often its wheel has left."""
        name = wheel_name(package)
        return self.sent_bytes[name] / len(self.contents[name])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        login, folder, name, *_ = [*request.path.strip("/").split("/"), "", ""]
        if Guard(login) is Guard.BASIC and request.headers.get("Authorization") != _LOGIN:
            challenge = {"WWW-Authenticate": 'Basic realm="an index of a test"'}
            return web.Response(status=401, headers=challenge)
        if folder == "simple" and wheel_name(name) in self.contents:
            self.pages[name] += 1
            link = f'<a href="../../files/{wheel_name(name)}">{wheel_name(name)}</a>'
            return web.Response(text=link, content_type="text/html")
        if folder != "files" or name not in self.contents:
            return web.Response(status=404)
        response = ranged(request, self.contents[name], {}, request.headers.get("Range"))
        if request.method == "GET" and isinstance(response.body, bytes):
            self.sent_bytes[name] += len(response.body)
        return response


def wheel_name(package: str) -> str:
    return f"{package.replace('-', '_')}-1.0-py3-none-any.whl"


def _make_wheel(package: str, size: int, seed: int) -> bytes:
    """One that pip takes."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}/data.bin": make_content(size, seed=seed),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return out.getvalue()
