"""Clients by every way into the proxy, at registries that let in everybody, by Basic, or by tokens.

What the cluster asks a registry for, it asks for once: blobs. Manifests and tags come fresh, and a
tunnel passes as it is. Ways and registries of other tests: plain HTTP in test_images, TLS without
a log-in in test_interception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.certificates import make_authority, make_signed
from support.client import (
    Buildah,
    Client,
    Containerd,
    Dockerd,
    Podman,
    Skopeo,
    pull_at_once,
    trusting,
)
from support.content import MIB, make_content
from support.guarded_registry import PASSWORD, USER, Guard, TokenServer
from support.image import Image, Layer
from support.lfs_service import LfsService
from support.loop_thread import LoopThread
from support.program import ORIGIN_NAME, Place
from support.registry import Registry, check_sent_once
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

LOGIN = f"{USER}:{PASSWORD}"
GUARDS = [Guard.NONE, Guard.BASIC, Guard.TOKEN]
FORBIDS = 'clientConfig: {blockList: {task: {download: {urls: ["/lib/forbidden/"]}}}}'
RULES = [{"regex": "blobs/sha256.*"}, {"regex": "/objects/[0-9a-f]{64}$"}]


@dataclass(frozen=True)
class Doors:
    """One registry, and host:port of it by HTTP, by TLS that peers open, and by TLS they don't."""

    registry: Registry
    plain: str
    opened: str
    closed: str


@dataclass(frozen=True)
class Site:
    """`ours` is what clients trust where peers open TLS, `theirs` signs for the registries."""

    thread: LoopThread
    swarm: Swarm
    doors: Mapping[Guard, Doors]
    ours: Path
    theirs: Path


@pytest.fixture(scope="module")
def site(place: Place) -> Iterator[Site]:
    ours, theirs = (make_authority(place.folder, name) for name in ("ours", "theirs"))
    signed = make_signed(place.folder, theirs, ORIGIN_NAME)
    dynconfig = place.folder / "dynconfig.yaml"
    dynconfig.write_text(FORBIDS)
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        (place.folder / "tokens").mkdir()
        tokens = thread.enter(TokenServer(place.folder / "tokens", ORIGIN_NAME))
        doors: dict[Guard, Doors] = {}
        for guard in GUARDS:
            first = doors[Guard.NONE].registry if doors else None
            registry = stack.enter_context(Registry(place, guard, tokens=tokens, of=first))
            opened, closed = (stack.enter_context(registry.front(signed)) for _ in range(2))
            doors[guard] = Doors(registry, registry.authority(), opened, closed)
        settings = {
            "proxy": {
                "server": {"caCert": str(ours.cert), "caKey": str(ours.key)},
                "interceptHosts": [{"regex": f"^{one.opened}$"} for one in doors.values()],
                "rules": RULES,
            },
            "backend": {"caCert": str(theirs.cert)},
            "dynconfig": {"file": str(dynconfig)},
        }
        mirrored = f"https://{doors[Guard.BASIC].opened}"
        swarm = Swarm(place, peers=2, registry_mirror=mirrored, settings=settings)
        stack.enter_context(swarm)
        yield Site(thread, swarm, doors, ours.cert, theirs.cert)
        assert len(swarm.alive()) == 4, "a member of the swarm died"


def push(site: Site, name: str, *seeds: int) -> Image:
    """Into all registries: they have one store. Each seed is a layer of 1 MiB."""
    image = site.doors[Guard.NONE].registry.push(
        name, [Layer(size=MIB, seed=seed) for seed in seeds]
    )
    for door in site.doors.values():
        door.registry.forget()
    return image


def two_clients(place: Place, site: Site, way: str, login: str | None) -> dict[str, Client]:
    """Skopeo at one peer, buildah at the other."""
    trusted = {"plain": None, "opened": site.ours, "closed": site.theirs}[way]
    first, second = (site.swarm.proxy(peer) for peer in site.swarm.peers)
    return {
        "skopeo": Skopeo(place, "skopeo", proxy=first, trusted=trusted, login=login),
        "buildah": Buildah(
            place,
            proxy=second,
            environ=trusting(trusted),
            checks=trusted is not None,
            login=login,
        ),
    }


def manifests_asked(registry: Registry) -> int:
    """How often somebody who was let in asked for one."""
    return sum("/manifests/" in entry.path and entry.status == 200 for entry in registry.log())


@pytest.mark.parametrize(
    ("guard", "way"),
    [
        (Guard.NONE, "plain"),
        (Guard.BASIC, "plain"),
        (Guard.TOKEN, "plain"),
        (Guard.BASIC, "opened"),
        (Guard.TOKEN, "opened"),
        (Guard.TOKEN, "closed"),
    ],
)
def test_a_proxy(place: Place, site: Site, guard: Guard, way: str) -> None:
    """By HTTP; by HTTPS that is opened on its way; by HTTPS in a tunnel."""
    door = site.doors[guard]
    seed = 1000 * GUARDS.index(guard) + 100 * len(way) + ord(way[0])
    name = f"lib/{way}:{guard.value}"
    reference = f"{getattr(door, way)}/{name}"
    clients = two_clients(place, site, way, None if guard is Guard.NONE else LOGIN)
    image = push(site, name, seed, seed + 1)
    assert pull_at_once(clients, reference) == dict.fromkeys(clients, image.digest)
    assert manifests_asked(door.registry) >= len(clients)
    if way == "closed":
        assert door.registry.times_sent(image) == dict.fromkeys(image.blobs, 2.0)
    else:
        check_sent_once(door.registry, image)
    newer = push(site, name, seed + 2)
    assert clients["skopeo"].pull(reference) == newer.digest, "the tag is another image now"


