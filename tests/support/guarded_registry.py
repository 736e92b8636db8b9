"""A real docker-registry that wants a log-in, and a token server for it. No root, no mounts.

    async with GuardedRegistry(folder, Guard.BASIC) as registry:
        image = await registry.add("lib/rand", "v1", [b"layer one", b"layer two"])
        ... PreheatImage(url=registry.manifest_url("lib/rand", "v1"), username=USER, ...) ...
        assert await registry.copies(image) == dict.fromkeys(image.contents, 1.0)

Images are put into its storage by a second, open docker-registry that runs only for that.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from support.eventually import eventually

USER, PASSWORD = "alice", "s3cret"
# What `htpasswd -Bbn alice s3cret` writes; the registry takes bcrypt alone.
_HTPASSWD = "alice:$2y$05$TfpgGlZ45vxm7BirEi2U..Kt3igrrfUkOI8IpZ/ebovVrXTwxY5Ka\n"
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_LOG_LINE = re.compile(r'"(?P<method>\S+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<bytes>\d+)')
_START_TIMEOUT_S = 30.0

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Guard(Enum):
    """What the registry wants: nothing, user and password, or a token of its token server."""

    NONE = "none"
    BASIC = "basic"
    TOKEN = "token"  # the name of a kind of log-in


@dataclass(frozen=True)
class PushedImage:
    """Digest of the manifest, and content by digest, the configuration first."""

    digest: str
    contents: dict[str, bytes]

    @property
    def blobs(self) -> list[str]:
        return list(self.contents)


class GuardedRegistry:
    """`log` tells who asked for what since the start."""

    def __init__(self, folder: Path, guard: Guard, *, tls: tuple[Path, Path] | None = None) -> None:
        """`tls`: certificate and key."""
        if shutil.which("docker-registry") is None:
            pytest.skip("a real registry is missing: apt-get install docker-registry")
        self._folder = folder
        self._guard = guard
        self._tls = tls
        self._stack = AsyncExitStack()
        self.tokens = TokenServer(folder)
        self.port = 0
        self._n_marks = 0

    async def __aenter__(self) -> Self:
        if self._guard is Guard.TOKEN:
            await self._stack.enter_async_context(self.tokens)
        process = _Process(self._folder, self._guard.value, self._config())
        self._process = await self._stack.enter_async_context(process)
        self.port = process.port
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """scheme://host:port."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def manifest_url(self, repository: str, reference: str) -> str:
        return f"{self.url}/v2/{repository}/manifests/{reference}"

    def blob_url(self, repository: str, digest: str) -> str:
        return f"{self.url}/v2/{repository}/blobs/{digest}"

    async def login(self, repository: str) -> str:
        """What a client of USER's says in Authorization to pull from a repository."""
        basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if self._guard is not Guard.TOKEN:
            return basic
        place = self.tokens.config()
        query = {"service": place["service"], "scope": f"repository:{repository}:pull"}
        async with (
            aiohttp.ClientSession(headers={"Authorization": basic}) as session,
            session.get(place["realm"], params=query) as answer,
        ):
            return f"Bearer {(await answer.json())['token']}"

    async def add(
        self,
        repository: str,
        tag: str,
        layers: Sequence[bytes],
        architecture: str = "amd64",
        titles: Sequence[str] = (),
    ) -> PushedImage:
        """Store an image of these layers; with titles, for the first of them, an artifact."""
        config = json.dumps({"architecture": architecture, "os": "linux"}).encode()
        contents = {_digest(data): data for data in (config, *layers)}
        descriptors: list[dict[str, Any]] = [
            {"digest": _digest(data), "size": len(data)} for data in (config, *layers)
        ]
        for one, title in zip(descriptors[1:], titles, strict=False):
            one["annotations"] = {"org.opencontainers.image.title": title}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **descriptors[0]},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **one}
                for one in descriptors[1:]
            ],
        }
        body = json.dumps(manifest).encode()
        async with _Process(self._folder, "open", self._config(Guard.NONE)) as store:
            await _push_blobs(f"http://127.0.0.1:{store.port}/v2/{repository}", contents)
            await _push_manifest(store.port, repository, tag, body, MANIFEST_TYPE)
        return PushedImage(digest=_digest(body), contents=contents)

    async def add_index(self, repository: str, tag: str, images: dict[str, PushedImage]) -> str:
        """Store an index of images that are there, by architecture; returns its digest."""
        entries: list[dict[str, Any]] = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": image.digest,
                "size": self._manifest_size(image.digest),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, image in images.items()
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
        body = json.dumps(index).encode()
        async with _Process(self._folder, "open", self._config(Guard.NONE)) as store:
            await _push_manifest(store.port, repository, tag, body, INDEX_TYPE)
        return _digest(body)

    def lose(self, digest: str) -> None:
        """Take a blob away, as a broken disk would."""
        shutil.rmtree(self._place(digest))

    async def copies(self, image: PushedImage) -> dict[str, float]:
        """How many copies of each blob left the registry, by its own log of body bytes."""
        await self._settle()
        log = self._process.log()
        return {
            digest: sum(
                sent
                for method, path, status, sent in log
                if method == "GET" and path.endswith(digest) and status in (200, 206)
            )
            / len(data)
            for digest, data in image.contents.items()
        }

    async def _settle(self) -> None:
        """Wait until the log tells of a request that is made now."""
        self._n_marks += 1
        mark = f"/v2/mark/manifests/{self._n_marks}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}{mark}", ssl=False) as answer,
        ):
            await answer.read()
        await eventually(lambda: any(path == mark for _, path, _, _ in self._process.log()))

    def _manifest_size(self, digest: str) -> int:
        return (self._place(digest) / "data").stat().st_size

    def _place(self, digest: str) -> Path:
        hexadecimal = digest.removeprefix("sha256:")
        blobs = self._folder / "data/docker/registry/v2/blobs/sha256"
        return blobs / hexadecimal[:2] / hexadecimal

    def _config(self, guard: Guard | None = None) -> str:
        guard = self._guard if guard is None else guard
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "data")}},
            "http": {"addr": "127.0.0.1:0", "secret": "of no use here"},
        }
        if guard is not Guard.NONE and self._tls is not None:
            certificate, key = map(str, self._tls)
            config["http"]["tls"] = {"certificate": certificate, "key": key}
        config |= login_config(guard, self._folder, self.tokens)
        return json.dumps(config)  # which is YAML


