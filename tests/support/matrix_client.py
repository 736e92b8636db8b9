"""The clients of the matrix: each program, at a peer, by a way, as somebody.

with Clients(site) as clients:
    asked = clients.make(Cell("podman", Way.MIRROR, Guard.BASIC), "peer-1", LOGIN)
    digest = asked.pull("lib/rand:v1")

Programs that run as daemons start when they are first asked for, one at each peer, which is in
their proxy variables.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from support.client import (
    Buildah,
    ByCri,
    Client,
    Containerd,
    Dockerd,
    Podman,
    Skopeo,
    hosts_toml,
    trusting,
)
from support.curl_image import CurlImage
from support.guarded_registry import Guard
from support.matrix_site import Site, Way

LOGINS = {Guard.NONE: "none", Guard.BASIC: "basic", Guard.TOKEN: "bearer"}
# Where nobody listens (discard, RFC 863): containerd, which has a proxy as well, shall not get past
# its mirror by it.
_NOBODY = "127.0.0.1:9"


class Cell(NamedTuple):
    """A program, its way to the origin, and what the origin wants."""

    program: str
    way: Way
    guard: Guard

    def __str__(self) -> str:
        return f"{self.program}-{self.way.value}-{LOGINS[self.guard]}"


@dataclass(frozen=True)
class Asked:
    """A client, and what the names of images start with there."""

    client: Client
    registry: str

    def pull(self, name: str) -> str:
        """The digest that it ends with."""
        return self.client.pull(f"{self.registry}{name}")


@dataclass(frozen=True)
class _DockerUser:
    """dockerd for somebody whose log-ins are in `config`."""

    dockerd: Dockerd
    config: Path

    def pull(self, reference: str) -> str:
        return self.dockerd.pull(reference, self.config)

    def remove(self, reference: str) -> None:
        self.dockerd.remove(reference)


@dataclass(frozen=True)
class _Ctr:
    """ctr, whose own proxy variables count."""

    containerd: Containerd
    proxy: str | None
    login: str | None

    def pull(self, reference: str) -> str:
        login = () if self.login is None else ("--user", self.login)
        hosts = ("--hosts-dir", str(self.containerd.hosts_dir))
        words = ("images", "pull", "--snapshotter", "native", *hosts, *login, reference)
        self.containerd.run(*words, proxy=self.proxy)
        return self.containerd.digest(reference, "test")

    def remove(self, reference: str) -> None:
        self.containerd.remove(reference)


class Clients:
    """See the module."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stack = ExitStack()
        self._dockerds: dict[str, Dockerd] = {}
        self._containerds: dict[str, Containerd] = {}
        self._makers: dict[str, Callable[[Cell, str, str | None], Asked]] = {
            "dockerd": self._dockerd,
            "ctr": self._ctr,
            "cri": self._cri,
            "podman": self._podman,
            "buildah": self._buildah,
            "skopeo": self._skopeo,
            "curl": self._curl,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for dockerd in self._dockerds.values():
            dockerd.end()
        for containerd in self._containerds.values():
            containerd.end()
        self._stack.close()

    def make(self, cell: Cell, peer: str, login: str | None) -> Asked:
        """`login`: user:password; None: nobody's."""
        return self._makers[cell.program](cell, peer, login)

    # --- daemons ----------------------------------------------------------------------------------

    def _dockerd(self, cell: Cell, peer: str, login: str | None) -> Asked:
        if peer not in self._dockerds:
            self._dockerds[peer] = self._start_dockerd(peer)
        authority = self._site.doors[cell.guard].by(cell.way)
        names = ["https://index.docker.io/v1/"] if cell.way.is_mirror else [authority]
        config = self._auth_file(f"docker-{cell}-{login}", names, login).parent
        prefix = "docker.io" if cell.way.is_mirror else authority
        return Asked(_DockerUser(self._dockerds[peer], config), f"{prefix}/")

    def _start_dockerd(self, peer: str) -> Dockerd:
        """Far from the registries, so that it checks whom they are signed by."""
        site = self._site
        for doors in site.doors.values():
            for way, authority in ((Way.TUNNEL, site.theirs), (Way.INTERCEPTION, site.ours)):
                trust = site.place.folder / "instead/etc/docker/certs.d" / doors.by(way)
                trust.mkdir(parents=True, exist_ok=True)
                (trust / "ca.crt").write_bytes(authority.read_bytes())
        proxy = site.swarm.proxy(peer)
        unchecked = [doors.plain for doors in site.doors.values()]
        name = f"docker-{peer}"
        dockerd = Dockerd(site.place.far(), *unchecked, proxy=proxy, mirror=proxy, name=name)
        return self._stack.enter_context(dockerd)

    def _ctr(self, cell: Cell, peer: str, login: str | None) -> Asked:
        proxy = None if cell.way.is_mirror else self._site.swarm.proxy(peer)
        return Asked(_Ctr(self._containerd(cell, peer), proxy, login), self._host(cell))

    def _cri(self, cell: Cell, peer: str, login: str | None) -> Asked:
        return Asked(ByCri(self._containerd(cell, peer), login), self._host(cell))

    def _host(self, cell: Cell) -> str:
        """How containerd calls a registry that it asks itself, or by a mirror."""
        if cell.way.is_mirror:
            return f"{LOGINS[cell.guard]}-by-{cell.way.value.replace('_', '-')}.test/"
        return f"{self._site.doors[cell.guard].by(cell.way)}/"

    def _containerd(self, cell: Cell, peer: str) -> Containerd:
        if peer not in self._containerds:
            site, hosts = self._site, dict[str, str]()
            for guard, doors in site.doors.items():
                for way in Way:
                    name = self._host(Cell(cell.program, way, guard)).rstrip("/")
                    url = doors.url(way)
                    hosts[name] = (
                        hosts_toml(f"http://{_NOBODY}", mirror=site.swarm.proxy(peer), upstream=url)
                        if way.is_mirror
                        else hosts_toml(url, ca=site.trusted(way))
                    )
            proxy, name = site.swarm.proxy(peer), f"containerd-{peer}"
            containerd = Containerd(site.place, hosts=hosts, proxy=proxy, name=name)
            self._containerds[peer] = self._stack.enter_context(containerd)
        return self._containerds[peer]

    # --- programs ---------------------------------------------------------------------------------

    def _podman(self, cell: Cell, peer: str, login: str | None) -> Asked:
        return self._of_libpod(Podman, cell, peer, login)

    def _buildah(self, cell: Cell, peer: str, login: str | None) -> Asked:
        return self._of_libpod(Buildah, cell, peer, login)

    def _of_libpod(self, program: type[Podman], cell: Cell, peer: str, login: str | None) -> Asked:
        site, name = self._site, f"{cell.program}-{peer}"
        authority = site.doors[cell.guard].by(cell.way)
        if cell.way.is_mirror:
            client = program(
                site.place,
                mirror=site.swarm.authority(peer),
                registry=authority,
                environ=self._mirror_login(cell, peer, login),
                name=name,
            )
            return Asked(client, f"{authority}/")
        trusted = site.trusted(cell.way)
        client = program(
            site.place,
            proxy=site.swarm.proxy(peer),
            environ=trusting(trusted),
            checks=trusted is not None,
            login=login,
            name=name,
        )
        return Asked(client, f"{authority}/")

    def _skopeo(self, cell: Cell, peer: str, login: str | None) -> Asked:
        site, name = self._site, f"skopeo-{peer}"
        authority = site.doors[cell.guard].by(cell.way)
        if cell.way.is_mirror:
            mirror = site.swarm.authority(peer)
            environ = self._mirror_login(cell, peer, login)
            client = Skopeo(site.place, name, mirror=mirror, registry=authority, environ=environ)
        else:
            proxy, trusted = site.swarm.proxy(peer), site.trusted(cell.way)
            client = Skopeo(site.place, name, proxy=proxy, trusted=trusted, login=login)
        return Asked(client, f"{authority}/")

    def _curl(self, cell: Cell, peer: str, login: str | None) -> Asked:
        """As a mirror it asks any peer for any registry: it may say which."""
        site, url = self._site, self._site.doors[cell.guard].url(cell.way)
        proxy = site.swarm.proxy(peer)
        client = CurlImage(
            place=site.place,
            base=proxy if cell.way.is_mirror else url,
            folder=site.place.folder / f"curl-{peer}",
            proxy=None if cell.way.is_mirror else proxy,
            trusted=site.trusted(cell.way),
            header=(f"X-Dragonfly-Registry: {url}",) if cell.way.is_mirror else (),
            login=login,
            realm=site.tokens.config()["realm"] if cell.guard is Guard.TOKEN else None,
        )
        return Asked(client, "")

    # --- log-ins ----------------------------------------------------------------------------------

    def _mirror_login(self, cell: Cell, peer: str, login: str | None) -> dict[str, str]:
        """What their user has for the mirror's own name, since that is all a mirror is sent."""
        names = [self._site.swarm.authority(peer)]
        path = self._auth_file(f"auth-{cell}-{peer}-{login}", names, login)
        return {"REGISTRY_AUTH_FILE": str(path)}

    def _auth_file(self, folder: str, names: list[str], login: str | None) -> Path:
        """As `docker login` and `podman login` write it."""
        path = self._site.place.folder / folder / "config.json"
        path.parent.mkdir(exist_ok=True)
        encoded = base64.b64encode((login or "").encode()).decode()
        auths = {} if login is None else {name: {"auth": encoded} for name in names}
        path.write_text(json.dumps({"auths": auths}))
        return path
