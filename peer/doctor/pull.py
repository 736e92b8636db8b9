"""One pull, end to end, as a client of the daemon's proxy: manifest, log-in, every blob.

The proxy is asked as the mirror of the image's registry, so it is this host's daemon that reaches
the registry and trusts its certificate; only a token server is asked from here, as clients do. Each
blob is hashed and thrown away. What is proved: that the image comes, right, and by the swarm.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from odonata import __version__
from odonata.errors import CallerError, OdonataError
from odonata.image.manifest import (
    ACCEPT,
    Platform,
    check_digest,
    is_digest,
    own_platform,
    read_manifest,
)
from odonata.image.reference import ImageReference, parse_image_reference
from odonata.image.registry_login import basic, read_challenges, read_token, token_url
from odonata.units import format_size
from odonata.wire.message import Value
from peer.doctor.finding import Finding, failure, ok, split_fix, warning
from peer.settings import ProxySettings

PULL_TIMEOUT_S: Final = 1800.0
"""For all of it: an image of 20 GB at 100 Mbit/s."""
CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 60.0
BLOBS_AT_ONCE: Final = 3
"""As dockerd does it."""
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
WORDS_MAX: Final = 200
"""Of what is answered instead of content."""
DEPTH_MAX: Final = 3
"""Indexes in indexes."""
_READ_BYTES: Final = 1 << 20
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_FIXES: Final = {
    401: "give the registry's --username and --password-file",
    403: "ask whoever runs the registry, or this host's lists, for leave",
    404: "check the image's name",
    407: "set proxy.server.basicAuth as the daemon has it",
}


class PullWish(Value, frozen=True, kw_only=True):
    """Which image is to be pulled, and who one is at its registry ("": nobody)."""

    image: str
    username: str = ""
    password: str = ""
    platform: Platform | None = None
    """Of an index; None: this machine's."""

    def __repr__(self) -> str:
        return f"PullWish({self.image!r}, username={self.username!r})"