def login_config(guard: Guard, folder: Path, tokens: TokenServer) -> dict[str, Any]:
    """What docker-registry's configuration says about who may come in; files go into `folder`."""
    if guard is Guard.NONE:
        return {}
    if guard is Guard.TOKEN:
        return {"auth": {"token": tokens.config()}}
    path = folder / "htpasswd"
    path.write_text(_HTPASSWD)
    return {"auth": {"htpasswd": {"realm": "a registry of a test", "path": str(path)}}}


class _Process:
    """docker-registry with this configuration, until the context ends."""

    def __init__(self, folder: Path, name: str, config: str) -> None:
        self._out = folder / f"{name}.out"
        self._err = folder / f"{name}.err"
        self._config = folder / f"{name}.yml"
        self._config.write_text(config)
        self.port = 0

    async def __aenter__(self) -> Self:
        registry = shutil.which("docker-registry")
        assert registry is not None, "the caller has looked for it"
        leash = [sys.executable, "-m", "odonata.swarm.leash", str(os.getpid())]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._child = await asyncio.create_subprocess_exec(
                *(*leash, registry, "serve", str(self._config)), stdout=out, stderr=err
            )
        await eventually(self._has_port, _START_TIMEOUT_S)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._child.terminate()
        await self._child.wait()

    def _has_port(self) -> bool:
        assert self._child.returncode is None, self._err.read_text()
        found = _LISTENING.findall(self._err.read_text())
        self.port = int(found[0]) if found else 0
        return bool(found)

    def log(self) -> list[tuple[str, str, int, int]]:
        """Method, path, status and body bytes of every request that has come to its end."""
        return [
            (found["method"], found["path"], int(found["status"]), int(found["bytes"]))
            for found in _LOG_LINE.finditer(self._out.read_text())
        ]


class TokenServer:
    """Gives out tokens to pull, to USER with PASSWORD and, if `is_open`, to everybody.

    A token is a JWT that says so, signed with a key whose certificate the registry trusts.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        """`host`: its name, as clients are told it."""
        self._host = host
        self._key = folder / "token.key"
        self._certificate = folder / "token.crt"
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.is_open = False
        self.asked: list[dict[str, str]] = []
        """Queries so far."""

    async def __aenter__(self) -> Self:
        await make_certificate(self._certificate, self._key, "token server")
        app = web.Application()
        app.router.add_get("/token", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def config(self) -> dict[str, str]:
        """The registry's `auth.token`."""
        return {
            "realm": f"http://{self._host}:{self._port}/token",
            "service": "a registry",
            "issuer": "a token server",
            "rootcertbundle": str(self._certificate),
        }

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not self.is_open and request.headers.get("Authorization") != f"Basic {login}":
            return web.Response(status=401)
        access: list[dict[str, Any]] = []
        for scope in request.query.getall("scope", []):  # none: a mere log-in
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        return web.json_response({"token": await self._token(access), "expires_in": 300})

    async def _token(self, access: list[dict[str, Any]]) -> str:
        der = _pem_body(self._certificate.read_text())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        now = int(time.time())
        claims = {
            "iss": "a token server",
            "aud": "a registry",
            "sub": USER,
            "jti": "1",
            "nbf": now - 60,
            "iat": now,
            "exp": now + 300,
            "access": access,
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = await _openssl(
            *("dgst", "-sha256", "-sign", str(self._key)), stdin=signed.encode()
        )
        return f"{signed}.{_base64url(signature)}"


async def make_certificate(certificate: Path, key: Path, name: str) -> None:
    """A key and a certificate for 127.0.0.1 that signs itself."""
    await _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(certificate)),
    )


async def _openssl(*words: str, stdin: bytes = b"") -> bytes:
    child = await asyncio.create_subprocess_exec(
        *("openssl", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate(stdin)
    assert child.returncode == 0, err
    return out


def _pem_body(text: str) -> str:
    return "".join(line for line in text.splitlines() if not line.startswith("-----"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def _push_blobs(base: str, contents: dict[str, bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for digest, data in contents.items():
            async with session.post(f"{base}/blobs/uploads/") as begun:
                assert begun.status == 202, await begun.text()
                place = begun.headers["Location"]
            async with session.put(f"{place}&digest={digest}", data=io.BytesIO(data)) as done:
                assert done.status == 201, await done.text()


async def _push_manifest(port: int, repository: str, tag: str, body: bytes, kind: str) -> None:
    url = f"http://127.0.0.1:{port}/v2/{repository}/manifests/{tag}"
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=body, headers={"Content-Type": kind}) as done,
    ):
        assert done.status == 201, await done.text()
