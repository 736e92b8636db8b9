"""All downloads of this daemon: one at a time for each task, shared by everyone who wants it.

Implements `TaskHub` for the proxy and the gRPC services. What is whole on this disk is served
without asking anybody. Which scheduler to ask is the scheduler link's business, which pieces come
from where the core's.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import structlog

from odonata import ids
from odonata.digest import parse_digest
from odonata.errors import CallerError, CapacityError, NotFoundError, OdonataError
from odonata.wire.message import Download, Piece, TaskType
from peer.core.event import Begun
from peer.runtime.port import Storage, StoredTask
from peer.runtime.reception import Receptions
from peer.runtime.revalidation import changed_at_origin
from peer.runtime.run import Core, Run
from peer.runtime.run_tools import RunTools, find_no_scheduler
from peer.runtime.shared_task import SharedTask
from peer.runtime.supervise import Supervised
from peer.runtime.turns import Turns
from peer.runtime.uplink_watch import UplinkWatch
from peer.runtime.view import View

MAX_DOWNLOADS: Final = 256
"""Downloads at once; others wait for their turn. Each holds a stream to its scheduler and up to 16
parents; a node that pulls 30 images of 8 layers at once stays below it."""

MAX_WAITING: Final = 16_384
"""Downloads that wait for a turn; more are refused. A waiting one costs some 10 KiB: 160 MiB, and
as many as are told to a scheduler in one round. Who asks for more is in a loop."""

NEW_TASK_WAIT_S: Final = 1.0
"""How long a child's question about an unknown task waits: its scheduler may have named us a moment
before we began."""

_log = structlog.get_logger("download")


class Offer(NamedTuple):
    """Pieces that a child may ask for; `is_coming`: this host is still being sent them."""

    pieces: tuple[Piece, ...]
    is_coming: bool = False


class Schedulers(Protocol):
    """What the hub needs to know of the schedulers."""

    def available(self, task_id: str) -> bool:
        """There is one to ask about this task."""
        ...

    def lost_s(self) -> float | None:
        """How long ago the last one was lost; None if there was none, or there is one."""
        ...

    def needs_size(self, task_id: str) -> bool:
        """It must be told the content's length when a peer registers."""
        ...

    def tells_digests(self, task_id: str) -> bool:
        """It takes questions for strong digests of pieces."""
        ...


