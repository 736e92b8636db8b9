"""Where hosts serve their pieces, as the daemon was last told: for who asks before it is told anew.

A parent says where its pieces are in its list of pieces, one content at a time; but it is the same
place for all of them until its daemon starts anew. A memory, not a promise: who finds nobody there,
or somebody else, waits for the list.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

KNOWN_MAX: Final = 1024
"""Hosts remembered; the one not heard of for longest goes first. A node meets some dozens."""


class ServedAt(NamedTuple):
    """`ip`, `port`: Vortex over TCP. `features`: what it can beyond Dragonfly's API."""

    ip: str
    port: int
    features: frozenset[str]


class KnownAddresses:
    """One for the whole daemon. `target` names a host's DfdaemonUpload, as gRPC does."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, ServedAt] = OrderedDict()

    def learn(self, target: str, place: ServedAt) -> None:
        """It says so."""
        self._places[target] = place
        self._places.move_to_end(target)
        if len(self._places) > KNOWN_MAX:
            self._places.popitem(last=False)

    def forget(self, target: str) -> None:
        """There was nobody."""
        self._places.pop(target, None)

    def of(self, target: str) -> ServedAt | None:
        """Where it was, None if that is not known."""
        return self._places.get(target)