class _Refused(Exception):  # noqa: N818  # no error of ours: it becomes a finding
    """An answer that is no content."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Got(Value, frozen=True, kw_only=True):
    length: int
    by_swarm: bool


async def check_pull(wish: PullWish, proxy: ProxySettings) -> tuple[Finding, ...]:
    """What came of the pull."""
    check = "pull.manifest"
    try:
        image = parse_image_reference(wish.image)
        async with asyncio.timeout(PULL_TIMEOUT_S), _session(proxy) as http:
            pull = _Pull(http, image, wish, proxy)
            digests = await pull.blobs(image.reference, DEPTH_MAX)
            found = ok(check, f"it names {len(digests)} blobs", subject=wish.image)
            check = "pull.blobs"
            return found, await _fetched(pull, digests, wish.image)
    except _Refused as error:
        fix = _FIXES.get(error.status, "look at the daemon's log")
        return (failure(check, f"{error.status}: {error}", fix, subject=wish.image),)
    except aiohttp.ClientConnectorError:
        where = f"{proxy.server.ip}:{proxy.server.port}"
        fix = "start the daemon, or give its settings"
        return (failure(check, f"no proxy listens on {where}", fix, subject=wish.image),)
    except TimeoutError:
        detail = f"it did not end within {PULL_TIMEOUT_S:g} s, or nothing came for a minute"
        return (failure(check, detail, "look at the daemon's log", subject=wish.image),)
    except (aiohttp.ClientError, OSError) as error:
        fix = "look at the daemon's log"
        return (failure(check, f"the answer broke off: {error}", fix, subject=wish.image),)
    except OdonataError as error:
        detail, fix = split_fix(error.detail)
        return (failure(check, detail, fix, subject=wish.image),)


async def _fetched(pull: _Pull, digests: tuple[str, ...], image: str) -> Finding:
    gate, began_s = asyncio.Semaphore(BLOBS_AT_ONCE), time.monotonic()

    async def fetch(digest: str) -> _Got:
        async with gate:
            return await pull.fetch(digest)

    # Not a TaskGroup, which would wrap the first error.
    tasks = [asyncio.ensure_future(fetch(digest)) for digest in digests]
    try:
        got = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    took_s = time.monotonic() - began_s
    size = format_size(sum(one.length for one in got))
    past = sum(not one.by_swarm for one in got)
    if past:
        detail = f"{past} of {len(got)} blobs came past the swarm"
        fix = "name them in proxy.rules, such as {regex: blobs/sha256.*}"
        return warning("pull.blobs", detail, fix, subject=image)
    detail = f"{len(got)} blobs, {size} in {took_s:.1f} s by the swarm, every digest right"
    return ok("pull.blobs", detail, subject=image)


@asynccontextmanager
async def _session(proxy: ProxySettings) -> AsyncGenerator[aiohttp.ClientSession]:
    login = proxy.server.basic_auth
    header = {"User-Agent": f"odonata/{__version__}"}
    if login is not None:
        said = basic(login.username, login.password.get_secret_value())
        header["Proxy-Authorization"] = said
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
    )
    async with aiohttp.ClientSession(
        headers=header, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield http


class _Pull:
    """Questions of one image, with what its registry wants to be shown."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        image: ImageReference,
        wish: PullWish,
        proxy: ProxySettings,
    ) -> None:
        server = proxy.server
        ip = _ANY.get(server.ip, server.ip)
        self._http = http
        self._image = image
        self._wish = wish
        host = f"[{ip}]" if ":" in ip else ip
        self._root = f"http://{host}:{server.port}/v2/{image.repository}"
        self._header = {"X-Dragonfly-Registry": image.registry}

    async def blobs(self, reference: str, depth: int) -> tuple[str, ...]:
        """Digests of all blobs of the platform's image."""
        what = f"manifest {reference}"
        data = await self._manifest(reference)
        if is_digest(reference):
            check_digest(data, reference, what)
        manifest = read_manifest(data, self._wish.platform or own_platform(), what)
        found = list(manifest.blobs)
        for digest in manifest.manifests:
            if not depth:
                raise CallerError(f"{what} names an index too many: name a platform's manifest")
            found += await self.blobs(digest, depth - 1)
        return tuple(dict.fromkeys(found))

    async def fetch(self, digest: str) -> _Got:
        """One blob, hashed. CallerError if it is another one."""
        algorithm, _, expected = digest.partition(":")
        hashed, length = hashlib.new(algorithm), 0
        async with self._http.get(f"{self._root}/blobs/{digest}", headers=self._header) as answer:
            await _require(answer)
            async for data in answer.content.iter_chunked(_READ_BYTES):
                hashed.update(data)
                length += len(data)
            by_swarm = "X-Dragonfly-Task-ID" in answer.headers
        if hashed.hexdigest() != expected:
            raise CallerError(f"blob {digest} came with other bytes; look at the daemon's log")
        return _Got(length=length, by_swarm=by_swarm)

    async def _manifest(self, reference: str) -> bytes:
        url, header = f"{self._root}/manifests/{reference}", {"Accept": ACCEPT}
        async with self._http.get(url, headers={**self._header, **header}) as answer:
            if answer.status != 401 or "Authorization" in self._header:
                await _require(answer)
                return await _limited(answer, MANIFEST_BYTES_MAX)
            challenges = answer.headers.getall("WWW-Authenticate", [])
        self._header["Authorization"] = await self._login(challenges)
        return await self._manifest(reference)

    async def _login(self, challenges: list[str]) -> str:
        wish = self._wish
        known = {one.scheme: one for text in challenges for one in read_challenges(text)}
        if "bearer" not in known:
            if not wish.username:
                raise _Refused(401, "the registry wants user and password")
            return basic(wish.username, wish.password)
        where = token_url(known["bearer"], self._image.repository, self._image.registry)
        header: Mapping[str, str] = (
            {"Authorization": basic(wish.username, wish.password)} if wish.username else {}
        )
        # Of its own: the proxy's login is not the token server's business.
        async with (
            aiohttp.ClientSession(timeout=self._http.timeout) as http,
            http.get(URL(where, encoded=True), headers=header) as answer,
        ):
            await _require(answer)
            return read_token(await _limited(answer, MANIFEST_BYTES_MAX), self._image.registry)


async def _require(answer: aiohttp.ClientResponse) -> None:
    """_Refused, with what it says, unless it is content."""
    if answer.status != 200:
        words = (await _limited(answer, MANIFEST_BYTES_MAX)).decode(errors="replace")
        raise _Refused(answer.status, " ".join(words.split())[:WORDS_MAX])


async def _limited(answer: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for part in answer.content.iter_chunked(_READ_BYTES):
        data += part
        if len(data) > most:
            raise CallerError(f"the answer is longer than {most} bytes; it is no manifest")
    return bytes(data)
