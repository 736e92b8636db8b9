"""One image's conversation with its registry: log-in, manifests, and the blobs that they name.

The registry is asked as any client would: with the `Authorization` that was given, else after a
look at `/v2/` with user and password, by a Bearer token or by plain Basic, whichever the registry
wants. Manifests are checked against their digests and are bounded in size and number. How a URL is
got is its user's affair (`Get`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from odonata.errors import ForbiddenError, NotFoundError, SourceError
from odonata.image.manifest import ACCEPT, Platform, check_digest, is_digest, read_manifest
from odonata.image.reference import ImageReference
from odonata.image.registry_login import basic, read_challenges, read_token, token_url
from odonata.wire.message import Value

MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""What the distribution specification wants registries to take at least; Docker Hub takes no more.
"""
TOKEN_BYTES_MAX: Final = 256 * 1024
"""Of a token server's answer: tokens that do not fit a header are of no use."""
MANIFESTS_MAX: Final = 32
"""Read for one image: an index names one for a platform, two or three with nested indexes."""
DEPTH_MAX: Final = 3
"""Indexes in indexes. Nobody needs more than two."""

Get = Callable[[str, Mapping[str, str], int], Awaitable[tuple[int, Any, bytes]]]
"""URL, header, and how long the body may be -> status, headers (with `getall`), body."""


class RegistryLogin(Value, frozen=True, kw_only=True):
    """Who one is at a registry; "": nobody."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"RegistryLogin(username={self.username!r})"


class ImageReader:
    """`header` goes with every request to the registry, with what it wants once that is known."""

    def __init__(
        self,
        get: Get,
        image: ImageReference,
        platform: Platform,
        *,
        login: RegistryLogin,
        header: Mapping[str, str] | None = None,
    ) -> None:
        self._get = get
        self._image = image
        self._platform = platform
        self._login = login
        self._n_manifests = 0
        self.header: dict[str, str] = dict(header or {})
        self._is_given = any(name.lower() == "authorization" for name in self.header)

    async def read(self) -> tuple[str, ...]:
        """Digests of all blobs of the platform's image, each once, the configuration first.

        Raises ForbiddenError (credentials), NotFoundError (no such image, or not for this
        platform), SourceError (everything else that a registry does), and what `get` raises.
        """
        await self._log_in()
        return tuple(dict.fromkeys(await self._blobs(self._image.reference, DEPTH_MAX)))

    async def _log_in(self) -> None:
        """Find out what the registry wants, and add it to `header`, unless it is there."""
        if self._is_given:
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
            if not self._login.username:
                raise ForbiddenError(
                    f"registry {registry} wants user and password: set username and password"
                )
            self.header["Authorization"] = basic(self._login.username, self._login.password)
        else:
            schemes = ", ".join(challenges) or "none"
            raise SourceError(
                f"registry {registry} wants a log-in of a kind that is not known here ({schemes}): "
                "pass an Authorization header"
            )

    async def _token(self, where: str) -> str:
        mine, registry = self._login, self._image.registry
        login: dict[str, str] = {}
        if mine.username:
            login["Authorization"] = basic(mine.username, mine.password)
        status, _, body = await self._get(where, login, TOKEN_BYTES_MAX)
        if status in (401, 403):
            raise ForbiddenError(self._refused(f"the token server of {registry}"))
        if status != 200:
            raise SourceError(
                f"the token server of {registry} answers {status}", status_code=status
            )
        return read_token(body, registry)

    async def _blobs(self, reference: str, depth: int) -> list[str]:
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
        manifest = read_manifest(data, self._platform, what)
        found = list(manifest.blobs)
        for digest in manifest.manifests:
            found += await self._blobs(digest, depth - 1)
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
        if self._is_given:
            return f"{who} refuses the Authorization header of the request: get a new token"
        if self._login.username:
            return f"{who} refuses user {self._login.username!r}: check username and password"
        return f"{who} wants user and password: set username and password"
