"""Real clients pull images through a real swarm from a real registry, whose log tells who asked.

One swarm serves all tests of this module; each test pulls layers that no other has pulled before.
test_matrix has every client by every way; here many pull large images at once.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from support.client import Client, Containerd, Dockerd, Podman, Skopeo, pull_at_once
from support.content import MIB
from support.image import MANIFEST_TYPE, Image, Layer
from support.program import Place
from support.registry import Registry, check_sent_once
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

NAME = "lib/rand:v1"
PEERS = 4


@dataclass(frozen=True)
class Answer:
    """What an HTTP client sees of an answer, without what belongs to the connection alone."""

    status: int
    header: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def swarm(place: Place, registry: Registry) -> Iterator[Swarm]:
    mirror = f"http://{registry.authority()}"
    with Swarm(place, peers=PEERS, registry_mirror=mirror) as swarm:
        yield swarm
        assert len(swarm.alive()) == PEERS + 2, "a member of the swarm died"


def layers(*sizes_mib: int, seed: int) -> list[Layer]:
    """Different content for each seed."""
    return [Layer(size=n * MIB, seed=seed * 1000 + n) for n in sizes_mib]


def check_second_pull(
    clients: Mapping[str, Client], registry: Registry, reference: str, image: Image
) -> None:
    """A client that has forgotten the image gets it from its peer, which asks nobody for blobs."""
    for client in clients.values():
        client.remove(reference)
    registry.forget()
    assert pull_at_once(clients, reference) == dict.fromkeys(clients, image.digest)
    assert registry.blob_requests() == []
    assert {e.method for e in registry.log() if "/blobs/" in e.path} <= {"HEAD"}


def get(url: str, headers: Mapping[str, str], proxy: str | None = None) -> Answer:
    request = urllib.request.Request(url, headers=dict(headers))
    if proxy is not None:
        request.set_proxy(proxy, "http")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name not in {"Connection", "Date", "Via"}
        }
        return Answer(status=answer.status, header=kept, body=answer.read())


@contextmanager
def four_clients(place: Place, registry: Registry, swarm: Swarm) -> Generator[dict[str, Client]]:
    """One of each kind, each at a peer of its own, as its users would set it up."""
    origin = registry.authority()
    mirror = swarm.authority("peer-3"), swarm.authority("peer-4")
    with (
        Dockerd(place, origin, proxy=swarm.proxy("peer-1")) as dockerd,
        Containerd(place, origin, mirror=swarm.proxy("peer-2")) as containerd,
    ):
        yield {
            "dockerd": dockerd,
            "containerd": containerd,
            "podman": Podman(place, mirror=mirror[0], registry=origin),
            "skopeo": Skopeo(place, "skopeo", mirror=mirror[1], registry=origin),
        }


def test_four_clients_at_four_peers_at_once(place: Place, registry: Registry, swarm: Swarm) -> None:
    """dockerd by HTTP_PROXY; ctr by hosts.toml, podman and skopeo by registries.conf."""
    image = registry.push(NAME, layers(1, 20, 200, seed=2))
    reference = registry.reference(NAME)
    with four_clients(place, registry, swarm) as clients:
        assert pull_at_once(clients, reference) == dict.fromkeys(clients, image.digest)
        check_sent_once(registry, image)
        check_second_pull(clients, registry, reference, image)


def test_the_same_client_at_four_peers_at_once(
    place: Place, registry: Registry, swarm: Swarm
) -> None:
    image = registry.push(NAME, layers(1, 20, 60, seed=4))
    origin = registry.authority()
    skopeos = {
        name: Skopeo(place, f"at-{name}", mirror=swarm.authority(name), registry=origin)
        for name in swarm.peers
    }
    digests = pull_at_once(skopeos, registry.reference(NAME))
    assert digests == dict.fromkeys(swarm.peers, image.digest)
    assert [skopeo.wrong_blobs(image) for skopeo in skopeos.values()] == [[]] * PEERS
    check_sent_once(registry, image)


def test_a_layer_that_images_share_leaves_the_registry_once(
    place: Place, registry: Registry, swarm: Swarm
) -> None:
    """Another tag, and another repository: the blob is the same, and so is its task."""
    shared, mine, yours, theirs = layers(20, 1, 2, 3, seed=5)
    first = registry.push("lib/rand:first", [shared, mine])
    second = registry.push("lib/rand:second", [shared, yours])
    third = registry.push("other/name:third", [shared, theirs])
    images = {"lib/rand:first": first, "lib/rand:second": second, "other/name:third": third}
    for peer, (name, image) in zip(swarm.peers, images.items(), strict=False):
        skopeo = Skopeo(place, f"shares-{peer}", proxy=swarm.proxy(peer))
        assert skopeo.pull(registry.reference(name)) == image.digest
        assert skopeo.wrong_blobs(image) == []
    for image in images.values():
        check_sent_once(registry, image)


def test_manifests_pass_untouched(registry: Registry, swarm: Swarm) -> None:
    """By both ways into the proxy: every byte and header that matters, and each time anew."""
    image = registry.push(NAME, layers(1, seed=6))
    path = "/v2/lib/rand/manifests/v1"
    origin = f"http://{registry.authority()}"
    headers = {"Accept": MANIFEST_TYPE, "User-Agent": "a test/1.0"}
    direct = get(f"http://127.0.0.1:{registry.port}{path}", headers)
    assert direct.header["Docker-Content-Digest"] == image.digest
    registry.forget()
    through_proxy = get(f"{origin}{path}", headers, proxy=swarm.authority("peer-1"))
    by_mirror = get(f"{swarm.proxy('peer-2')}{path}", headers)
    assert through_proxy == direct
    assert by_mirror == direct
    asked = [(entry.path, entry.user_agent) for entry in registry.log()]
    assert asked == [(path, "a test/1.0")] * 2
