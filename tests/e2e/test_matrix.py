"""Every client by every way to its origin, with every log-in.

A test for each cell: `podman-interception-bearer` pulls with podman through peers that open the TLS
of a registry that wants tokens. In each, the first of two clients, at two peers, pulls a tag that
then moves, and the second what it names now. A layer that both images have leaves the registry
once, unless it is in a tunnel, where the registry sends what is asked for. Whoever says a wrong
password gets nothing, though a peer has it all. What a client can't do stands in CAN_NOT.

dockerd has mirrors for Docker Hub alone. It sends them what its user has for Docker Hub, and goes
there if they refuse him: its mirror cells pull Docker Hub's names from the registries of here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch

import pytest
from support.content import make_content
from support.curl_image import status_of
from support.file_client import GitLfs, Pip
from support.guarded_registry import Guard
from support.image import Layer
from support.matrix_client import Cell, Clients
from support.matrix_site import LOGIN, WRONG_LOGIN, Doors, Site, Way, open_site
from support.package_index import wheel_name
from support.program import Place
from support.registry import Registry, check_sent_once

pytestmark = pytest.mark.e2e

SIZE = 256 * 1024
CAN_NOT = {
    "pip-*-bearer": "pip says user and password, and nothing else",
    "git-lfs-mirror*": "objects come from where the store says, and it knows of no mirror",
}
REFUSED = "(?i)unauthorized|authentication required|authorization failed|denied|401"


def cells(*programs: str) -> list[Cell]:
    """Those that the programs can do."""
    every = (Cell(program, way, guard) for program in programs for way in Way for guard in Guard)
    return [cell for cell in every if not any(fnmatch(str(cell), one) for one in CAN_NOT)]


RUNTIMES = ("dockerd", "ctr", "cri", "podman", "buildah", "skopeo")
IMAGES = cells(*RUNTIMES, "curl")
PACKAGES = cells("pip")
OBJECTS = cells("git-lfs")


@pytest.fixture(scope="module")
def site(place: Place) -> Iterator[Site]:
    with open_site(place) as site:
        yield site


@pytest.fixture(scope="module")
def clients(site: Site) -> Iterator[Clients]:
    with Clients(site) as clients:
        yield clients


@pytest.fixture(scope="module")
def git_lfs(site: Site) -> GitLfs:
    return GitLfs(site, {oid_of(content): content for content in map(content_of, OBJECTS)})


def content_of(cell: Cell) -> bytes:
    return make_content(SIZE, seed=10_000 + OBJECTS.index(cell))


def oid_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def login_of(cell: Cell) -> str | None:
    return None if cell.guard is Guard.NONE else LOGIN


def manifests_asked(registry: Registry) -> int:
    """How often somebody who was let in asked for one."""
    return sum("/manifests/" in entry.path and entry.status == 200 for entry in registry.log())


@pytest.mark.parametrize("cell", IMAGES, ids=str)
def test_an_image(site: Site, clients: Clients, cell: Cell) -> None:
    registry, doors = site.registries[cell.guard], site.doors[cell.guard]
    site.mirror(doors)
    registry.forget()
    shared, more = (Layer(SIZE, seed=2 * IMAGES.index(cell) + n) for n in range(2))
    repository = f"{cell.program}/{cell.way.value}-{cell.guard.value}"
    name, (here, there) = f"{repository}:v1", site.peers(cell.way)
    older = site.store.push(name, [shared])
    assert clients.make(cell, here, login_of(cell)).pull(name) == older.digest
    newer = site.store.push(name, [shared, more])
    moved = clients.make(cell, there, login_of(cell)).pull(name)
    assert moved == newer.digest, "the tag is another image now"
    assert manifests_asked(registry) >= 2
    both = replace(newer, blobs={**older.blobs, **newer.blobs})
    if cell.way is Way.TUNNEL:
        times = {digest: 1.0 + (digest in older.layers) for digest in both.blobs}
        assert registry.times_sent(both) == times
    else:
        check_sent_once(registry, both)
    if cell.guard is not Guard.NONE:
        # Refused by its mirror, dockerd goes to Docker Hub, which is nowhere here.
        is_hub = cell.program == "dockerd" and cell.way.is_mirror
        with pytest.raises(AssertionError, match="registry-1.docker.io" if is_hub else REFUSED):
            clients.make(cell, there, WRONG_LOGIN).pull(name)
        (layer,) = older.layers
        assert status_for_strangers(site, cell, doors, f"/v2/{repository}/blobs/{layer}") == 401


@pytest.mark.parametrize("cell", PACKAGES, ids=str)
def test_a_package(site: Site, cell: Cell) -> None:
    """pip's own mirror is another index."""
    site.mirror(site.index_doors)
    pip, package, peers = Pip(site), str(cell).replace("_", "-"), site.peers(cell.way)
    wheel = site.index.add(package, size=SIZE, seed=20_000 + PACKAGES.index(cell))
    with ThreadPoolExecutor(2) as threads:
        pulls = [threads.submit(pip.fetch, cell, peer, login_of(cell), package) for peer in peers]
        assert [pull.result() for pull in pulls] == [wheel, wheel]
    assert site.index.sent_bytes[wheel_name(package)] == sent_bytes(cell, wheel)
    assert site.index.pages[package] == 2, "what the index has, is asked each time"
    if cell.guard is not Guard.NONE:
        with pytest.raises(AssertionError, match="No matching distribution"):
            pip.fetch(cell, peers[0], WRONG_LOGIN, package)
        path = f"/{cell.guard.value}/files/{wheel_name(package)}"
        assert status_for_strangers(site, cell, site.index_doors, path) == 401


