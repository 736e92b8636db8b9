"""Real clients pull from a private registry over TLS, through peers that open it.

The registry's certificate is signed by an authority that only the daemons trust; the clients trust
only the one that `odonata ca create` made. The registry's own log and tap are behind its TLS. Each
client with each log-in is in test_matrix.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.certificates import make_authority, make_signed
from support.client import (
    NAMESPACE,
    Client,
    Containerd,
    Podman,
    Skopeo,
    pull_at_once,
    trusting,
)
from support.content import MIB
from support.image import Layer
from support.program import ORIGIN_NAME, Place
from support.registry import Registry, check_sent_once
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

REPOSITORY = "lib/rand:v1"


@dataclass(frozen=True)
class Private:
    """A registry by https: host:port, what clients trust, and the swarm before it."""

    authority: str
    trusted: Path
    untrusted: Path
    swarm: Swarm


@pytest.fixture(scope="module")
def private(place: Place, registry: Registry) -> Iterator[Private]:
    own = make_authority(place.folder, "registrys-own")
    folder = place.folder / "proxy"
    odonata("ca", "create", "--dir", str(folder), "--host", ORIGIN_NAME)
    settings = {
        "proxy": {
            "server": {"caCert": str(folder / "ca.crt"), "caKey": str(folder / "ca.key")},
            "interceptHosts": [{"regex": ORIGIN_NAME}],
        },
        "backend": {"caCert": str(own.cert)},
    }
    with (
        registry.front(make_signed(place.folder, own, ORIGIN_NAME)) as authority,
        Swarm(place, peers=2, registry_mirror=f"https://{authority}", settings=settings) as swarm,
    ):
        yield Private(authority, folder / "ca.crt", own.cert, swarm)
        assert len(swarm.alive()) == 4, "a member of the swarm died"


def layers(*sizes_mib: int, seed: int) -> list[Layer]:
    return [Layer(size=n * MIB, seed=seed * 1000 + n) for n in sizes_mib]


def test_two_clients_pull_from_a_private_registry_at_once(
    place: Place, registry: Registry, private: Private
) -> None:
    image = registry.push(REPOSITORY, layers(1, 20, seed=21))
    swarm, trusted = private.swarm, private.trusted
    clients: dict[str, Client] = {
        "skopeo": Skopeo(place, "skopeo-tls", proxy=swarm.proxy("peer-1"), trusted=trusted),
        "podman": Podman(
            place, proxy=swarm.proxy("peer-2"), environ=trusting(trusted), checks=True
        ),
    }
    digests = pull_at_once(clients, f"{private.authority}/{REPOSITORY}")
    assert digests == dict.fromkeys(clients, image.digest)
    check_sent_once(registry, image)


def test_podman_and_containerd_as_init_sets_them_up(
    place: Place, registry: Registry, private: Private
) -> None:
    """podman opens TLS at its peer; ctr asks its peer as a mirror, and has it ask by https."""
    image = registry.push(REPOSITORY, layers(1, 20, seed=23))
    reference = f"{private.authority}/{REPOSITORY}"
    root = place.folder / "set-up"
    proxy = private.swarm.proxy("peer-1")
    for words in (
        ["podman"],
        ["containerd", "--registry", private.authority],
    ):
        odonata("init", *words, "--proxy", proxy, "--root", str(root))
    podman = Podman(
        place,
        environ={
            **trusting(private.trusted),
            "CONTAINERS_CONF": str(root / "etc/containers/containers.conf.d/odonata.conf"),
        },
        checks=True,
    )
    assert podman.pull(reference) == image.digest
    check_sent_once(registry, image)
    assert "kind=intercept" in private.swarm.said("peer-1")
    registry.forget()
    dumped = place.run(
        "containerd", "--config", root / "etc/containerd/config.toml", "config", "dump"
    )
    assert 'config_path = "/etc/containerd/certs.d"' in dumped
    with Containerd(place, private.authority) as containerd:
        hosts = root / "etc/containerd/certs.d"
        containerd.run(
            "images", "pull", "--snapshotter", "native", "--hosts-dir", str(hosts), reference
        )
        assert containerd.digest(reference, NAMESPACE) == image.digest
    assert registry.blob_requests() == [], "the peer has it"


def odonata(*words: str) -> None:
    program = [sys.executable, "-c", "from odonata.cli import main; main()"]
    subprocess.run([*program, *words], check=True, capture_output=True)


def test_a_client_that_trusts_another_authority_pulls_nothing(
    place: Place, registry: Registry, private: Private
) -> None:
    registry.push(REPOSITORY, layers(1, seed=22))
    stranger = Skopeo(
        place, "stranger", proxy=private.swarm.proxy("peer-1"), trusted=private.untrusted
    )
    with pytest.raises(AssertionError, match="certificate signed by unknown authority"):
        stranger.pull(f"{private.authority}/{REPOSITORY}")
    assert "interception_failed" in private.swarm.said("peer-1")
    assert registry.log() == []
