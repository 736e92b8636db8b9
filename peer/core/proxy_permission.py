"""Whether a client may have what others fetched: the origin says so, and is believed for a while.

A content is one task for everybody, so the bytes that one user's token fetched would serve another
who has none. Before they do, the origin is asked with the client's own credentials: for a blob of a
registry by HEAD, which every registry must answer; for another URL, if the request brings
credentials, by GET of its first byte, since a signed URL is often good for no other method. A URL
without either is as public as whoever knows it. An answer holds for the very URL and the very
headers that it was asked with, never for more. Pure; asking is the runtime's.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from odonata.ids import blob_digest
from peer.core.proxy_header import HeaderList, download_header

TTL_S: Final = 60.0
"""How long a permission holds: a pull that is interrupted goes on without asking again, and a user
who lost his rights has lost them a minute later. Registries' tokens live 5 minutes as a rule."""
PERMISSIONS_MAX: Final = 8192
"""Remembered at once, a few hundred bytes each: the layers of 800 images."""

_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_SAY_NOTHING: Final = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})
"""Headers that are about the client's program, not about its rights."""
_GONE_OVER: Final = 400
_EMPTY_CONTENT: Final = 416
"""The first byte of nothing: whoever learns that was let in."""


def question(url: str, headers: HeaderList) -> str | None:
    """The method to ask the origin with; None: nobody has to be asked."""
    if blob_digest(url) is not None:
        return "HEAD"
    brings = {name.lower() for name, _ in headers}
    return "GET" if brings & _CREDENTIALS else None


def permission_key(url: str, headers: HeaderList) -> bytes:
    """What a permission is remembered by: the URL, and everything that may tell who asks."""
    told = [
        f"{name.lower()}:{value}"
        for name, value in sorted(download_header(headers).items())
        if name.lower() not in _SAY_NOTHING
    ]
    text = "\n".join((url, *told))
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def is_permitted(status: int) -> bool:
    """What the origin's answer means. A redirect is one's way to the store: it was let in."""
    return status < _GONE_OVER or status == _EMPTY_CONTENT


class Permissions:
    """Those that hold. Times are seconds of any one clock."""

    def __init__(self, ttl_s: float = TTL_S, entries_max: int = PERMISSIONS_MAX) -> None:
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        self._until_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_s)

    def holds(self, key: bytes, now_s: float) -> bool:
        until_s = self._until_s.get(key)
        if until_s is not None and until_s <= now_s:
            del self._until_s[key]
            return False
        return until_s is not None

    def grant(self, key: bytes, now_s: float) -> None:
        """From now on; the oldest one goes if there are too many."""
        self._until_s[key] = now_s + self._ttl_s
        self._until_s.move_to_end(key)
        if len(self._until_s) > self._entries_max:
            self._until_s.popitem(last=False)
