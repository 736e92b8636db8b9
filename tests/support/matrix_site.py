"""The site of tests/e2e/test_matrix.py: one swarm, and what its clients fetch by every way.

Registries that let in everybody, by Basic, or by tokens, with one store; a store of Git LFS, and a
package index. Each can be asked by HTTP, by TLS that peers open, and by TLS that they don't. A
mirror has one upstream: the door behind it leads to what a test wants.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from support.certificates import Signed, make_authority, make_signed
from support.guarded_registry import PASSWORD, USER, Guard, TokenServer
from support.lfs_service import LfsService
from support.loop_thread import LoopThread
from support.package_index import PackageIndex
from support.program import ORIGIN_NAME, Place
from support.registry import Registry, with_every_guard
from support.server_front import ServerFront
from support.swarm import Swarm

LOGIN = f"{USER}:{PASSWORD}"
WRONG_LOGIN = f"{USER}:{PASSWORD[:-1]}"
FORBIDS = 'clientConfig: {blockList: {task: {download: {urls: ["/forbidden/"]}}}}'
RULES = [
    {"regex": "blobs/sha256.*"},
    {"regex": "/objects/[0-9a-f]{64}$"},
    {"regex": r"\.whl$"},
]


class Way(Enum):
    """How a client gets to its origin."""

    PROXY = "proxy"  # HTTP_PROXY, to an origin without TLS
    TUNNEL = "tunnel"  # HTTPS_PROXY: TLS from end to end
    INTERCEPTION = "interception"  # HTTPS_PROXY: the peer opens the TLS
    MIRROR = "mirror"  # it asks the peer as an origin, which asks by HTTP
    MIRROR_OF_TLS = "mirror_of_tls"  # the same, and the peer asks by TLS

    @property
    def is_mirror(self) -> bool:
        return self in {Way.MIRROR, Way.MIRROR_OF_TLS}

    @property
    def is_tls(self) -> bool:
        """Of who asks the origin."""
        return self not in {Way.PROXY, Way.MIRROR}


@dataclass(frozen=True)
class Doors:
    """One origin: where it listens, and host:port by HTTP, by TLS that peers open, by other TLS."""

    port: int
    plain: str
    opened: str
    closed: str

    def by(self, way: Way) -> str:
        """host:port of the one that belongs to a way."""
        if way is Way.TUNNEL:
            return self.closed
        return self.opened if way.is_tls else self.plain

    def url(self, way: Way) -> str:
        return f"{'https' if way.is_tls else 'http'}://{self.by(way)}"


@dataclass(frozen=True)
class Site:
    """`ours` is what clients trust where peers open TLS, `theirs` signs for the origins.

    `store` takes images for all registries.
    """

    place: Place
    swarm: Swarm
    tokens: TokenServer
    store: Registry
    registries: Mapping[Guard, Registry]
    doors: Mapping[Guard, Doors]
    lfs: LfsService
    lfs_doors: Doors
    index: PackageIndex
    index_doors: Doors
    mirrored: Mapping[Way, ServerFront]
    ours: Path
    theirs: Path

    def peers(self, way: Way) -> tuple[str, str]:
        """Two of the four: the others' mirror has the other upstream."""
        first, second, third, fourth = self.swarm.peers
        return (third, fourth) if way is Way.MIRROR_OF_TLS else (first, second)

    def trusted(self, way: Way) -> Path | None:
        """The only authority that a client trusts; None: it meets no TLS."""
        return {Way.TUNNEL: self.theirs, Way.INTERCEPTION: self.ours}.get(way)

    def mirror(self, origin: Doors) -> None:
        """Have the peers' own mirrors ask that origin."""
        for front in self.mirrored.values():
            front.lead_to(origin.port)


@contextmanager
def open_site(place: Place) -> Generator[Site]:
    ours, theirs = (make_authority(place.folder, name) for name in ("ours", "theirs"))
    signed = make_signed(place.folder, theirs, ORIGIN_NAME)
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        (place.folder / "tokens").mkdir()
        tokens = thread.enter(TokenServer(place.folder / "tokens", ORIGIN_NAME))
        store = stack.enter_context(Registry(place, name="store"))
        registries = with_every_guard(stack, place, store, tokens)
        lfs, index = thread.enter(LfsService()), thread.enter(PackageIndex())
        doors = {guard: _doors(stack, one.tap_port, signed) for guard, one in registries.items()}
        lfs_doors, index_doors = (_doors(stack, one.port, signed) for one in (lfs, index))
        lfs.by_tls |= {lfs_doors.opened, lfs_doors.closed}
        mirrored = {
            Way.MIRROR: stack.enter_context(ServerFront(store.port)),
            Way.MIRROR_OF_TLS: stack.enter_context(ServerFront(store.port, signed)),
        }
        opened = [one.opened for one in (*doors.values(), lfs_doors, index_doors)]
        swarm = _swarm(place, mirrored, opened, ours, theirs)
        stack.enter_context(swarm)
        yield Site(
            *(place, swarm, tokens, store, registries, doors),
            *(lfs, lfs_doors, index, index_doors),
            *(mirrored, ours.cert, theirs.cert),
        )
        assert len(swarm.alive()) == 6, "a member of the swarm died"


def _doors(stack: ExitStack, port: int, signed: Signed) -> Doors:
    opened, closed = (stack.enter_context(ServerFront(port, signed)) for _ in range(2))
    at = f"{ORIGIN_NAME}:"
    return Doors(port, f"{at}{port}", f"{at}{opened.port}", f"{at}{closed.port}")


def _swarm(
    place: Place,
    mirrored: Mapping[Way, ServerFront],
    opened: list[str],
    ours: Signed,
    theirs: Signed,
) -> Swarm:
    dynconfig = place.folder / "dynconfig.yaml"
    dynconfig.write_text(FORBIDS)
    settings: dict[str, Any] = {
        "proxy": {
            "server": {"caCert": str(ours.cert), "caKey": str(ours.key)},
            "interceptHosts": [{"regex": f"^{one}$"} for one in opened],
            "rules": RULES,
        },
        "backend": {"caCert": str(theirs.cert)},
        "dynconfig": {"file": str(dynconfig)},
    }
    by_http, by_tls = (
        f"{scheme}://{ORIGIN_NAME}:{mirrored[way].port}"
        for scheme, way in (("http", Way.MIRROR), ("https", Way.MIRROR_OF_TLS))
    )
    asks_by_tls = {"proxy": {"registryMirror": {"addr": by_tls}}}
    own = {"peer-3": asks_by_tls, "peer-4": asks_by_tls}
    return Swarm(place, peers=4, registry_mirror=by_http, settings=settings, own=own)
