"""Puts together what serves one kind of persistent task; tells schedulers what was collected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from odonata.wire.message import Download, TaskType
from peer.runtime.conversation import Conversation
from peer.runtime.hub import Hub
from peer.runtime.persistent.importer import Importer
from peer.runtime.persistent.kind_storage import KindStorage
from peer.runtime.persistent.scheduler_calls import SchedulerCalls
from peer.runtime.persistent.service import Shelf
from peer.runtime.persistent.tasks import PersistentTasks
from peer.runtime.port import ObjectStore
from peer.runtime.run import Core
from peer.runtime.run_tools import RunTools
from peer.runtime.scheduler_link import SchedulerLink
from peer.runtime.storage.collect import Eviction
from peer.runtime.storage.store import DiskStorage
from peer.runtime.task_admin import TaskAdmin


@dataclass(frozen=True, kw_only=True)
class ShelfParts:
    """What both kinds share. `store` None: nothing can be written to object storage."""

    storage: DiskStorage
    tools: RunTools
    link: SchedulerLink
    make_core: Callable[[Download], Core]
    store: ObjectStore | None = None


def open_shelf(parts: ShelfParts, kind: TaskType, default_ttl_s: float) -> Shelf:
    """All that serves tasks of `kind`. Its hub is to be closed."""
    host_id, link = parts.tools.facts.id, parts.link

    def converse(task_id: str, peer_id: str) -> Conversation:
        return link.converse(host_id, task_id, peer_id, kind)

    hub = Hub(
        KindStorage(parts.storage, kind),
        replace(parts.tools, converse=converse),
        link,
        parts.make_core,
        kind=kind,
    )
    calls = SchedulerCalls(link, kind, host_id)
    tasks = PersistentTasks(kind, hub, calls, default_ttl_s=default_ttl_s)
    return Shelf(
        tasks=tasks,
        importer=Importer(tasks, parts.storage, parts.tools.facts, parts.store),
    )


def store_of(sources: Any) -> ObjectStore | None:
    """`sources` as an object storage to write to; None if it can't."""
    able = all(hasattr(sources, name) for name in ("put", "length"))
    return cast("ObjectStore", sources) if able else None


class Farewell:
    """Who is told of a task that was collected: its scheduler, by the words of its kind."""

    def __init__(self, admin: TaskAdmin, shelves: tuple[Shelf, Shelf]) -> None:
        self._admin = admin
        self._shelves = {shelf.tasks.kind: shelf for shelf in shelves}

    async def say(self, eviction: Eviction) -> None:
        """Best effort."""
        shelf = self._shelves.get(eviction.kind)
        if shelf is None:
            await self._admin.forget(eviction.task_id)
            return
        tasks = shelf.tasks
        await tasks.forget(eviction.task_id, tasks.hub.known_as.pop(eviction.task_id, None))
