"""A platform engineer's walkthrough, with the files as published (`support.settings_file`).

Only what differs from machine to machine is changed in them: addresses, ports, files, the name of
the registry. All around is real: dockerd, a private registry by HTTPS with a log-in, an authority
made by openssl, Redis with a password, a collector of spans. All machines are one here, so folders
and the remaining ports are on command lines.

Left out, since there is no manager yet: the seed finds its scheduler by `--scheduler` instead of
the manager of its file, and nothing is preheated from Harbor. The manager's file is read, and that
is all; MariaDB is its business.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import settings_file
from support.certificates import make_authority, make_signed
from support.client import Dockerd
from support.content import MIB, make_content
from support.guarded_registry import PASSWORD, USER, Guard
from support.image import Layer
from support.loop_thread import LoopThread
from support.otlp_receiver import Got, Receiver, receiving_grpc
from support.program import ORIGIN_NAME, Place, Program
from support.redis_server import RedisServer
from support.registry import Registry, check_sent_once

from manager.settings import ManagerSettings
from odonata.settings.loading import load

pytestmark = pytest.mark.e2e

ODONATA = Path(sys.executable).with_name("odonata")
REPOSITORY = "lib/rand"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Node:
    """A program of ours, which says what it does on its terminal, as its file wants it."""

    name: str
    program: Program
    folder: Path

    def said(self, event: str) -> list[dict[str, str]]:
        """What it said with each such event."""
        lines = (_ANSI.sub("", line) for line in self.program.err.read_text().splitlines())
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines if f"] {event} " in line]

    def started(self, event: str) -> dict[str, str]:
        """What it said when it was ready."""
        found = self.program.wait_until(lambda: self.said(event), f"{event} of {self.name}")
        return found[0]

    def traffic(self) -> tuple[int, int]:
        """Bytes it has downloaded from the source, and from peers."""
        done = self.said("download_finished")
        sums = (
            sum(int(one[key]) for one in done) for key in ("bytes_from_source", "bytes_from_peers")
        )
        return next(sums), next(sums)

    def answers(self) -> list[dict[str, str]]:
        """What its proxy has answered with blobs, from whereever they came."""
        return [one for one in self.said("request_answered") if one.get("kind") == "p2p"]


@dataclass(frozen=True)
class Site:
    """What the engineer has set up. `authority`: host:port of the registry."""

    registry: Registry
    authority: str
    receiver: Receiver
    thread: LoopThread
    scheduler: Node
    seed: Node
    peers: tuple[Node, Node]
    dockers: tuple[Dockerd, Dockerd]


def fitted(text: str, values: Mapping[str, str]) -> str:
    """A file of the walkthrough with the values of this machine."""
    for published, ours in values.items():
        assert published in text, f"{published} is not in the file"
        text = text.replace(published, ours)
    return text


@pytest.fixture(scope="module")
def site(place: Place) -> Iterator[Site]:
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        receiver = thread.enter(receiving_grpc())
        registry = stack.enter_context(Registry(place, Guard.BASIC))
        own = make_authority(place.folder, "registrys-own")
        signed = make_signed(place.folder, own, ORIGIN_NAME)
        authority = stack.enter_context(registry.front(signed))
        redis = stack.enter_context(RedisServer(place.folder, "--requirepass", "dragonfly"))
        tracing = [
            "--set=tracing.protocol=grpc",  # what the warning about `jaeger` says
            f"--set=tracing.endpoint={receiver.address}",
        ]
        nodes = Nodes(place, stack, tracing)
        scheduler = nodes.scheduler(redis.address)
        address = scheduler.started("scheduler_started")["address"]
        seed = nodes.seed(address, trusted=own.cert)
        make_hijacking_authority(place.folder)
        peers = nodes.peer("peer-1", address), nodes.peer("peer-2", address)
        dockers = tuple(stack.enter_context(docker_of(place, authority, one)) for one in peers)
        seed.started("daemon_started")
        for docker in dockers:
            docker.run("login", "-u", USER, "-p", PASSWORD, authority)
        first, second = dockers
        yield Site(registry, authority, receiver, thread, scheduler, seed, peers, (first, second))
        for node in (*peers, seed, scheduler):
            node.program.end()


def make_hijacking_authority(folder: Path) -> None:
    """As the walkthrough says: RSA of 2048 bits, signed by itself, CA:TRUE."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-batch"]
    files = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    constraint = ["-addext", "basicConstraints=critical,CA:TRUE", "-subj", "/CN=a platform team"]
    subprocess.run([*words, *files, *constraint], check=True, capture_output=True)


