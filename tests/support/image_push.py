"""Puts an image of a test into a registry, by the distribution API and without another program."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import BinaryIO

from support.image import MANIFEST_TYPE, Image

_TIMEOUT_S = 60.0


def push_image(image: Image, authority: str, repository: str, tag: str, *, login: str) -> None:
    """`authority`: host:port, by plain HTTP. `login`: user:password, if the registry wants one."""
    header = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    path = f"/v2/{repository}"
    with closing(HTTPConnection(authority, timeout=_TIMEOUT_S)) as connection:
        for digest, length in image.blobs.items():
            place = _ask(connection, "POST", f"{path}/blobs/uploads/", b"", header)
            sized = {**header, "Content-Length": str(length)}
            with _file(image, digest).open("rb") as blob:
                _ask(connection, "PUT", f"{place}&digest={digest}", blob, sized)
        typed = {**header, "Content-Type": MANIFEST_TYPE}
        manifest = _file(image, image.digest).read_bytes()
        _ask(connection, "PUT", f"{path}/manifests/{tag}", manifest, typed)


def _file(image: Image, digest: str) -> Path:
    return image.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _ask(
    connection: HTTPConnection,
    method: str,
    url: str,
    body: bytes | BinaryIO,
    header: Mapping[str, str],
) -> str:
    """The answer's Location."""
    connection.request(method, url, body, dict(header))
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status in {201, 202}, f"{method} {url}: {answer.status} {said!r}"
    return answer.getheader("Location") or ""
