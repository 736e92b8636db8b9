"""Real container clients: dockerd, containerd (ctr and CRI), podman, buildah, skopeo.

Each keeps all it has below the place's folder. Clients that run as a daemon are contexts. `pull`
returns the digest of the manifest that the client says it has; it raises AssertionError with the
client's own words if the pull failed. Clients check the digests of layers themselves; skopeo leaves
the blobs for a second look.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast

import grpc
from support.image import Image, check_blobs
from support.program import RUN_TIMEOUT_S, Place, Program

NAMESPACE = "test"  # of containerd; k8s.io belongs to CRI


class Client(Protocol):
    """What all of them can do."""

    def pull(self, reference: str) -> str: ...

    def remove(self, reference: str) -> None: ...


@dataclass
class Skopeo:
    """`proxy`: HTTP_PROXY of the tool. `mirror`: host:port of a mirror of every `registry`.

    `trusted`: a PEM file of the only authorities it trusts; None: it checks nothing. `login`:
    user:password.
    """

    place: Place
    name: str
    proxy: str | None = None
    mirror: str | None = None
    registry: str = ""
    trusted: Path | None = None
    login: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def folder(self) -> Path:
        """Where the blobs of the latest pull lie, named by the hex of their digests."""
        return self.place.folder / self.name

    def pull(self, reference: str) -> str:
        config = write_registries_conf(self.place, self.name, self.registry, self.mirror)
        self.place.run(
            *("skopeo", "--registries-conf", config, "copy", "--insecure-policy"),
            f"--src-tls-verify={str(self.trusted is not None).lower()}",
            *(() if self.login is None else (f"--src-creds={self.login}",)),
            *(f"docker://{reference}", f"dir:{self.folder}"),
            proxy=self.proxy,
            environ={**self.environ, **trusting(self.trusted)},
        )
        manifest = (self.folder / "manifest.json").read_bytes()
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def wrong_blobs(self, image: Image) -> list[str]:
        """See `check_blobs`."""
        return check_blobs(self.folder, image)

    def remove(self, reference: str) -> None:
        del reference
        shutil.rmtree(self.folder)


@dataclass
class Podman:
    """Storage and run folders of its own, copies instead of mounts. Else as skopeo."""

    PROGRAM: ClassVar[str] = "podman"
    OPTIONS: ClassVar[tuple[str, ...]] = ("--cgroup-manager=cgroupfs", "--events-backend=file")
    PULL: ClassVar[tuple[str, ...]] = ("pull",)

    place: Place
    proxy: str | None = None
    mirror: str | None = None
    registry: str = ""
    environ: dict[str, str] = field(default_factory=dict[str, str])
    checks: bool = False
    """The registry's certificate."""
    login: str | None = None
    name: str = ""
    """Of the folder with all it has; the program's, if it says nothing."""

    def __post_init__(self) -> None:
        self.name = self.name or self.PROGRAM
        config = write_registries_conf(self.place, self.name, self.registry, self.mirror)
        self.environ["CONTAINERS_REGISTRIES_CONF"] = str(config)

    def pull(self, reference: str) -> str:
        login = () if self.login is None else (f"--creds={self.login}",)
        self.run(*self.PULL, f"--tls-verify={str(self.checks).lower()}", *login, reference)
        return self.digest(reference)

    def digest(self, reference: str) -> str:
        return self.run("image", "inspect", "--format", "{{.Digest}}", reference).strip()

    def remove(self, reference: str) -> None:
        self.run("rmi", "--force", reference)

    def run(self, *words: str) -> str:
        """`podman WORDS`, with what it has here."""
        folder = self.place.folder / self.name
        return self.place.run(
            *(self.PROGRAM, "--root", folder / "root", "--runroot", folder / "run"),
            *("--storage-driver=vfs", *self.OPTIONS),
            *words,
            proxy=self.proxy,
            environ=self.environ,
        )


class Buildah(Podman):
    """As podman, by its own program."""

    PROGRAM = "buildah"
    OPTIONS = ()
    PULL = ("pull", "--policy=always")

    def digest(self, reference: str) -> str:
        return self.run("images", "--format", "{{.Digest}}", reference).strip()