@pytest.mark.parametrize("cell", OBJECTS, ids=str)
def test_an_object_of_git_lfs(site: Site, git_lfs: GitLfs, cell: Cell) -> None:
    """Though each client has the object's address signed for itself."""
    content = content_of(cell)
    oid = oid_of(content)
    for peer in site.peers(cell.way):
        assert git_lfs.fetch(cell, peer, login_of(cell), oid) == content
    assert site.lfs.sent_bytes[oid] == sent_bytes(cell, content)
    assert site.lfs.batches[oid] == 2, "where it is, is asked each time"
    if cell.guard is not Guard.NONE:
        path = f"/{cell.guard.value}/objects/{oid}"
        assert status_for_strangers(site, cell, site.lfs_doors, path) == 401
        here, _ = site.peers(cell.way)
        with pytest.raises(AssertionError, match=REFUSED):
            git_lfs.fetch(cell, here, WRONG_LOGIN, oid, again=True)


def sent_bytes(cell: Cell, content: bytes) -> int:
    """What two clients of a cell cost its origin. For leave, a peer asks for the first byte."""
    if cell.way is Way.TUNNEL:
        return 2 * len(content)
    return len(content) + (0 if cell.guard is Guard.NONE else 2)


def status_for_strangers(site: Site, cell: Cell, doors: Doors, path: str) -> int:
    """What a peer that has a blob answers to a wrong password; in a tunnel, the origin."""
    _, peer = site.peers(cell.way)
    origin, proxy = doors.url(cell.way), site.swarm.proxy(peer)
    said = f"Authorization: Basic {base64.b64encode(WRONG_LOGIN.encode()).decode()}"
    if cell.way.is_mirror:
        header = (said, f"X-Dragonfly-Registry: {origin}")
        return status_of(site.place, f"{proxy}{path}", header=header)
    trusted = site.trusted(cell.way)
    return status_of(site.place, f"{origin}{path}", proxy=proxy, trusted=trusted, header=(said,))


@pytest.mark.parametrize("program", RUNTIMES)
def test_who_does_not_trust_the_peers_authority_gets_nothing(
    site: Site, clients: Clients, program: str
) -> None:
    """The client trusts whom it needs for tunnels, and meets a host that the peer opens."""
    doors, n_before = site.lfs_doors, len(site.lfs.requests)
    asked = clients.make(Cell(program, Way.TUNNEL, Guard.NONE), "peer-1", None)
    with pytest.raises(AssertionError, match="certificate signed by unknown authority"):
        asked.client.pull(f"{doors.opened}/lib/x:v1")
    assert len(site.lfs.requests) == n_before


def test_a_client_is_told_that_its_image_is_forbidden(site: Site, clients: Clients) -> None:
    cell = Cell("skopeo", Way.PROXY, Guard.NONE)
    site.store.push("forbidden/image:v1", [Layer(SIZE, seed=7300)])
    site.registries[cell.guard].forget()
    with pytest.raises(AssertionError, match=r"403 \(Forbidden\)"):
        clients.make(cell, "peer-1", None).pull("forbidden/image:v1")
    assert "download_forbidden" in site.swarm.said("peer-1")
    assert site.registries[cell.guard].blob_requests() == []
