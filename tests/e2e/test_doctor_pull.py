"""`odonata doctor --pull` beside a real daemon, at registries that let in everybody, or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.content import MIB
from support.daemon import command
from support.guarded_registry import PASSWORD, USER, Guard, TokenServer
from support.image import Layer
from support.loop_thread import LoopThread
from support.program import ORIGIN_NAME, Place
from support.registry import Registry, with_every_guard
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

NAME = "lib/proved:v1"
LAYERS = [Layer(size=MIB, seed=n) for n in (1, 2)]


@dataclass(frozen=True)
class Site:
    place: Place
    swarm: Swarm
    registries: Mapping[Guard, Registry]

    def name(self, guard: Guard, name: str = NAME) -> str:
        return f"http://{self.registries[guard].reference(name)}"

    def pull(self, image: str, *words: str | Path, port: int | None = None) -> dict[str, Any]:
        """The findings of the pull alone, by name."""
        port = port or int(self.swarm.authority("peer-1").rpartition(":")[2])
        settings = ("--set", f"proxy.server.port={port}")
        done = self.place.call(
            *command("doctor", "--json", *settings, "--pull", image, *map(str, words))
        )
        assert done.stdout, done.stderr
        findings = json.loads(done.stdout)["findings"]
        return {one["check"]: one for one in findings if one["check"].startswith("pull.")}


@pytest.fixture(scope="module")
def site(place: Place) -> Iterator[Site]:
    with ExitStack() as stack:
        thread = stack.enter_context(LoopThread())
        (place.folder / "tokens").mkdir()
        tokens = thread.enter(TokenServer(place.folder / "tokens", ORIGIN_NAME))
        store = stack.enter_context(Registry(place, name="store"))
        registries = with_every_guard(stack, place, store, tokens)
        mirror = f"http://{store.authority()}"
        swarm = stack.enter_context(Swarm(place, peers=1, registry_mirror=mirror))
        store.push(NAME, LAYERS)
        yield Site(place, swarm, registries)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return file


@pytest.mark.parametrize("guard", list(Guard))
def test_a_pull_is_proved(site: Site, password: Path, guard: Guard) -> None:
    login = () if guard is Guard.NONE else ("--username", USER, "--password-file", password)
    found = site.pull(site.name(guard), *login)
    assert [one["level"] for one in found.values()] == ["ok", "ok"], found
    assert "3 blobs" in found["pull.blobs"]["detail"]
    assert "by the swarm, every digest right" in found["pull.blobs"]["detail"]


@pytest.mark.parametrize("guard", [Guard.BASIC, Guard.TOKEN])
def test_a_missing_login_is_named(site: Site, guard: Guard) -> None:
    (found,) = site.pull(site.name(guard)).values()
    assert (found["check"], found["level"]) == ("pull.manifest", "failure")
    assert "--username" in found["fix"]


def test_what_is_not_there_is_named(site: Site) -> None:
    (found,) = site.pull(site.name(Guard.NONE, "lib/nothing:v1")).values()
    assert found["level"] == "failure"
    assert "there is no manifest v1" in found["detail"]
    assert "check repository and tag" in found["fix"]
    (found,) = site.pull("nothing").values()
    assert "REGISTRY/REPOSITORY:TAG" in found["fix"]


def test_a_daemon_that_is_not_there_is_named(site: Site) -> None:
    (found,) = site.pull(site.name(Guard.NONE), port=1).values()
    assert "nobody listens on 127.0.0.1:1" in found["detail"]


def test_what_the_daemon_itself_refuses_is_told_in_its_words(site: Site) -> None:
    (found,) = site.pull("http://registry.test:1/lib/x:v1").values()
    assert found["level"] == "failure"
    assert "the daemon answers 502" in found["detail"]
    assert "registry.test:1" in found["detail"]