class Hub:
    """A `TaskHub`. `close` ends every download; what they brought stays on disk."""

    def __init__(
        self,
        storage: Storage,
        tools: RunTools,
        schedulers: Schedulers,
        make_core: Callable[[Download], Core],
        *,
        kind: TaskType = TaskType.STANDARD,
        max_downloads: int = MAX_DOWNLOADS,
        max_waiting: int = MAX_WAITING,
        receptions: Receptions | None = None,
        uplink: UplinkWatch | None = None,
    ) -> None:
        """`storage`, `tools` and `make_core` are those of tasks of `kind`.

        `receptions`: the pieces on their way here that may be passed on; None: none may. `uplink`:
        while it rests, children are told of nothing that they would only be refused.
        """
        self._uplink = uplink or UplinkWatch()
        self._kind = kind
        self.storage = storage
        self._tools = tools
        self._schedulers = schedulers
        self._make_core = make_core
        self._max_waiting = max_waiting
        self.turns = Turns(max_downloads)
        """See `Household.turns`."""
        self._shared: dict[str, SharedTask] = {}
        self._receptions = receptions or Receptions()
        self._receptions.on_told = self._told
        self._arrived = asyncio.Event()
        self._work = Supervised("hub")
        self.on_finished: Callable[[str, bool], None] | None = None
        """Called when a whole task is here: with its id, and whether a scheduler was told of it."""
        self.known_as: dict[str, str] = {}
        """Task id -> the peer id under which a scheduler knows that the whole task is here. At most
        as many as there are tasks on this disk."""

    # --- TaskHub ---

    def task_id(self, download: Download) -> str:
        return ids.task_id_of(download)

    async def open(self, download: Download, *, linger: bool = True) -> View:
        """See `TaskHub.open`. `linger`: the download goes on although this caller leaves."""
        view = await self.open_as(self.task_id(download), download, linger=linger)
        if download.prefetch and download.range is not None:
            self._prefetch(download)
        return view

    async def open_as(self, task_id: str, download: Download, *, linger: bool) -> View:
        """As `open`, for who knows the id of the task."""
        if download.type is not self._kind:
            raise CallerError(
                f"type {download.type.name} is not served here: use {self._kind.name}"
            )
        if download.digest:
            parse_digest(download.digest)
        return await self._open(task_id, download, linger=linger)

    async def _open(self, task_id: str, download: Download, *, linger: bool) -> View:
        shared = self._share(task_id)
        view = shared.join(download, linger=linger)
        try:
            await shared.open(view)
        except BaseException:
            await view.close()
            raise
        return view

    def _share(self, task_id: str) -> SharedTask:
        shared = self._shared.get(task_id)
        if shared is None:
            shared = self._shared[task_id] = SharedTask(task_id, self, self._idle)
            self._arrived.set()
            self._arrived = asyncio.Event()
        return shared

    def _idle(self, shared: SharedTask) -> None:
        if self._shared.get(shared.task_id) is shared:
            del self._shared[shared.task_id]

    def _prefetch(self, download: Download) -> None:
        whole = msgspec.structs.replace(download, range=None, prefetch=False, is_prefetch=True)
        self.start("prefetch", self._fetch_whole(whole))

    async def _fetch_whole(self, download: Download) -> None:
        try:
            view = await self._open(self.task_id(download), download, linger=True)
            await view.close()  # it lingers
        except OdonataError as error:
            _log.info("prefetch_failed", code=error.code, error=error.detail)

    # --- for children and tools ---

    async def find(self, task_id: str) -> StoredTask:
        """The stored task, waited for briefly. Raises NotFoundError."""
        task = self.storage.get(task_id)
        try:
            async with asyncio.timeout(NEW_TASK_WAIT_S):
                while task is None:
                    shared, arrived = self._shared.get(task_id), self._arrived
                    await (arrived.wait() if shared is None else shared.change())
                    task = self.storage.get(task_id)
        except TimeoutError:
            raise NotFoundError(f"task {task_id} is not known here") from None
        return task

    def _told(self, task_id: str) -> None:
        """A piece has been on its way here for a while."""
        shared = self._shared.get(task_id)
        if shared is not None:
            shared.notify()

    async def offers(
        self, task_id: str, wanted: Collection[int], *, with_coming: bool = False
    ) -> AsyncIterator[Offer]:
        """Pieces of a task as they land (`wanted` empty: all), until no more will come.

        What is here already comes together, and what lands while it is sent. `with_coming`: those
        as well that are on their way here. Raises NotFoundError if the task is not known here.
        """
        task = await self.find(task_id)
        sent: set[int] = set()
        told: set[int] = set()
        while True:
            await self._uplink.awake()
            numbers = [number for number in wanted or task.held() if number not in sent]
            pieces = tuple(piece for one in numbers if (piece := task.piece(one)) is not None)
            if pieces:
                sent.update(piece.number for piece in pieces)
                yield Offer(pieces)
            coming = self._receptions.news(task_id, wanted, told) if with_coming else ()
            if coming:
                yield Offer(coming, is_coming=True)
            if _news(task, wanted, sent):
                continue  # landed while the last ones were sent
            if task.finished or (wanted and len(sent) == len(set(wanted))):
                return
            shared = self._shared.get(task_id)
            if shared is None or not shared.busy or self.storage.get(task_id) is not task:
                return
            await shared.change()

    async def delete(self, task_id: str) -> bool:
        """Remove a task from this disk; at once, or when its last reader leaves."""
        self.known_as.pop(task_id, None)
        return await self.storage.delete(task_id)

    @property
    def running(self) -> int:
        """Tasks that are being downloaded, or wait for their turn."""
        return sum(shared.busy for shared in self._shared.values())

    # --- Household ---

    def new_run(self, download: Download, task: StoredTask) -> Run:
        """See `Household.new_run`."""
        if self.turns.waiting >= self._max_waiting:
            raise CapacityError(
                f"{self.turns.waiting} downloads wait for their turn on this host: try again later"
            )
        peer_id = self._tools.facts.peer_id(str(uuid.uuid4()))
        tools = self._tools
        if download.no_p2p:
            tools = replace(tools, find_scheduler=find_no_scheduler)
        return Run(self._make_core(download), download, task, peer_id, tools)

    def begun(self, task: StoredTask, download: Download) -> Begun:
        """See `Household.begun`. Who wants no peers is told that there is nobody to ask for any."""
        alone = download.no_p2p
        return Begun(
            content_length=task.content_length,
            piece_length=task.piece_length,
            held=task.held(),
            scheduler=not alone and self._schedulers.available(task.task_id),
            lost_s=None if alone else self._schedulers.lost_s(),
            needs_size=self._schedulers.needs_size(task.task_id),
            tells_digests=self._schedulers.tells_digests(task.task_id),
            ahead_host_id="" if alone else self._ahead_host_id(download),
        )

    def _ahead_host_id(self, download: Download) -> str:
        """A seed that may be asked for all of a content while the scheduler still thinks."""
        seed = None if self._tools.asker is None else self._tools.known.seed
        is_plain = self._kind is TaskType.STANDARD and download.range is None
        if seed is None or not is_plain:
            return ""
        asks_others = download.need_back_to_source or download.metadata_only
        return "" if asks_others else seed.host_id

    def finished(self, task_id: str, peer_id: str, *, told: bool) -> None:
        """See `Household.finished`."""
        self.known_as[task_id] = peer_id
        if self.on_finished is not None:
            self.on_finished(task_id, told)
        if len(self.known_as) > len(self.storage.tasks()):  # some were collected since
            held = {known: name for known, name in self.known_as.items() if self.storage.get(known)}
            self.known_as = held

    async def changed(self, task: StoredTask, download: Download) -> str | None:
        """See `Household.changed`."""
        return await changed_at_origin(self._tools.source, task, download)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """See `Household.start`."""
        if self._work.closed:
            work.close()
            return
        self._work.start(name, work)

    async def close(self) -> None:
        """End every download."""
        await self._work.close()


def _news(task: StoredTask, wanted: Collection[int], sent: Collection[int]) -> bool:
    """There is a piece that was not sent yet."""
    return any(number not in sent and task.piece(number) for number in wanted or task.held())
