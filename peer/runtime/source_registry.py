"""The source for oci://: files that are kept in a container registry as artifacts, or its blobs.

    oci://REGISTRY/REPOSITORY@DIGEST          the blob of that digest
    oci://REGISTRY/REPOSITORY[:TAG]           the only layer of an artifact (TAG: latest)
    oci://REGISTRY/REPOSITORY:TAG/TITLE       the layer of that title (as ORAS names files)
    oci://REGISTRY/REPOSITORY@DIGEST/TITLE    likewise, of the manifest of that digest

A list of oci://REGISTRY/REPOSITORY:TAG names its layers, those without a title by their digest.
Several platforms under one name (an image index) are not chosen from: name one manifest by digest.

A registry is asked by https, on this host by http (as docker does), or at the URL that
`object_storage.endpoint` gives. Who asks is said by the request's Authorization, or by
access_key_id and access_key_secret as user and password; a Bearer token is fetched where the
registry wants one. Blobs come through the HTTP source, redirects and all.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from odonata.errors import CallerError, SourceError
from odonata.url import parse_url
from odonata.wire.message import Value
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.port import KnownContent
from peer.runtime.source_http import HttpSource, HttpStream

MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""What registries accept themselves (OCI distribution 1.1)."""
TOKEN_BYTES_MAX: Final = 256 * 1024
TOKEN_LIFE_S: Final = 60.0
"""What a token without expires_in may be used for (the token specification's default)."""
TOKENS_MAX: Final = 64
"""Tokens that are kept: one for each repository and user that is being fetched from."""

_TITLE: Final = "org.opencontainers.image.title"
_ACCEPT: Final = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
_PATH: Final = re.compile(
    r"/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})|@(?P<digest>[a-z0-9]+:[0-9a-f]{32,128}))?"
    r"(?:(?<=[^/])/(?P<title>.*))?"
)
_PARAMETER: Final = re.compile(r'(realm|service|scope)="([^"]*)"')

Answer = TypeVar("Answer")


class _Layer(msgspec.Struct):
    digest: str
    size: int
    annotations: dict[str, str] = {}

    @property
    def title(self) -> str:
        return self.annotations.get(_TITLE, "")


class _Manifest(msgspec.Struct):
    layers: list[_Layer] | None = None


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = TOKEN_LIFE_S


class _Place(Value, frozen=True, kw_only=True):
    """What a URL names. `title` None: the URL ends with tag or digest."""

    base: str
    root: str
    repository: str
    tag: str
    digest: str
    title: str | None