class Dockerd:
    """A docker daemon without a network of its own. `proxy` is the daemon's HTTP_PROXY.

    `trusted`: as Skopeo's, though it trusts a registry on loopback whatever it says. `mirror`: URL
    of a mirror of Docker Hub.
    """

    def __init__(
        self,
        place: Place,
        *registries: str,
        proxy: str | None = None,
        trusted: Path | None = None,
        mirror: str | None = None,
        name: str = "docker",
    ) -> None:
        """`registries`: those whose TLS it does not check, if nothing is `trusted`."""
        folder = place.folder / name
        self._place = place
        self._folder = folder
        self._socket = f"unix://{folder / 'docker.sock'}"
        unchecked = registries if trusted is None else ()
        words: list[str | Path] = [
            *("dockerd", "--data-root", folder / "root", "--exec-root", folder / "exec"),
            *("-H", self._socket, "-p", folder / "pid"),
            *(word for one in unchecked for word in ("--insecure-registry", one)),
            *(() if mirror is None else ("--registry-mirror", mirror)),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"),
        ]
        self._program = Program(place, f"{name}d", words, proxy=proxy, environ=trusting(trusted))

    def __enter__(self) -> Self:
        self._folder.mkdir()
        with ExitStack() as stack:
            stack.enter_context(self._program)
            socket = self._folder / "docker.sock"
            said = self._program.err
            self._program.wait_until(
                lambda: socket.exists() and "API listen on" in said.read_text(), "its socket"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        shutil.rmtree(self._folder)

    def end(self) -> None:
        """As `Program.end`."""
        self._program.end()

    def pull(self, reference: str, config: Path | None = None) -> str:
        """`config`: the folder that `docker login` has written into."""
        own = () if config is None else ("--config", str(config))
        self.said = self.run(*own, "pull", reference)
        assert "Already exists" not in self.said, self.said
        inspected = self.run("image", "inspect", "--format", "{{json .RepoDigests}}", reference)
        (repo_digest,) = json.loads(inspected)
        return str(repo_digest).partition("@")[2]

    def remove(self, reference: str) -> None:
        self.run("image", "rm", "--force", reference)

    def run(self, *words: str) -> str:
        """`docker WORDS` against this daemon."""
        return self._place.run("docker", "--host", self._socket, *words)


class Containerd:
    """containerd with ctr and the CRI image service, which is kubelet's way.

    `mirror`: URL of a mirror for `registry`, as hosts.toml has it, with the header that tells the
    mirror where to ask. Without it the registry is asked itself, by plain HTTP.
    """

    def __init__(
        self,
        place: Place,
        registry: str = "",
        *,
        mirror: str | None = None,
        login: str | None = None,
        hosts: Mapping[str, str] | None = None,
        proxy: str | None = None,
        name: str = "containerd",
    ) -> None:
        """`login`: user:password, for ctr. `hosts`: by registry, what its hosts.toml says.

        `proxy`: HTTP_PROXY of containerd itself, which fetches for CRI; ctr fetches by itself.
        """
        self._login = () if login is None else ("--user", login)
        self._place = place
        self._folder = place.folder / name
        self._socket = self._folder / "containerd.sock"
        server = f"http://{registry}"
        self._hosts = hosts or {registry: hosts_toml(server, mirror=mirror, upstream=server)}
        config = self._folder / "config.toml"
        self._program = Program(place, name, ["containerd", "--config", config], proxy=proxy)

    @property
    def hosts_dir(self) -> Path:
        """One folder for each registry, with a hosts.toml."""
        return self._folder / "certs.d"

    def __enter__(self) -> Self:
        for registry, text in self._hosts.items():
            folder = self.hosts_dir / registry
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(text)
        (self._folder / "config.toml").write_text(self._config_toml())
        with ExitStack() as stack:
            stack.enter_context(self._program)
            said = self._program.err
            self._program.wait_until(
                lambda: "containerd successfully booted" in said.read_text(), "its socket"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        shutil.rmtree(self._folder)

    def end(self) -> None:
        """As `Program.end`."""
        self._program.end()

    def pull(self, reference: str) -> str:
        """By ctr, unpacked."""
        self.run(
            *("images", "pull", "--snapshotter", "native", "--plain-http"),
            *("--hosts-dir", str(self.hosts_dir), *self._login, reference),
        )
        return self.digest(reference, NAMESPACE)

    def pull_by_cri(self, reference: str, login: str | None = None) -> str:
        """By runtime.v1.ImageService/PullImage, as kubelet asks. AssertionError if it fails."""
        request = _bytes_field(1, _bytes_field(1, reference.encode()))
        if login is not None:
            user, _, password = login.partition(":")
            request += _bytes_field(
                2, _bytes_field(1, user.encode()) + _bytes_field(2, password.encode())
            )
        with grpc.insecure_channel(f"unix:{self._socket}") as channel:
            method = cast("Any", channel).unary_unary("/runtime.v1.ImageService/PullImage")
            try:
                answer: bytes = method(request, timeout=RUN_TIMEOUT_S)
            except grpc.RpcError as error:
                raise AssertionError(f"PullImage {reference}: {error}") from error
        assert b"sha256:" in answer, answer
        return self.digest(reference, "k8s.io")

    def digest(self, reference: str, namespace: str) -> str:
        """What the image store holds under that name, after containerd found it complete."""
        listed = self.run("images", "check", f"name=={reference}", namespace=namespace)
        line = listed.splitlines()[1].split()
        assert line[3] == "complete", listed
        return line[2]

    def remove(self, reference: str, namespace: str = NAMESPACE) -> None:
        self.run("images", "rm", "--sync", reference, namespace=namespace)

    def run(self, *words: str, namespace: str = NAMESPACE, proxy: str | None = None) -> str:
        """`ctr WORDS` against this containerd. `proxy`: HTTP_PROXY of ctr."""
        ctr = ("ctr", "--address", self._socket, "--namespace", namespace)
        return self._place.run(*ctr, *words, proxy=proxy)

    def _config_toml(self) -> str:
        return f"""version = 2
root = "{self._folder / "root"}"
state = "{self._folder / "state"}"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{self.hosts_dir}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
"""


@dataclass
class ByCri:
    """containerd as a Client whose pulls go through the CRI. `login`: user:password."""

    containerd: Containerd
    login: str | None = None

    def pull(self, reference: str) -> str:
        return self.containerd.pull_by_cri(reference, self.login)

    def remove(self, reference: str) -> None:
        listed = self.containerd.run("images", "list", "--quiet", namespace="k8s.io")
        for name in listed.split():  # CRI also keeps names by digest, which hold the content
            self.containerd.remove(name, "k8s.io")


def hosts_toml(
    server: str, *, mirror: str | None = None, upstream: str = "", ca: Path | None = None
) -> str:
    """What containerd has to know of the registry at `server`, a URL.

    `mirror`: URL of who is asked first, and is told to ask `upstream`, a URL. `ca`: the authority
    whose certificates count.
    """
    host = mirror or server
    text = f'server = "{server}"\n[host."{host}"]\ncapabilities = ["pull", "resolve"]\n'
    if ca is not None:
        text += f'ca = "{ca}"\n'
    if mirror is not None:
        text += f'[host."{host}".header]\nX-Dragonfly-Registry = ["{upstream}"]\n'
    return text


def trusting(authorities: Path | None) -> dict[str, str]:
    """The environment of a program written in Go that trusts these alone."""
    return {} if authorities is None else {"SSL_CERT_FILE": str(authorities)}


def write_registries_conf(place: Place, name: str, registry: str, mirror: str | None) -> Path:
    """The containers-registries.conf(5) of skopeo and podman."""
    path = place.folder / f"{name}.registries.conf"
    entry = ""
    if mirror is not None:
        entry = (
            f'[[registry]]\nprefix = "{registry}"\nlocation = "{registry}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n'
        )
    path.write_text(entry)
    return path


def _bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message: PullImageRequest needs no more than that."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    data: list[int] = []
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def pull_at_once(clients: Mapping[str, Client], reference: str) -> dict[str, str]:
    """The digest that each client ended with."""
    with ThreadPoolExecutor(len(clients)) as threads:
        pulls = {name: threads.submit(it.pull, reference) for name, it in clients.items()}
        return {name: pull.result() for name, pull in pulls.items()}