def test_a_mirror_of_a_private_registry(place: Place, site: Site) -> None:
    """As registries.conf names it, asked by HTTP, asking by HTTPS.

    A mirror is sent what its user has for its own name, so that is where he logs in.
    """
    image = push(site, "lib/mirrored:v1", 7001, 7002)
    door = site.doors[Guard.BASIC]
    auth = place.folder / "mirrors.json"
    clients: dict[str, Client] = {}
    for program, peer in zip((Podman, Buildah), site.swarm.peers, strict=True):
        client = program(
            place,
            mirror=site.swarm.authority(peer),
            registry=door.plain,
            environ={"REGISTRY_AUTH_FILE": str(auth)},
        )
        words = ("--tls-verify=false", "-u", USER, "-p", PASSWORD, site.swarm.authority(peer))
        client.run("login", *words)
        clients[program.PROGRAM] = client
    reference = f"{door.plain}/lib/mirrored:v1"
    assert pull_at_once(clients, reference) == dict.fromkeys(clients, image.digest)
    check_sent_once(door.registry, image)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_containerd_names_the_registry_behind_its_mirror(
    place: Place, site: Site, scheme: str
) -> None:
    """By hosts.toml, and with a token."""
    image = push(site, f"lib/named:{scheme}", 7100 + len(scheme))
    door = site.doors[Guard.TOKEN]
    authority = door.plain if scheme == "http" else door.opened
    mirror = site.swarm.proxy("peer-1")
    with Containerd(place, authority, mirror=mirror, login=LOGIN, scheme=scheme) as containerd:
        assert containerd.pull(f"{authority}/lib/named:{scheme}") == image.digest
    check_sent_once(door.registry, image)


def test_dockerd_with_a_token(place: Place, site: Site) -> None:
    """Basic and no log-in at all are in other tests."""
    image = push(site, "lib/docker:v1", 7200)
    door = site.doors[Guard.TOKEN]
    proxy = site.swarm.proxy("peer-2")
    with Dockerd(place, door.opened, proxy=proxy, trusted=site.ours) as dockerd:
        dockerd.run("login", "-u", USER, "-p", PASSWORD, door.opened)
        assert dockerd.pull(f"{door.opened}/lib/docker:v1") == image.digest
    check_sent_once(door.registry, image)


def test_a_client_is_told_that_its_image_is_forbidden(place: Place, site: Site) -> None:
    push(site, "lib/forbidden:v1", 7300)
    door = site.doors[Guard.NONE]
    skopeo = Skopeo(place, "forbidden", proxy=site.swarm.proxy("peer-1"))
    with pytest.raises(AssertionError, match=r"403 \(Forbidden\)"):
        skopeo.pull(f"{door.plain}/lib/forbidden:v1")
    assert "download_forbidden" in site.swarm.said("peer-1")
    assert door.registry.blob_requests() == []


# --- git-lfs --------------------------------------------------------------------------------------


def test_git_lfs_fetches_an_object_once_for_all_clones(place: Place, site: Site) -> None:
    """Though each clone has the object's address signed for itself."""
    content = make_content(2 * MIB, seed=73)
    oid = hashlib.sha256(content).hexdigest()
    service = site.thread.enter(LfsService(contents={oid: content}, host=ORIGIN_NAME))
    origin = place.folder / "git"
    git(place, "init", "--quiet", str(origin))
    (origin / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    (origin / "model.bin").write_text(pointer)
    git(place, "-C", str(origin), "add", ".")
    git(place, "-C", str(origin), "commit", "--quiet", "-m", "a model")
    for peer in site.swarm.peers:
        clone = place.folder / f"clone-at-{peer}"
        git(place, "clone", "--quiet", str(origin), str(clone))
        for words in (
            ["lfs", "install", "--local"],
            ["config", "lfs.url", service.address],
            ["config", "http.proxy", site.swarm.proxy(peer)],
            ["lfs", "pull"],
        ):
            git(place, "-C", str(clone), *words)
        assert (clone / "model.bin").read_bytes() == content
    assert service.sent_bytes == {oid: len(content)}
    assert service.batches == len(site.swarm.peers), "where it is, is asked each time"


def git(place: Place, *words: str) -> None:
    """As somebody with a name, who fetches objects when told to, not by checking out."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.test")
    place.run("git", *name, *words, environ={"GIT_LFS_SKIP_SMUDGE": "1"})
