"""Replicas are asked for until there are as many as were wanted, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from support.eventually import eventually
from support.persistent_world import PersistentWorld

from odonata.errors import UnavailableError
from scheduler.core.persistent.state import Kind, PeerHost, Snapshot, Task
from scheduler.runtime.persistent.replicator import Replicator

CACHE = Kind.PERSISTENT_CACHE


class WorldStore:
    """What a store says of one task of a world."""

    def __init__(self, world: PersistentWorld) -> None:
        self._world = world

    async def load(self, _task_id: str) -> Snapshot:
        return self._world.snapshot

    async def host_ids(self) -> list[str]:
        return list(self._world.snapshot.hosts)

    async def hosts(self, names: Iterable[str]) -> dict[str, PeerHost]:
        return {name: self._world.snapshot.hosts[name] for name in names}


class LateHolders:
    """Hosts that fetch what they are asked for, whose own word of it is on its way for long."""

    def __init__(self, world: PersistentWorld, *failing: str) -> None:
        self._world = world
        self._failing = failing
        self.asked: list[str] = []

    async def keep(self, kind: Kind, host: PeerHost, task_id: str, *, persistent: bool) -> None:
        raise AssertionError("nobody has a copy that could be kept")

    async def fetch(self, kind: Kind, host: PeerHost, task: Task) -> None:
        del kind, task
        self.asked.append(host.id)
        if host.id in self._failing:
            raise UnavailableError("its disk is full")
        self._world.register(f"p-{host.id}", host.id, persistent=True)
        self._world.started(f"p-{host.id}")


async def filled(world: PersistentWorld, holders: LateHolders) -> None:
    """One run of one task, to its end."""
    stores = cast("Any", {CACHE: WorldStore(world)})
    replicator = Replicator(world.core, stores, holders, lambda: 0.0)
    work = asyncio.ensure_future(replicator.run())
    replicator.want(CACHE, world.snapshot.task_id)
    await eventually(lambda: bool(holders.asked))
    for _ in range(50):  # whatever could follow at once has followed
        await asyncio.sleep(0)
    work.cancel()


async def test_who_has_done_it_counts_while_its_word_is_on_its_way() -> None:
    world = PersistentWorld(CACHE)
    for number in range(4):
        world.announce(f"h{number}")
    world.upload("p0", "h0", replicas=2)
    holders = LateHolders(world)
    await filled(world, holders)
    assert len(holders.asked) == 1


async def test_who_failed_is_not_asked_again() -> None:
    world = PersistentWorld(CACHE)
    for name in ("h0", "h1"):
        world.announce(name)
    world.upload("p0", "h0", replicas=2)
    holders = LateHolders(world, "h1")
    await filled(world, holders)
    assert holders.asked == ["h1"]
