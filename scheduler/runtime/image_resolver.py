"""From the URL of an image's manifest to the URLs of its blobs, and the header to fetch them with.

The registry is asked as any client would: with the `Authorization` that the request brought, else
after a look at `/v2/` with user and password, by a Bearer token or by plain Basic, whichever the
registry wants. Certificates are verified against the system's authorities and `certificate_chain`,
unless the request says otherwise. Redirects to another origin carry no credentials; link-local and
multicast addresses (where clouds keep their secrets) are never connected to. Manifests are checked
against their digests and are bounded in size and number. Nothing is kept between two images.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from odonata import __version__
from odonata.errors import CallerError, ForbiddenError, NotFoundError, OdonataError, SourceError
from odonata.image.manifest import (
    ACCEPT,
    Platform,
    check_digest,
    is_digest,
    read_manifest,
)
from odonata.image.registry_login import basic, read_challenges, read_token, token_url
from odonata.wire.message import Value

RESOLVE_TIMEOUT_S: Final = 60.0
"""For a whole image. Dragonfly's client allows as much for one request."""
CONNECT_TIMEOUT_S: Final = 10.0
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""What the distribution specification wants registries to take at least; Docker Hub takes no more.
"""
TOKEN_BYTES_MAX: Final = 256 * 1024
"""Of a token server's answer: tokens that do not fit a header are of no use."""
MANIFESTS_MAX: Final = 32
"""Read for one image: an index names one for a platform, two or three with nested indexes."""
DEPTH_MAX: Final = 3
"""Indexes in indexes. Nobody needs more than two."""
REDIRECTS_MAX: Final = 5

_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
# The distribution specification's grammar of a repository's name.
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_URL: Final = re.compile(
    r"(?P<registry>https?://[^/?#\s@]+)"
    rf"/v2/(?P<repository>{_PART}(?:/{_PART})*)/manifests/(?P<reference>[^/?#\s]+)"
)


class ImageQuery(Value, frozen=True, kw_only=True):
    """Which image: the URL of its manifest, how to get it, and for which platform."""

    url: str
    platform: Platform
    header: Mapping[str, str] = {}
    username: str = ""
    password: str = ""
    certificate_chain: tuple[bytes, ...] = ()
    insecure_skip_verify: bool = False


class ResolvedImage(Value, frozen=True, kw_only=True):
    """The blobs' URLs, configuration first, and the request header that opens them."""

    urls: tuple[str, ...]
    header: Mapping[str, str]


class ImageUrl(Value, frozen=True, kw_only=True):
    """An image's manifest, taken apart. `registry` is scheme://host[:port]."""

    registry: str
    repository: str
    reference: str

    def manifest(self, reference: str) -> str:
        """URL of a manifest of the same repository."""
        return f"{self.registry}/v2/{self.repository}/manifests/{reference}"

    def blob(self, digest: str) -> str:
        """URL of a blob."""
        return f"{self.registry}/v2/{self.repository}/blobs/{digest}"


