"""What lies below a URL: how far to look, and what was found. Pure: who asks is given answers.

An origin may name one level at a time or everything at once; both make the same list. A URL that
names one content is its only entry.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from odonata.errors import CapacityError
from odonata.wire.origin import Entry, Listing

MAX_ENTRIES: Final = 1_000_000
"""Kept in memory, about 300 bytes each. Who has more lists folder by folder."""


class Walk:
    """Ask `next_url` until it is None, each time hand the answer to `found`; then see `entries`."""

    def __init__(self, url: str, *, recursive: bool, max_entries: int = MAX_ENTRIES) -> None:
        self._url = url
        self._root = folder_url(url)
        self._recursive = recursive
        self._max_entries = max_entries
        self._to_ask = deque([url])
        self._asked: set[str] = set()
        self._entries: dict[str, Entry] = {}

    def next_url(self) -> str | None:
        """The folder to ask for next."""
        return self._to_ask.popleft() if self._to_ask else None

    def found(self, url: str, listing: Listing) -> None:
        """What an origin said of `url`. Raises CapacityError."""
        root = folder_url(url)
        self._asked.add(root)
        is_deep = any("/" in _below(root, entry).rstrip("/") for entry in listing.entries)
        for entry in listing.entries:
            self._keep(entry, is_deep=is_deep)

    def _keep(self, entry: Entry, *, is_deep: bool) -> None:
        if entry.url == self._url and not entry.is_dir:
            self._entries[entry.url] = entry
            return
        name = folder_url(entry.url) if entry.is_dir else entry.url
        below = _below(self._root, entry)
        if not below:
            return  # the folder itself, or something outside of it
        first, slash, rest = below.partition("/")
        if not self._recursive and rest:
            entry = Entry(url=f"{self._root}{first}{slash}", is_dir=True)
            name = entry.url
        if name not in self._entries and len(self._entries) >= self._max_entries:
            raise CapacityError(
                f"more than {self._max_entries} entries below {self._root}: ask for less"
            )
        self._entries.setdefault(name, entry)
        if self._recursive and entry.is_dir and not is_deep and name not in self._asked:
            self._asked.add(name)
            self._to_ask.append(name)

    @property
    def entries(self) -> list[Entry]:
        """By URL, each once."""
        return [entry for _, entry in sorted(self._entries.items())]


def folder_url(url: str) -> str:
    """The URL of a folder ends with a slash."""
    return url if url.endswith("/") else f"{url}/"


def _below(root: str, entry: Entry) -> str:
    name = folder_url(entry.url) if entry.is_dir else entry.url
    return name.removeprefix(root) if name.startswith(root) else ""
