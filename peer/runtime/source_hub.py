"""The source for hf://: files of models, datasets and spaces on Hugging Face, or a hub like it.

    hf://[models/|datasets/|spaces/]OWNER/REPOSITORY[@REVISION][/PATH]

A file is what the hub's `resolve` address leads to, asked by the HTTP source: one stream for any
length, its redirects to the hub's store followed without the token. (The hub's own library asks
for each chunk anew, and the hub counts requests.) Folders are listed by the hub's API. It looks for
no token on this host: a request brings its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from odonata.errors import CallerError, SourceError
from odonata.url import parse_url
from odonata.wire.message import Value
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.port import KnownContent
from peer.runtime.source_http import HttpSource, HttpStream

BASE_URL: Final = "https://huggingface.co"
REVISION: Final = "main"
KINDS: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
"""The first part of a URL, and what it is in the address of a file."""
PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one page of a listing: the hub's have 1000 entries of some 300 bytes."""
ENTRIES_MAX: Final = 10_000
"""Files and folders in one listing, as for other origins."""

_NEXT_PAGE: Final = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')


class _Listed(msgspec.Struct):
    """One entry of the hub's tree."""

    type: str
    path: str
    size: int = 0


class _Place(Value, frozen=True, kw_only=True):
    """What a URL names. `path` without escapes, "" for the repository itself."""

    kind: str
    repository: str
    revision: str
    path: str
    root: str
    """The URL as far as the repository."""


class HubSource:
    """A `Source` for hf. It owns nothing: the HTTP source is closed by whoever made it."""

    def __init__(self, web: HttpSource) -> None:
        self._web = web

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
        address, asked = _file(url, options), _header(header, options)
        return await self._web.open(address, asked, offset=offset, end=end, options=options)

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        """See `Source.list`."""
        place = _parse(url, options)
        if place.path and not place.path.endswith("/"):
            try:
                found = await self._web.list(_file(url, options), _header(header, options), options)
            except SourceError as error:
                if error.status_code != 404:
                    raise
            else:
                return tuple(msgspec.structs.replace(one, url=url) for one in found)
        return await self._tree(place, _header(header, options), options)

    async def compare(
        self,
        url: str,
        header: Mapping[str, str],
        known: KnownContent,
        options: OriginOptions = NO_OPTIONS,
    ) -> str | None:
        """See `Source.compare`."""
        address, asked = _file(url, options), _header(header, options)
        return await self._web.compare(address, asked, known, options)

    async def close(self) -> None:
        """Nothing to close."""

    async def _tree(
        self, place: _Place, header: Mapping[str, str], options: OriginOptions
    ) -> tuple[Entry, ...]:
        base = _base(options)
        folder = quote(place.path.strip("/"))
        revision = quote(place.revision, safe="")
        page: str | None = (
            f"{base}/api/{place.kind}/{quote(place.repository)}/tree/{revision}"
            f"{'/' if folder else ''}{folder}?recursive=true"
        )
        entries: list[Entry] = []
        while page is not None:
            body, answer = await self._web.read(page, header, PAGE_BYTES_MAX, options)
            entries += [_entry(place, one) for one in _decode(body)]
            if len(entries) > ENTRIES_MAX:
                raise CallerError(
                    f"{place.root} has more than {ENTRIES_MAX} names below it: ask for its "
                    "folders one by one"
                )
            page = _next_page(page, answer)
        return tuple(sorted(entries, key=lambda one: one.url))


def _parse(url: str, options: OriginOptions) -> _Place:
    parsed = parse_url(url)
    parts = [part for part in (parsed.host or "", *parsed.path.split("/")) if part]
    kind = parts.pop(0) if parts and parts[0] in KINDS else "models"
    if len(parts) < 2 or parsed.query or parsed.port is not None:
        raise CallerError(
            "not the URL of a repository on a hub: write "
            "hf://[models/|datasets/|spaces/]OWNER/REPOSITORY[/PATH]"
        )
    owner, name, *below = parts
    name, _, revision = name.partition("@")
    path = "/".join(map(unquote, below))
    if below and parsed.path.endswith("/"):
        path += "/"
    root = url.partition("?")[0].partition("#")[0]
    if path:
        root = root[: len(root.rstrip("/")) - len("/".join(below))]
    return _Place(
        kind=kind,
        repository=f"{unquote(owner)}/{unquote(name)}",
        revision=unquote(revision) or options.hub.revision or REVISION,
        path=path,
        root=root.rstrip("/"),
    )


def _file(url: str, options: OriginOptions) -> str:
    place = _parse(url, options)
    if not place.path or place.path.endswith("/"):
        raise CallerError(f"{place.root} names a folder: list it, or name a file in it")
    return (
        f"{_base(options)}/{KINDS[place.kind]}{quote(place.repository)}/resolve/"
        f"{quote(place.revision, safe='')}/{quote(place.path)}"
    )


def _base(options: OriginOptions) -> str:
    return (options.hub.base_url or BASE_URL).rstrip("/")


def _header(header: Mapping[str, str], options: OriginOptions) -> dict[str, str]:
    if not options.hub.token:
        return dict(header)
    others = {name: value for name, value in header.items() if name.lower() != "authorization"}
    return {**others, "Authorization": f"Bearer {options.hub.token}"}


def _decode(body: bytes) -> list[_Listed]:
    try:
        return msgspec.json.decode(body, type=list[_Listed])
    except msgspec.MsgspecError:
        raise SourceError("the hub's listing is not what its API promises") from None


def _entry(place: _Place, listed: _Listed) -> Entry:
    is_dir = listed.type == "directory"
    url = f"{place.root}/{quote(listed.path)}{'/' if is_dir else ''}"
    return Entry(url=url, content_length=None if is_dir else listed.size, is_dir=is_dir)


def _next_page(page: str, answer: Mapping[str, str]) -> str | None:
    """The token goes to the hub alone, whatever it calls the next page."""
    found = _NEXT_PAGE.search(answer.get("link", ""))
    if found is None:
        return None
    following = URL(page).join(URL(found[1], encoded=True))
    if following.origin() != URL(page).origin():
        raise SourceError("the hub's listing goes on at another host")
    return str(following)
