"""What registries hold besides plain images: it all comes through the swarm, and comes once.

Indexes of several platforms, layers packed by zstd, artifacts and what refers to them, and layers
that lie elsewhere.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.client import Containerd, Podman
from support.content import MIB, make_content
from support.image import MANIFEST_TYPE
from support.image_push import Descriptor, Shelf, describe
from support.loop_thread import LoopThread
from support.origin import Origin
from support.program import ORIGIN_NAME, Place
from support.registry import Registry
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
GZIP_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
DOCKER_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
FOREIGN_TYPE = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
SIZE = 256 * 1024


@dataclass(frozen=True)
class Site:
    registry: Registry
    swarm: Swarm
    elsewhere: Origin

    def proxies(self) -> tuple[str, str]:
        first, second = (self.swarm.proxy(peer) for peer in self.swarm.peers)
        return first, second

    def times_sent(self, *blobs: Descriptor) -> list[float]:
        """How often the registry sent each, by its log."""
        log = self.registry.log()
        return [
            sum(e.sent_bytes for e in log if e.path.endswith(blob["digest"]) and e.method == "GET")
            / blob["size"]
            for blob in blobs
        ]


@pytest.fixture(scope="module")
def site(place: Place, registry: Registry) -> Iterator[Site]:
    with LoopThread() as thread:
        elsewhere = thread.enter(Origin())
        mirror = f"http://{registry.authority()}"
        with Swarm(place, peers=2, registry_mirror=mirror) as swarm:
            yield Site(registry, swarm, elsewhere)
            assert len(swarm.alive()) == 4, "a member of the swarm died"


def tar_of(seed: int) -> bytes:
    """A layer's content: one file."""
    content, file = make_content(SIZE, seed=seed), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo(f"data/{seed}.bin")
        member.size = SIZE
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def config_of(tar: bytes, architecture: str = "amd64") -> bytes:
    diff_id = describe(tar, "")["digest"]
    return (
        f'{{"architecture": "{architecture}", "os": "linux", "config": {{}},'
        f' "rootfs": {{"type": "layers", "diff_ids": ["{diff_id}"]}}}}'
    ).encode()


def manifest_of(
    config: Descriptor, *layers: Descriptor, media_type: str = MANIFEST_TYPE, **more: Any
) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": list(layers),
        **more,
    }


def platform_image(shelf: Shelf, architecture: str, seed: int) -> tuple[Descriptor, Descriptor]:
    """The manifest, as an index names it, and its layer."""
    tar = tar_of(seed)
    layer = shelf.blob(gzip.compress(tar, 1, mtime=0), GZIP_TYPE)
    config = shelf.blob(config_of(tar, architecture), CONFIG_TYPE)
    platform = {"architecture": architecture, "os": "linux"}
    return shelf.manifest(manifest_of(config, layer), platform=platform), layer


def copied(
    place: Place, reference: str, proxy: str, name: str, flag: str = "--multi-arch=system"
) -> Path:
    """By skopeo, into a folder with all blobs, which skopeo checks."""
    folder = place.folder / name
    place.run(
        *("skopeo", "--override-arch=arm64", "copy", "--insecure-policy"),
        *("--src-tls-verify=false", flag, f"docker://{reference}", f"dir:{folder}"),
        proxy=proxy,
    )
    return folder


def holds(folder: Path, *blobs: Descriptor) -> bool:
    return all((folder / blob["digest"].removeprefix("sha256:")).is_file() for blob in blobs)


def test_an_index_of_two_platforms(place: Place, site: Site) -> None:
    """One client takes its own platform, the other all of them."""
    shelf = site.registry.shelf("kinds/index")
    arm, arm_layer = platform_image(shelf, "arm64", 1)
    amd, amd_layer = platform_image(shelf, "amd64", 2)
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [arm, amd]}
    shelf.manifest(index, "v1")
    site.registry.forget()
    reference = site.registry.reference("kinds/index:v1")
    here, there = site.proxies()
    own = copied(place, reference, here, "own")
    assert holds(own, arm_layer)
    assert not holds(own, amd_layer)
    everything = copied(place, reference, there, "everything", "--multi-arch=all")
    assert holds(everything, arm_layer, amd_layer)
    assert site.times_sent(arm_layer, amd_layer) == [1.0, 1.0]