def docker_of(place: Place, authority: str, peer: Node) -> Dockerd:
    """HTTP_PROXY and HTTPS_PROXY are the peer; it trusts the authority that the peer signs with."""
    port = peer.started("daemon_started")["proxy_port"]
    return Dockerd(
        place,
        authority,
        proxy=f"http://127.0.0.1:{port}",
        trusted=place.folder / "ca.crt",
        name=f"docker-at-{peer.name}",
    )


@dataclass(frozen=True)
class Nodes:
    """Starts them. `more`: what every command line says besides."""

    place: Place
    stack: ExitStack
    more: list[str]

    def scheduler(self, redis: str) -> Node:
        values = {"127.0.0.1:6379": redis, "8002": "0"}
        text = fitted(settings_file.SCHEDULER, values)
        return self._start("scheduler", "scheduler", text, "--listen-ip=127.0.0.1")

    def seed(self, scheduler: str, *, trusted: Path) -> Node:
        """`trusted`: the registry's authority, which its system trusts."""
        text = settings_file.SEED_PEER
        return self._daemon("seed", text, scheduler, environ={"SSL_CERT_FILE": str(trusted)})

    def peer(self, name: str, scheduler: str) -> Node:
        values = {
            "127.0.0.1:8002": scheduler,
            "0.0.0.0": "127.0.0.1",
            "65001": "0",
            "ca.crt": str(self.place.folder / "ca.crt"),
            "ca.key": str(self.place.folder / "ca.key"),
            "your.private.registry": ORIGIN_NAME,
        }
        return self._daemon(name, fitted(settings_file.PEER, values))

    def _daemon(
        self,
        name: str,
        text: str,
        scheduler: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Node:
        folder = self.place.folder / name
        words = [
            *("--ip=127.0.0.1", f"--hostname={name}", "--upload-port=0", "--piece-port=0"),
            *("--set=upload.server.ip=127.0.0.1", "--set=storage.server.ip=127.0.0.1"),
            *(f"--data-dir={folder / 'data'}", f"--socket={folder / 'd.sock'}"),
            *(() if scheduler is None else (f"--scheduler={scheduler}", "--proxy-port=0")),
        ]
        return self._start("daemon", name, text, *words, environ=environ)

    def _start(
        self,
        command: str,
        name: str,
        text: str,
        *words: str,
        environ: Mapping[str, str] | None = None,
    ) -> Node:
        folder = self.place.folder / name
        folder.mkdir()
        config = folder / f"{command}.yaml"
        config.write_text(text)
        line: list[str | Path] = [ODONATA, command, "--config", config, *self.more, *words]
        program = self.stack.enter_context(Program(self.place, name, line, environ=environ))
        return Node(name, program, folder)


def test_the_four_cases_of_a_pull(site: Site) -> None:
    """Counted at the registry, and at every peer."""
    registry, (here, there), (peer, other) = site.registry, site.dockers, site.peers
    shared = Layer(size=2 * MIB, seed=31)
    image = registry.push(f"{REPOSITORY}:v1", [shared, Layer(size=MIB, seed=32)])
    reference = f"{site.authority}/{REPOSITORY}:v1"

    # 3. Nobody has it: the seed fetches it from the registry, the peer from the seed meanwhile.
    assert here.pull(reference) == image.digest
    check_sent_once(registry, image)
    assert site.seed.traffic() == (image.size, 0)
    assert peer.traffic() == (0, image.size)

    # 2. Another peer has it not, and gets it from those that have.
    registry.forget()
    assert there.pull(reference) == image.digest
    assert registry.blob_requests() == []
    assert other.traffic() == (0, image.size)

    # 1. The peer has it.
    here.remove(reference)
    registry.forget()
    answered = len(peer.answers())
    assert here.pull(reference) == image.digest
    assert registry.blob_requests() == []
    assert any("/manifests/" in entry.path for entry in registry.log()), "manifests come fresh"
    assert sum(int(one["bytes"]) for one in peer.answers()[answered:]) == image.size
    assert peer.traffic() == (0, image.size), "nothing was downloaded again"

    # 4. Docker has the layer, and asks nobody.
    second = registry.push(f"{REPOSITORY}:v2", [shared, Layer(size=MIB, seed=33)])
    answered = len(peer.answers())
    assert "Already exists" in here.run("pull", f"{site.authority}/{REPOSITORY}:v2")
    (layer,) = set(image.layers) & set(second.layers)
    assert not [one for one in peer.answers()[answered:] if layer in one["url"]]


def test_a_pull_is_a_trace_at_the_collector(site: Site) -> None:
    image = site.registry.push(f"{REPOSITORY}:traced", [Layer(size=MIB, seed=34)])
    seen = len(site.receiver.spans)
    assert site.dockers[0].pull(f"{site.authority}/{REPOSITORY}:traced") == image.digest

    def is_told(spans: list[Got]) -> bool:
        new = spans[seen:]
        triggered = {one.trace_id for one in new if one.name == "trigger_seed"}
        fetched = [one.trace_id for one in new if one.name == "download"]
        return any(fetched.count(trace) == 2 for trace in triggered)  # the peer's and the seed's

    site.thread.run(site.receiver.until(is_told))


def test_a_cached_layer_can_be_found(site: Site, place: Place) -> None:
    """By the task's id, below the data folder, and by asking the daemon."""
    image = site.registry.push(f"{REPOSITORY}:cached", [Layer(size=MIB, seed=35)])
    site.dockers[0].pull(f"{site.authority}/{REPOSITORY}:cached")
    (digest,) = image.layers
    peer = site.peers[0]
    url = f"https://{site.authority}/v2/{REPOSITORY}/blobs/{digest}"
    task_id = place.run(ODONATA, "task", "id", url, "--by-blob-digest").strip()
    assert task_id == digest.removeprefix("sha256:")
    assert [path.name for path in (peer.folder / "data").rglob(f"{task_id}*")] == [task_id]
    told = place.run(ODONATA, "task", "stat", task_id, "-e", peer.folder / "d.sock")
    assert "2 peers, one of them can give it" in told
    assert any(one["task_id"] == task_id for one in peer.said("download_finished"))


def test_the_schedulers_redis_is_used_with_its_password(site: Site, place: Place) -> None:
    """It keeps what persistent cache tasks there are."""
    file = place.folder / "model"
    file.write_bytes(make_content(MIB))
    first, second = (("-e", one.folder / "d.sock") for one in site.peers)
    task_id = place.run(ODONATA, "cache", "import", file, "--replicas=1", *first).strip()
    copy = place.folder / "copy"
    place.run(ODONATA, "cache", "export", task_id, "-O", copy, *second)
    assert copy.read_bytes() == file.read_bytes()


def test_what_has_no_effect_is_said(site: Site) -> None:
    said = {node.name: node.program.err.read_text() for node in (site.scheduler, site.seed)}
    assert "jaeger has no effect" in said["scheduler"]
    assert "scheduler.manager.netAddrs has no effect" in said["seed"]


def test_the_managers_file_is_read(tmp_path: Path) -> None:
    """There is no manager to give it to yet."""
    file = tmp_path / "manager.yaml"
    file.write_text(settings_file.MANAGER)
    settings = load(ManagerSettings, file=file).settings
    assert settings.database.type == "mysql"
    assert settings.server.grpc.port.start == 65003
