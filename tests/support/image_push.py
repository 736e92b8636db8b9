"""Puts content of a test into a registry, by the distribution API and without another program."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, BinaryIO

from support.image import MANIFEST_TYPE, Image

_TIMEOUT_S = 60.0

Descriptor = dict[str, Any]
"""Media type, digest and size of a blob or manifest, as OCI manifests name them."""


def push_image(image: Image, authority: str, repository: str, tag: str, *, login: str) -> None:
    """`authority`: host:port, by plain HTTP. `login`: user:password, if the registry wants one."""
    shelf = Shelf(authority, repository, login=login)
    for digest, length in image.blobs.items():
        with _file(image, digest).open("rb") as blob:
            shelf.put_blob(digest, blob, length)
    shelf.put_manifest(_file(image, image.digest).read_bytes(), MANIFEST_TYPE, tag)


class Shelf:
    """One repository of a registry, to be filled. See `push_image` for its arguments."""

    def __init__(self, authority: str, repository: str, *, login: str) -> None:
        said = base64.b64encode(login.encode()).decode()
        self._header = {"Authorization": f"Basic {said}"}
        self._authority = authority
        self._path = f"/v2/{repository}"

    def blob(self, data: bytes, media_type: str, **more: Any) -> Descriptor:
        """Put it there, and describe it; `more` stands in the descriptor."""
        described = describe(data, media_type, **more)
        place = self._ask("POST", f"{self._path}/blobs/uploads/", b"", {})
        self._ask("PUT", f"{place}&digest={described['digest']}", data, {})
        return described

    def manifest(self, value: Mapping[str, Any], tag: str = "", **more: Any) -> Descriptor:
        """Put it there by its tag, or its digest, and describe it."""
        data, media_type = json.dumps(value).encode(), str(value["mediaType"])
        described = describe(data, media_type, **more)
        self.put_manifest(data, media_type, tag or described["digest"])
        return described

    def put_blob(self, digest: str, blob: BinaryIO, length: int) -> None:
        """A file's content, of a digest that is known."""
        place = self._ask("POST", f"{self._path}/blobs/uploads/", b"", {})
        sized = {"Content-Length": str(length)}
        self._ask("PUT", f"{place}&digest={digest}", blob, sized)

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> None:
        """By its tag, or its digest."""
        typed = {"Content-Type": media_type}
        self._ask("PUT", f"{self._path}/manifests/{reference}", data, typed)

    def _ask(self, method: str, url: str, body: bytes | BinaryIO, header: Mapping[str, str]) -> str:
        """The answer's Location."""
        with closing(HTTPConnection(self._authority, timeout=_TIMEOUT_S)) as connection:
            connection.request(method, url, body, {**self._header, **header})
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status in {201, 202}, f"{method} {url}: {answer.status} {said!r}"
        return answer.getheader("Location") or ""


def describe(data: bytes, media_type: str, **more: Any) -> Descriptor:
    """As manifests name it."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


def _file(image: Image, digest: str) -> Path:
    return image.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
