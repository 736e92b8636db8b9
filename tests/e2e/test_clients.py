"""The real clients at the real registry, without Odonata: proof that the tests' own tools work.

What fails here is the machine or tests/support, not Odonata.
"""

from __future__ import annotations

import pytest
from support.client import Buildah, ByCri, Client, Containerd, Dockerd, Podman, Skopeo
from support.content import MIB
from support.image import Layer
from support.program import Place
from support.registry import Registry, check_sent_once

pytestmark = pytest.mark.e2e

NAME = "lib/rand:v1"
LAYERS = [Layer(size=MIB, seed=1), Layer(size=3 * MIB, seed=2)]


def pulls_twice(client: Client, registry: Registry) -> None:
    """Also tells that removing an image makes the client ask again."""
    image = registry.push(NAME, LAYERS)
    reference = registry.reference(NAME)
    for _ in range(2):
        assert client.pull(reference) == image.digest
        check_sent_once(registry, image)
        client.remove(reference)
        registry.forget()


def test_skopeo(place: Place, registry: Registry) -> None:
    pulls_twice(Skopeo(place, "skopeo"), registry)


def test_podman(place: Place, registry: Registry) -> None:
    pulls_twice(Podman(place), registry)


def test_buildah(place: Place, registry: Registry) -> None:
    pulls_twice(Buildah(place), registry)


def test_dockerd(place: Place, registry: Registry) -> None:
    with Dockerd(place, registry.authority()) as dockerd:
        pulls_twice(dockerd, registry)


def test_containerd(place: Place, registry: Registry) -> None:
    with Containerd(place, registry.authority()) as containerd:
        pulls_twice(containerd, registry)
        pulls_twice(ByCri(containerd), registry)
