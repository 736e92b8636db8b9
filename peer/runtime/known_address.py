"""Where hosts serve their pieces, as the daemon was last told: for who asks before it is told anew.

A parent says where its pieces are in its list of pieces, one content at a time; but it is the same
place for all of them until its daemon starts anew. A memory, not a promise: who finds nobody there,
or somebody else, waits for the list.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from odonata.wire.dragonfly.feature import ANSWERS_AHEAD
from odonata.wire.message import Host

KNOWN_MAX: Final = 1024
"""Hosts remembered; the one not heard of for longest goes first. A node meets some dozens."""


class ServedAt(NamedTuple):
    """`ip`, `port`: Vortex over TCP. `features`: what it can beyond Dragonfly's API."""

    ip: str
    port: int
    features: frozenset[str]


class MetSeed(NamedTuple):
    """A seed, and where it serves what."""

    host_id: str
    target: str
    place: ServedAt


class KnownAddresses:
    """One for the whole daemon. `target` names a host's DfdaemonUpload, as gRPC does."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, ServedAt] = OrderedDict()
        self.seed: MetSeed | None = None
        """The seed that was heard of last, of those that answer before they are named parents. Of
        several it need not be the one that has the next content: then that was asked in vain."""

    def learn(self, target: str, place: ServedAt, host: Host | None = None) -> None:
        """It says so, and the scheduler said that it is `host`."""
        self._places[target] = place
        if host is not None and host.is_seed and ANSWERS_AHEAD in place.features:
            self.seed = MetSeed(host.id, target, place)
        self._places.move_to_end(target)
        if len(self._places) > KNOWN_MAX:
            self._places.popitem(last=False)

    def forget(self, target: str) -> None:
        """There was nobody."""
        self._places.pop(target, None)
        if self.seed is not None and self.seed.target == target:
            self.seed = None

    def of(self, target: str) -> ServedAt | None:
        """Where it was, None if that is not known."""
        return self._places.get(target)