def parse_image_url(url: str) -> ImageUrl:
    """Take the URL of a manifest apart. Raises CallerError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise CallerError(
            "url is not that of an image's manifest: write "
            "https://REGISTRY/v2/REPOSITORY/manifests/TAG (or a digest for the tag), without user "
            "and query"
        )
    return ImageUrl(
        registry=found["registry"], repository=found["repository"], reference=found["reference"]
    )


async def resolve_image(query: ImageQuery, timeout_s: float = RESOLVE_TIMEOUT_S) -> ResolvedImage:
    """Ask the registry what the image is made of.

    Raises CallerError (the URL), ForbiddenError (credentials), NotFoundError (no such image, or not
    for this platform), SourceError (everything else that a registry does).
    """
    image = parse_image_url(query.url)
    try:
        async with asyncio.timeout(timeout_s), _Session(query, image) as session:
            await session.log_in()
            digests = await session.blobs(image.reference, DEPTH_MAX)
    except TimeoutError:
        raise SourceError(
            f"registry {image.registry} did not answer within {timeout_s:g} s"
        ) from None
    urls = tuple(image.blob(digest) for digest in dict.fromkeys(digests))
    return ResolvedImage(urls=urls, header=session.header)


class _Session:
    """One image's conversation with its registry. `header` goes with every request to it."""

    def __init__(self, query: ImageQuery, image: ImageUrl) -> None:
        self._query = query
        self._image = image
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None
        self._n_manifests = 0
        self.header: dict[str, str] = dict(query.header)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=_tls_context(self._query), socket_factory=_socket_elsewhere
        )
        self._http = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"odonata/{__version__}"},
            )
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def log_in(self) -> None:
        """Find out what the registry wants, and add it to `header`, unless it is there."""
        if any(name.lower() == "authorization" for name in self.header):
            return
        registry = self._image.registry
        status, answer, _ = await self._get(f"{registry}/v2/", self.header, TOKEN_BYTES_MAX)
        if status != 401:
            return  # whatever else is wrong, the manifest's answer tells it better
        challenges = {
            one.scheme: one
            for text in answer.getall("WWW-Authenticate", [])
            for one in reversed(read_challenges(text))
        }
        if "bearer" in challenges:
            where = token_url(challenges["bearer"], self._image.repository, registry)
            self.header["Authorization"] = await self._token(where)
        elif "basic" in challenges:
            if not self._query.username:
                raise ForbiddenError(
                    f"registry {registry} wants user and password: set username and password"
                )
            self.header["Authorization"] = basic(self._query.username, self._query.password)
        else:
            schemes = ", ".join(challenges) or "none"
            raise SourceError(
                f"registry {registry} wants a log-in of a kind that is not known here ({schemes}): "
                "pass an Authorization header"
            )

    async def _token(self, where: str) -> str:
        query, registry = self._query, self._image.registry
        login: dict[str, str] = {}
        if query.username:
            login["Authorization"] = basic(query.username, query.password)
        status, _, body = await self._get(where, login, TOKEN_BYTES_MAX)
        if status in (401, 403):
            raise ForbiddenError(self._refused(f"the token server of {registry}"))
        if status != 200:
            raise SourceError(
                f"the token server of {registry} answers {status}", status_code=status
            )
        return read_token(body, registry)

    async def blobs(self, reference: str, depth: int) -> list[str]:
        """Digests of all blobs that the manifest leads to."""
        image = self._image
        what = f"manifest {reference} of {image.registry}/{image.repository}"
        self._n_manifests += 1
        if self._n_manifests > MANIFESTS_MAX or depth == 0:
            raise SourceError(
                f"{what} is one too many: an image may have {MANIFESTS_MAX} of them, {DEPTH_MAX} "
                "deep; name one platform's manifest by its digest"
            )
        data = await self._manifest(image.manifest(reference), what)
        if is_digest(reference):
            check_digest(data, reference, what)
        manifest = read_manifest(data, self._query.platform, what)
        found = list(manifest.blobs)
        for digest in manifest.manifests:
            found += await self.blobs(digest, depth - 1)
        return found

    async def _manifest(self, url: str, what: str) -> bytes:
        status, _, body = await self._get(
            url, {**self.header, "Accept": ACCEPT}, MANIFEST_BYTES_MAX
        )
        if status in (401, 403):
            raise ForbiddenError(self._refused(f"registry {self._image.registry}"))
        if status == 404:
            raise NotFoundError(f"there is no {what}: check repository and tag")
        if status != 200:
            raise SourceError(f"{what}: the registry answers {status}", status_code=status)
        return body

    def _refused(self, who: str) -> str:
        query = self._query
        if any(name.lower() == "authorization" for name in query.header):
            return f"{who} refuses the Authorization header of the request: get a new token"
        if query.username:
            return f"{who} refuses user {query.username!r}: check username and password"
        return f"{who} wants user and password: set username and password"

    async def _get(self, url: str, header: Mapping[str, str], limit: int) -> tuple[int, Any, bytes]:
        """Status, headers and body of a GET, redirects followed. Raises SourceError."""
        target = URL(url, encoded=True)
        asked = dict(header)
        for _ in range(REDIRECTS_MAX + 1):
            try:
                status, answer, body = await self._get_once(target, asked, limit)
            except OdonataError:
                raise
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise SourceError(f"{_show(target)}: {_reason(error)}") from error
            location = answer.get("Location")
            if status not in _REDIRECT or location is None:
                return status, answer, body
            following = target.join(URL(location))
            if following.origin() != target.origin():
                asked = {name: asked[name] for name in asked if name.lower() == "accept"}
            target = following
        raise SourceError(f"{_show(target)}: more than {REDIRECTS_MAX} redirects, probably a loop")

    async def _get_once(
        self, url: URL, header: Mapping[str, str], limit: int
    ) -> tuple[int, Any, bytes]:
        assert self._http is not None, "the session was entered"
        async with self._http.get(url, headers=header, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                body += chunk
                if len(body) > limit:
                    raise SourceError(
                        f"{_show(url)}: the answer is larger than {limit} bytes, which is more "
                        "than a manifest may have"
                    )
            return response.status, response.headers, bytes(body)


def _tls_context(query: ImageQuery) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for number, certificate in enumerate(query.certificate_chain):
        is_pem = certificate.lstrip().startswith(b"-----BEGIN")
        try:
            context.load_verify_locations(
                cadata=certificate.decode("ascii") if is_pem else certificate
            )
        except (ssl.SSLError, ValueError) as error:
            raise CallerError(
                f"certificate_chain[{number}] is no certificate ({error}): pass DER or PEM"
            ) from None
    if query.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _socket_elsewhere(info: Any) -> socket.socket:
    """A socket to the address of `info` (as getaddrinfo has it), unless it is a forbidden one."""
    family, kind, protocol, _, where = info
    address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
        raise ForbiddenError(
            f"{mapped} is a link-local, multicast or wildcard address: no registry is asked there"
        )
    return socket.socket(family, kind, protocol)


def _show(url: URL) -> str:
    """The URL as far as it is safe to print: no user, no query."""
    return f"{url.scheme}://{url.host}:{url.port}{url.raw_path}"


def _reason(error: BaseException) -> str:
    """Why it failed, without the request in it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            "its certificate is not trusted: pass its authority in certificate_chain "
            f"({error.certificate_error})"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or error.os_error}"
    return type(error).__name__