def test_layers_packed_by_zstd(place: Place, site: Site) -> None:
    """podman and containerd unpack them, so every byte was right."""
    shelf, tar = site.registry.shelf("kinds/zstd"), tar_of(3)
    packed = subprocess.run(["zstd", "-q", "-c"], input=tar, capture_output=True, check=True)
    layer = shelf.blob(packed.stdout, ZSTD_TYPE)
    config = shelf.blob(config_of(tar), CONFIG_TYPE)
    image = shelf.manifest(manifest_of(config, layer), "v1")
    site.registry.forget()
    reference = site.registry.reference("kinds/zstd:v1")
    here, there = site.proxies()
    assert Podman(place, proxy=here).pull(reference) == image["digest"]
    with Containerd(place, site.registry.authority(), mirror=there) as containerd:
        assert containerd.pull(reference) == image["digest"]
    assert site.times_sent(layer, config) == [1.0, 1.0]


def test_an_artifact_and_what_refers_to_it(place: Place, site: Site) -> None:
    """A signature by the tag that clients fall back to, where a registry has no referrers."""
    shelf = site.registry.shelf("kinds/artifact")
    nothing = shelf.blob(b"{}", EMPTY_TYPE)
    weights = shelf.blob(make_content(MIB, seed=4), "application/vnd.test.weights")
    model = shelf.manifest(
        manifest_of(nothing, weights, artifactType="application/vnd.test.model"), "v1"
    )
    words = shelf.blob(make_content(SIZE, seed=5), "application/vnd.test.signature")
    signed = manifest_of(
        nothing, words, artifactType="application/vnd.test.signature", subject=model
    )
    signature = shelf.manifest(signed)
    referrers = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [signature]}
    listed = shelf.manifest(referrers, model["digest"].replace(":", "-"))
    site.registry.forget()
    repository = site.registry.reference("kinds/artifact")
    for name, proxy in zip(("artifact-here", "artifact-there"), site.proxies(), strict=True):
        assert holds(copied(place, f"{repository}:v1", proxy, name), weights)
        by_digest = f"{repository}@{signature['digest']}"
        assert holds(copied(place, by_digest, proxy, f"signature-{name}"), words)
        asked = f"http://{repository.replace('/', '/v2/', 1)}"
        tag = listed_through(place, f"{asked}/manifests/{model['digest'].replace(':', '-')}", proxy)
        assert describe(tag.encode(), INDEX_TYPE)["digest"] == listed["digest"]
        api = f"{asked}/referrers/{model['digest']}"
        assert listed_through(place, api, proxy) == listed_through(place, api, None)
    assert site.times_sent(weights, words) == [1.0, 1.0]


def listed_through(place: Place, url: str, proxy: str | None) -> str:
    """What is answered, whatever it is."""
    return place.run("curl", "-sS", "-H", f"Accept: {INDEX_TYPE}", url, proxy=proxy)


def test_a_layer_that_lies_elsewhere(place: Place, site: Site) -> None:
    """Its manifest names a URL; that a rule matches."""
    shelf, tar = site.registry.shelf("kinds/foreign"), tar_of(6)
    packed = gzip.compress(tar, 1, mtime=0)
    path = f"/elsewhere/blobs/{describe(packed, '')['digest']}"
    port = site.elsewhere.address.rpartition(":")[2]
    site.elsewhere.add(path, packed)
    urls = [f"http://{ORIGIN_NAME}:{port}{path}"]
    layer = describe(packed, FOREIGN_TYPE, urls=urls)
    config = shelf.blob(config_of(tar), DOCKER_CONFIG_TYPE)
    shelf.manifest(manifest_of(config, layer, media_type=DOCKER_TYPE), "v1")
    site.registry.forget()
    reference = site.registry.reference("kinds/foreign:v1")
    for name, proxy in zip(("foreign-here", "foreign-there"), site.proxies(), strict=True):
        assert holds(copied(place, reference, proxy, name), layer)
    assert site.elsewhere.copies(path) == 1.0
    assert site.times_sent(layer) == [0.0], "the registry never had it"