class RegistrySource:
    """A `Source` for oci. It owns no connections: the HTTP source is closed by who made it."""

    def __init__(self, web: HttpSource) -> None:
        self._web = web
        self._tokens: OrderedDict[object, tuple[str, float]] = OrderedDict()

    async def open(
        self,
        url: str,
        header: Mapping[str, str],
        *,
        offset: int = 0,
        end: int | None = None,
        options: OriginOptions = NO_OPTIONS,
    ) -> HttpStream:
        """See `Source.open`."""
        place = _parse(url, options)
        blob = await self._blob(place, header, options)
        return await self._ask(
            place,
            header,
            options,
            lambda asked: self._web.open(blob, asked, offset=offset, end=end, options=options),
        )

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        """See `Source.list`: the layers of an artifact, or the one that `url` names."""
        place = _parse(url, options)
        if place.title or (place.digest and place.title is None):
            async with await self.open(url, header, end=1, options=options) as stream:
                return (Entry(url=url, content_length=stream.content_length),)
        layers = await self._layers(place, header, options)
        entries = {_layer_url(place, one): one.size for one in reversed(layers)}
        return tuple(Entry(url=one, content_length=entries[one]) for one in sorted(entries))

    async def compare(
        self,
        url: str,
        header: Mapping[str, str],
        known: KnownContent,
        options: OriginOptions = NO_OPTIONS,
    ) -> str | None:
        """See `Source.compare`: a tag may name another blob now."""
        place = _parse(url, options)
        blob = await self._blob(place, header, options)
        return await self._ask(
            place, header, options, lambda asked: self._web.compare(blob, asked, known, options)
        )

    async def close(self) -> None:
        """Nothing to close."""

    # --- what a URL leads to ---

    async def _blob(self, place: _Place, header: Mapping[str, str], options: OriginOptions) -> str:
        digest = place.digest
        if not digest or place.title is not None:
            digest = _choose(place, await self._layers(place, header, options)).digest
        return f"{place.base}/v2/{place.repository}/blobs/{digest}"

    async def _layers(
        self, place: _Place, header: Mapping[str, str], options: OriginOptions
    ) -> tuple[_Layer, ...]:
        url = f"{place.base}/v2/{place.repository}/manifests/{place.digest or place.tag}"
        body, _ = await self._ask(
            place,
            header,
            options,
            lambda asked: self._web.read(
                url, {**asked, "Accept": _ACCEPT}, MANIFEST_BYTES_MAX, options
            ),
        )
        try:
            layers = msgspec.json.decode(body, type=_Manifest).layers
        except msgspec.MsgspecError:
            raise SourceError(f"{place.root}: the registry's manifest can't be read") from None
        if layers is None:
            raise CallerError(
                f"{place.root} is an index of several manifests: name one of them by its digest"
            )
        return tuple(layers)

    # --- who asks ---

    async def _ask(
        self,
        place: _Place,
        header: Mapping[str, str],
        options: OriginOptions,
        call: Callable[[Mapping[str, str]], Awaitable[Answer]],
    ) -> Answer:
        """`call` with what the registry wants to know of who asks."""
        own, login = _login(header, options)
        key = (place.base, place.repository, login)
        token, until_s = self._tokens.get(key, ("", 0.0))
        if token and time.monotonic() < until_s:
            try:
                return await call({**own, "Authorization": f"Bearer {token}"})
            except SourceError as error:
                if error.status_code != 401:
                    raise
        try:
            return await call({**own, "Authorization": login} if login else own)
        except SourceError as error:
            challenge = error.header.get("www-authenticate", "")
            if error.status_code != 401 or not challenge.lower().startswith("bearer "):
                raise
        token, life_s = await self._fetch_token(place, challenge, login, options)
        self._tokens[key] = (token, time.monotonic() + life_s / 2)
        self._tokens.move_to_end(key)
        if len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)
        return await call({**own, "Authorization": f"Bearer {token}"})

    async def _fetch_token(
        self, place: _Place, challenge: str, login: str, options: OriginOptions
    ) -> tuple[str, float]:
        """Token and its life in seconds. Only a user's name and password go to who gives tokens."""
        asked = dict(_PARAMETER.findall(challenge))
        realm = asked.pop("realm", "")
        safe = realm.startswith("https://") or place.base.startswith("http://")
        if not safe or URL(realm).scheme not in {"http", "https"}:
            raise SourceError(f"{place.root}: the registry names no https address for tokens")
        asked.setdefault("scope", f"repository:{place.repository}:pull")
        url = str(URL(realm).update_query(asked))
        who = {"Authorization": login} if login.lower().startswith("basic ") else {}
        body, _ = await self._web.read(url, who, TOKEN_BYTES_MAX, options)
        try:
            answer = msgspec.json.decode(body, type=_Token)
        except msgspec.MsgspecError:
            raise SourceError(f"{place.root}: the registry's token can't be read") from None
        return answer.token or answer.access_token, answer.expires_in


def _parse(url: str, options: OriginOptions) -> _Place:
    parsed = parse_url(url)
    found = _PATH.fullmatch(unquote(parsed.path))
    if found is None or not parsed.host or parsed.query is not None:
        raise CallerError(
            "not the URL of an artifact: write oci://REGISTRY/REPOSITORY:TAG[/TITLE] or "
            "oci://REGISTRY/REPOSITORY@DIGEST"
        )
    authority = parsed.host if parsed.port is None else f"{parsed.host}:{parsed.port}"
    tag = found["tag"] or ("" if found["digest"] else "latest")
    name = f"@{found['digest']}" if found["digest"] else f":{tag}"
    return _Place(
        base=options.storage.endpoint.rstrip("/") or f"{_protocol(parsed.host)}://{authority}",
        root=f"oci://{authority}/{found['repository']}{name}",
        repository=found["repository"],
        tag=tag,
        digest=found["digest"] or "",
        title=found["title"],
    )


def _protocol(host: str) -> str:
    try:
        here = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        here = host == "localhost"
    return "http" if here else "https"


def _choose(place: _Place, layers: tuple[_Layer, ...]) -> _Layer:
    named = [one for one in layers if not place.title or one.title == place.title]
    if place.title and not named:
        raise SourceError(f"{place.root} has no layer {place.title[:200]!r}", status_code=404)
    if not place.title and len(layers) != 1:
        titles = ", ".join(one.title or one.digest for one in layers[:10])
        raise CallerError(
            f"{place.root} has {len(layers)} layers, not one: add /TITLE to the URL, or name one "
            f"by its digest ({titles})"
        )
    return named[0]


def _layer_url(place: _Place, layer: _Layer) -> str:
    if layer.title:
        return f"{place.root}/{quote(layer.title)}"
    return f"{_repository_url(place)}@{layer.digest}"


def _repository_url(place: _Place) -> str:
    return place.root[: -len(place.tag or place.digest) - 1]


def _login(header: Mapping[str, str], options: OriginOptions) -> tuple[dict[str, str], str]:
    """The request's header without its Authorization, and that (or "")."""
    named = [value for name, value in header.items() if name.lower() == "authorization"]
    others = {name: header[name] for name in header if name.lower() != "authorization"}
    if named or not options.storage.access_key_id:
        return others, "".join(named[:1])
    login = f"{options.storage.access_key_id}:{options.storage.access_key_secret}".encode()
    return others, f"Basic {base64.b64encode(login).decode()}"
