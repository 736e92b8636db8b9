"""Fetches a real image's layers from its registry, once, so that the demo's origin can serve them.

Speaks the distribution API as far as an anonymous pull needs it: Bearer tokens, manifest lists,
blobs. It trusts nothing it gets: each blob must match its digest.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from odonata.errors import CallerError, DigestMismatchError, SourceError
from odonata.swarm.demo.image import Image, Layer, blob_path

READ_BYTES = 256 << 10
ACCEPT: Final = ", ".join(
    f"application/{kind}"
    for kind in (
        "vnd.oci.image.index.v1+json",
        "vnd.docker.distribution.manifest.list.v2+json",
        "vnd.oci.image.manifest.v1+json",
        "vnd.docker.distribution.manifest.v2+json",
    )
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_REFERENCE = re.compile(
    r"(?:(?P<host>[^/]*[.:][^/]*|localhost)/)?(?P<name>[a-z0-9][a-z0-9._/-]*)"
    r"(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class Registry:
    """One repository of one registry, with its token."""

    def __init__(self, session: aiohttp.ClientSession, base: str, name: str) -> None:
        self._session = session
        self._base = f"{base}/v2/{name}"
        self._name = name
        self._header: dict[str, str] = {}

    async def get(self, path: str, accept: str = "*/*") -> aiohttp.ClientResponse:
        """GET below the repository; fetches an anonymous token when asked for one."""
        response = await self._ask(path, accept)
        if response.status == 401 and not self._header:
            await self._log_in(response.headers.get("WWW-Authenticate", ""))
            response = await self._ask(path, accept)
        if response.status != 200:
            raise SourceError(
                f"{self._base}/{path}: HTTP {response.status}", status_code=response.status
            )
        return response

    async def _ask(self, path: str, accept: str) -> aiohttp.ClientResponse:
        header = {"Accept": accept, "Accept-Encoding": "identity", **self._header}
        return await self._session.get(f"{self._base}/{path}", headers=header)

    async def _log_in(self, challenge: str) -> None:
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.startswith("Bearer ") or "realm" not in asked:
            raise SourceError(f"{self._name} needs a login, which the demo does not have")
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        async with self._session.get(f"{asked['realm']}?{urlencode(query)}") as response:
            answer: dict[str, Any] = await response.json()
        self._header = {"Authorization": f"Bearer {answer.get('token') or answer['access_token']}"}


def parse_reference(reference: str) -> tuple[str, str, str]:
    """Registry URL, repository name, tag or digest of `reference`, with docker's defaults."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise CallerError(f"--image {reference}: not an image reference such as alpine:3.20")
    host, name = found["host"] or "docker.io", found["name"]
    if host == "docker.io":
        host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
    scheme = "http" if host.split(":")[0] in {"localhost", "127.0.0.1"} else "https"
    return f"{scheme}://{host}", name, found["digest"] or found["tag"] or "latest"


async def fetch_image(console: Console, reference: str, folder: Path) -> Image:
    """Put the layers of `reference` into `folder`, each checked, with a progress bar."""
    base, name, tag = parse_reference(reference)
    try:
        async with aiohttp.ClientSession() as session:
            registry = Registry(session, base, name)
            layers = await _layers(registry, tag)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
            )
            with Progress(*columns, console=console) as progress:
                for layer in layers:
                    bar = progress.add_task(layer.digest[:19], total=layer.size)
                    await _fetch_blob(registry, layer, folder, partial(progress.advance, bar))
    except aiohttp.ClientError as error:
        raise SourceError(f"--image {reference}: {base} can't be reached: {error}") from error
    return Image(name=name, layers=layers)


async def _layers(registry: Registry, tag: str) -> tuple[Layer, ...]:
    manifest = await _manifest(registry, tag)
    if "manifests" in manifest:
        architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        for entry in manifest["manifests"]:
            wanted = entry.get("platform", {})
            if wanted.get("os") == "linux" and wanted.get("architecture") == architecture:
                manifest = await _manifest(registry, entry["digest"])
                break
        else:
            raise CallerError(f"--image: there is no linux/{architecture} image of {tag}")
    unique = {layer["digest"]: int(layer["size"]) for layer in manifest["layers"]}
    return tuple(Layer(digest=digest, size=size) for digest, size in unique.items())


async def _manifest(registry: Registry, tag: str) -> dict[str, Any]:
    async with await registry.get(f"manifests/{tag}", ACCEPT) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
    return answer


async def _fetch_blob(
    registry: Registry, layer: Layer, folder: Path, advance: Callable[[float], None]
) -> None:
    digest = hashlib.sha256()
    async with await registry.get(f"blobs/{layer.digest}") as response:
        with blob_path(folder, layer.digest).open("wb") as file:
            async for chunk in response.content.iter_chunked(READ_BYTES):
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
    if f"sha256:{digest.hexdigest()}" != layer.digest:
        raise DigestMismatchError(f"{layer.digest} arrived damaged from its registry")
