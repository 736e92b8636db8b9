"""Where the schedulers are: from the settings or the dynconfig file, names resolved to literals.

The ring hashes IP literals, so a name counts as all the addresses behind it (Dragonfly's rule:
every A record, IPv6 only if there is no IPv4).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from odonata.errors import UnavailableError
from odonata.ring import Address


async def resolve(names: Iterable[str]) -> tuple[Address, ...]:
    """Addresses of `names` (host:port each), sorted, each once.

    UnavailableError if not one name is known; a name that is unknown among others is left out.
    """
    addresses: set[Address] = set()
    unknown: list[str] = []
    for name in names:
        found = await _resolve_one(name)
        addresses |= found
        if not found:
            unknown.append(name)
    if unknown and not addresses:
        raise UnavailableError(
            f"no address is known for {', '.join(unknown)}: check the name in scheduler.addrs"
        )
    return tuple(sorted(addresses, key=str))


async def _resolve_one(name: str) -> set[Address]:
    host, _, port = name.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return addresses_in(found, int(port))


def addresses_in(found: Sequence[tuple[Any, ...]], port: int) -> set[Address]:
    """What counts of the entries that `getaddrinfo` found for a name."""
    v4 = [entry for entry in found if entry[0] == socket.AF_INET]
    return {Address(ip=str(entry[4][0]), port=port) for entry in v4 or found}


class AddressBook:
    """`find` resolves the names of the moment; `names` reads them (a file may have changed)."""

    def __init__(self, names: Callable[[], tuple[str, ...]]) -> None:
        self._names = names

    async def find(self) -> tuple[Address, ...]:
        """Addresses now. Raises SettingsError or UnavailableError."""
        return await resolve(self._names())
