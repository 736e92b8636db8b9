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
from typing import Any, Final

import aiohttp
from yarl import URL

from odonata import __version__
from odonata.errors import ForbiddenError, NotFoundError, OdonataError, SourceError
from odonata.image.manifest import own_platform
from odonata.image.reader import ImageReader, RegistryLogin
from odonata.image.reference import ImageReference, parse_image_reference
from odonata.image.registry_login import basic
from odonata.units import format_size
from odonata.wire.message import Value
from peer.doctor.finding import Finding, failure, ok, split_fix, warning
from peer.settings import ProxyServerSettings

PULL_TIMEOUT_S: Final = 1800.0
"""For all of it: an image of 20 GB at 100 Mbit/s."""
CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 60.0
BLOBS_AT_ONCE: Final = 3
"""As dockerd does it."""
WORDS_MAX: Final = 200
"""Of what is answered instead of content."""
_READ_BYTES: Final = 1 << 20
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LOOK: Final = "look at the daemon's log"


class PullWish(Value, frozen=True, kw_only=True):
    """Which image is to be pulled, and who one is at its registry."""

    image: str
    login: RegistryLogin = RegistryLogin()


class _Refused(Exception):  # noqa: N818  # no error of ours: it becomes a finding
    """An answer of the daemon itself, or of a registry that gives no blob."""


class _Got(Value, frozen=True, kw_only=True):
    length: int
    by_swarm: bool


async def check_pull(wish: PullWish, server: ProxyServerSettings) -> tuple[Finding, ...]:
    """What came of the pull by the proxy that listens there."""
    check = "pull.manifest"
    try:
        image = parse_image_reference(wish.image)
        async with asyncio.timeout(PULL_TIMEOUT_S), _session() as http:
            proxy = _Proxy(http, image, server)
            reader = ImageReader(proxy.get, image, own_platform(), login=wish.login)
            digests = await reader.read()
            found = ok(check, f"it names {len(digests)} blobs", subject=wish.image)
            check = "pull.blobs"
            return found, await _fetched(proxy, image, digests, reader.header, wish.image)
    except _Refused as error:
        detail, fix = str(error), _LOOK
    except ForbiddenError as error:
        detail, fix = split_fix(error.detail)[0], "give --username and --password-file"
    except NotFoundError as error:
        detail, fix = split_fix(error.detail)
    except aiohttp.ClientConnectorError as error:
        detail = f"nobody listens on {error.host}:{error.port}"
        fix = "start the daemon, or give its settings"
    except TimeoutError:
        detail = f"it did not end within {PULL_TIMEOUT_S:g} s, or nothing came for a minute"
        fix = _LOOK
    except (aiohttp.ClientError, OSError) as error:
        detail, fix = f"the answer broke off: {error}", _LOOK
    except SourceError as error:
        detail, fix = error.detail, _LOOK
    except OdonataError as error:
        detail, fix = split_fix(error.detail)
    return (failure(check, detail, fix, subject=wish.image),)


async def _fetched(
    proxy: _Proxy,
    image: ImageReference,
    digests: tuple[str, ...],
    header: Mapping[str, str],
    subject: str,
) -> Finding:
    gate, began_s = asyncio.Semaphore(BLOBS_AT_ONCE), time.monotonic()

    async def fetch(digest: str) -> _Got:
        async with gate:
            return await proxy.fetch(image.blob(digest), digest, header)

    # Not a TaskGroup, which would wrap the first error.
    tasks = [asyncio.ensure_future(fetch(digest)) for digest in digests]
    try:
        got = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    took_s = time.monotonic() - began_s
    past = sum(not one.by_swarm for one in got)
    if past:
        detail = f"{past} of {len(got)} blobs came past the swarm"
        fix = "name them in proxy.rules, such as {regex: blobs/sha256.*}"
        return warning("pull.blobs", detail, fix, subject=subject)
    size = format_size(sum(one.length for one in got))
    detail = f"{len(got)} blobs, {size} in {took_s:.1f} s by the swarm, every digest right"
    return ok("pull.blobs", detail, subject=subject)


@asynccontextmanager
async def _session() -> AsyncGenerator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
    )
    async with aiohttp.ClientSession(
        headers={"User-Agent": f"odonata/{__version__}"},
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield http


class _Proxy:
    """The daemon's proxy as the mirror of one registry; other URLs are got from here."""

    def __init__(
        self, http: aiohttp.ClientSession, image: ImageReference, server: ProxyServerSettings
    ) -> None:
        ip = _ANY.get(server.ip, server.ip)
        self._http = http
        self._registry = image.registry
        self._root = f"http://{f'[{ip}]' if ':' in ip else ip}:{server.port}"
        self._header = {"X-Dragonfly-Registry": image.registry}
        if server.basic_auth is not None:
            password = server.basic_auth.password.get_secret_value()
            self._header["Proxy-Authorization"] = basic(server.basic_auth.username, password)

    async def get(self, url: str, header: Mapping[str, str], limit: int) -> tuple[int, Any, bytes]:
        """See `odonata.image.reader.Get`. _Refused if it was the daemon that answered."""
        async with self._asked(url, header) as answer:
            body = await _limited(answer, limit)
            _check_whose(answer, body)
            return answer.status, answer.headers, body

    async def fetch(self, url: str, digest: str, header: Mapping[str, str]) -> _Got:
        """One blob, hashed. _Refused if it does not come; SourceError if it is another one."""
        algorithm, _, expected = digest.partition(":")
        hashed, length = hashlib.new(algorithm), 0
        async with self._asked(url, header) as answer:
            if answer.status != 200:
                body = await answer.content.read(WORDS_MAX)
                raise _Refused(f"blob {digest}: {answer.status} {_words(body)}")
            async for data in answer.content.iter_chunked(_READ_BYTES):
                hashed.update(data)
                length += len(data)
            by_swarm = "X-Dragonfly-Task-ID" in answer.headers
        if hashed.hexdigest() != expected:
            raise SourceError(f"blob {digest} came with other bytes")
        return _Got(length=length, by_swarm=by_swarm)

    def _asked(self, url: str, header: Mapping[str, str]) -> Any:
        if url.startswith(f"{self._registry}/"):
            url = self._root + url.removeprefix(self._registry)
            header = {**header, **self._header}
        return self._http.get(URL(url, encoded=True), headers=header)


def _check_whose(answer: aiohttp.ClientResponse, body: bytes) -> None:
    """_Refused if the daemon says no, not the registry behind it."""
    if answer.headers.get("X-Dragonfly-Error-Type") in {"proxy", "dfdaemon"}:
        raise _Refused(f"the daemon answers {answer.status}: {_words(body)}")


def _words(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())[:WORDS_MAX]


async def _limited(answer: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for part in answer.content.iter_chunked(_READ_BYTES):
        data += part
        if len(data) > most:
            raise SourceError(f"the answer is longer than {most} bytes: it is no manifest")
    return bytes(data)
