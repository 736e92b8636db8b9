"""From the URL of an image's manifest to the URLs of its blobs, and the header to fetch them with.

What is asked of the registry is `odonata.image.reader`'s; how, is said here. Certificates are
verified against the system's authorities and `certificate_chain`, unless the request says
otherwise. Redirects to another origin carry no credentials; link-local and multicast addresses
(where clouds keep their secrets) are never connected to. Nothing is kept between two images.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from odonata import __version__
from odonata.errors import CallerError, ForbiddenError, OdonataError, SourceError
from odonata.image.manifest import Platform
from odonata.image.reader import ImageReader, RegistryLogin
from odonata.image.reference import parse_image_url
from odonata.wire.message import Value

RESOLVE_TIMEOUT_S: Final = 60.0
"""For a whole image. Dragonfly's client allows as much for one request."""
CONNECT_TIMEOUT_S: Final = 10.0
REDIRECTS_MAX: Final = 5

_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})


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


async def resolve_image(query: ImageQuery, timeout_s: float = RESOLVE_TIMEOUT_S) -> ResolvedImage:
    """Ask the registry what the image is made of.

    Raises CallerError (the URL), ForbiddenError (credentials), NotFoundError (no such image, or not
    for this platform), SourceError (everything else that a registry does).
    """
    image = parse_image_url(query.url)
    try:
        async with asyncio.timeout(timeout_s), _Session(query) as session:
            login = RegistryLogin(username=query.username, password=query.password)
            reader = ImageReader(
                session.get, image, query.platform, login=login, header=query.header
            )
            digests = await reader.read()
    except TimeoutError:
        raise SourceError(
            f"registry {image.registry} did not answer within {timeout_s:g} s"
        ) from None
    urls = tuple(image.blob(digest) for digest in digests)
    return ResolvedImage(urls=urls, header=reader.header)


class _Session:
    """How the registry of one image is asked."""

    def __init__(self, query: ImageQuery) -> None:
        self._query = query
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

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

    async def get(self, url: str, header: Mapping[str, str], limit: int) -> tuple[int, Any, bytes]:
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
