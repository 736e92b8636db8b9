"""One task in use: who looks at it, and the download they share.

    views --want--> SharedTask --owns--> at most one Run --fills--> StoredTask --tells--> views

A second caller joins the running download. When the last view is closed the download goes on if any
of its callers said so (`linger`: the proxy's and the scheduler's do, since a client that hangs up
usually comes back, and children feed on it meanwhile), else it is cancelled; what it brought stays.
When a run ends and somebody still lacks something (it joined too late), another run begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import msgspec
import structlog

from odonata.errors import (
    DigestMismatchError,
    InternalError,
    OdonataError,
    SourceError,
    WrongContentError,
)
from odonata.wire.message import Download, TrafficType
from peer.core.event import Begun
from peer.runtime.port import Storage, StoredTask
from peer.runtime.revalidation import asks_for_check
from peer.runtime.run import Run
from peer.runtime.run_tools import ContentChangedError
from peer.runtime.turns import Turns
from peer.runtime.view import View

MAX_FRUITLESS_RUNS: Final = 3
"""Downloads in a row that end well and bring nothing. One may, if a piece rots meanwhile."""

_REFUSALS: Final = frozenset({401, 403, 404})
"""What a source answers to whom it does not let in; 404: it does not even say that it is there."""

_log = structlog.get_logger("download")


class Household(Protocol):
    """What a shared task needs of the hub that owns it."""

    @property
    def storage(self) -> Storage: ...
    @property
    def turns(self) -> Turns:
        """Who downloads now, and who waits."""
        ...

    def new_run(self, download: Download, task: StoredTask) -> Run:
        """A run, not started. Raises CapacityError."""
        ...

    def begun(self, task: StoredTask, download: Download) -> Begun:
        """The first event of a run for `download`."""
        ...

    def finished(self, task_id: str, peer_id: str, *, told: bool) -> None:
        """The whole task is here, by the name of `peer_id`. `told`: a scheduler knows that."""
        ...

    async def changed(self, task: StoredTask, download: Download) -> str | None:
        """Why the origin has another content than `task`; None: it has not. See `revalidation`."""
        ...

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a supervised task."""
        ...


class SharedTask:
    """Made by the hub when a task is asked for; calls `on_idle` when nobody needs it any more."""

    def __init__(
        self, task_id: str, house: Household, on_idle: Callable[[SharedTask], None]
    ) -> None:
        self.task_id = task_id
        self._house = house
        self._on_idle = on_idle
        self._task: StoredTask | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._opening = asyncio.Lock()
        self._views: set[View] = set()
        self._run: Run | None = None
        self._driving = 0
        self._linger = False
        self._was_reset = False
        self._spoiled_by: Run | None = None
        self.proved_digests: set[str] = set()
        """What the whole content was found to have."""
        self._held_before = 0
        self._fruitless_runs = 0
        self._foremost: int | None = None
        self._changed = asyncio.Event()

    @property
    def task(self) -> StoredTask:
        """The stored task; there is one as soon as a view was opened."""
        assert self._task is not None, "asked before the task was opened"
        return self._task

    @property
    def stored(self) -> StoredTask | None:
        """The stored task, if it is there already."""
        return self._task

    @property
    def busy(self) -> bool:
        """More pieces may come."""
        return self._run is not None or self._opening.locked()

    @property
    def is_proved(self) -> bool:
        """The whole content is here, and was checked as far as it can be."""
        return self.task.finished or (self._run is not None and self._run.is_proved)

    # --- callers ---

    def join(self, download: Download, *, linger: bool) -> View:
        """A new view; `open` it next."""
        view = View(self, download, linger=linger)
        self._views.add(view)
        return view

    async def open(self, view: View) -> None:
        """Make what `view` wants come; return once the content's facts are known.

        Errors: the download's, storage's, CapacityError.
        """
        stale = await self._find_stale(view.download)
        async with self._opening:
            await self._await_ending_run()
            if self._task is None or self._house.storage.get(self.task_id) is not self._task:
                await self._open_stored(view.download)
            if stale is not None and stale is self._task and self._run is None:
                await self._forget_content()
                view.download = msgspec.structs.replace(view.download, need_back_to_source=True)
            await self.task.examine()
            view.was_local = self.task.piece_length is not None and view.satisfied
            if not view.was_local:
                await self._begin(view)
            elif _tells(view.download) and self.task.finished and self._run is None:
                self._linger = self._linger or view.linger
                self._start_run(view.download)  # only tells the scheduler that it is here
            if self._run is not None:
                view.peer_id = self._run.peer_id
        await view.known()

    async def _find_stale(self, download: Download) -> StoredTask | None:
        """What is held, if `download` wants it checked and the origin has another content now.

        Others go on to use it meanwhile: an origin takes its time.
        """
        task = self._house.storage.get(self.task_id)
        if task is None or task.piece_length is None or self._run is not None:
            return None
        if not asks_for_check(download):
            return None
        why = await self._house.changed(task, download)
        if why is not None:
            _log.info("content_outdated", task_id=self.task_id, reason=why)
        return None if why is None else task

    async def _open_stored(self, download: Download) -> None:
        if self._task is not None:
            self._forget_stored()
        storage = self._house.storage
        task = storage.get(self.task_id)
        if task is None or not task.finished:
            task = await storage.create(self.task_id, download)
        task.pin()
        self._task = task
        self._unsubscribe = task.subscribe(self._stored_changed)
        self.notify()

    async def _begin(self, view: View) -> None:
        view.joined = True
        self._linger = self._linger or view.linger
        if self._run is not None and not self._run.ended:
            self._join(self._run, view)
        else:
            await self._house.storage.create(self.task_id, view.download)  # pieces may come (again)
            self._start_run(view.download)

    def _join(self, run: Run, view: View) -> None:
        for wish in view.wishes:
            run.join(wish)

    async def _await_ending_run(self) -> None:
        """A run that was cancelled, or found another content, can't be joined."""
        while self._run is not None and (self._run.cancelled or self._run.ended):
            await self.change()

    def want_more(self, view: View) -> None:
        """`view` reads more than it was opened for."""
        if self._run is not None and not self._run.ended:
            self._join(self._run, view)
        else:
            self._house.start("more of a task", self._begin_again(view))

    def reader_at(self, view: View, number: int | None) -> None:
        """The reader of `view` waits for piece `number` (None: it does not wait)."""
        view.waits_at = number
        waiting = [one.waits_at for one in self._views if one.waits_at is not None]
        foremost = min(waiting, default=None)
        if foremost != self._foremost:
            self._foremost = foremost
            if self._run is not None:
                self._run.reader_waits(foremost)

    def leave(self, view: View) -> None:
        """`view` is closed."""
        self.reader_at(view, None)
        self._views.discard(view)
        if not self._views and self._run is not None and not self._linger:
            self._run.cancel()
        self._rest_if_idle()

    async def change(self) -> None:
        """Return when something changed since the call."""
        await self._changed.wait()

    # --- the download ---

    def _start_run(self, download: Download) -> None:
        run = self._house.new_run(download, self.task)
        run.on_disproved = self._disproved
        run.on_proved = self.notify
        for view in self._views:
            view.peer_id = run.peer_id
            if view.joined and not view.satisfied and view.error is None:
                self._join(run, view)
                self._linger = self._linger or view.linger
        _log.info("download_started", task_id=self.task_id, peer_id=run.peer_id)
        self._run = run
        self._held_before = len(self.task.held())
        self._foremost = None
        self._driving += 1
        self._house.start(f"download of task {self.task_id}", self._live(run))

    async def _live(self, run: Run) -> None:
        run.outcome.add_done_callback(lambda _: self._ended(run))
        try:
            async with self._house.turns.take(run.outcome) as granted:
                if granted:
                    await run.drive(self._house.begun(self.task, run.download))
        finally:
            run.abandon()  # nothing, unless it never had its turn
            self._driving -= 1
            self._ended(run)
            if self._run is run:  # left there by `_ended`, so that nobody joins or begins meanwhile
                await self._after_wrong_content(run)
            self._rest_if_idle()

    def _ended(self, run: Run) -> None:
        """Readers may know how it ended. The first call for a run counts."""
        error = run.outcome.result()
        if self._run is not run or (isinstance(error, ContentChangedError) and not self._was_reset):
            return
        if isinstance(error, WrongContentError):
            if self._spoiled_by is not run:
                self._spoiled_by = run
                self._spoil(error)
            return
        self._run = None
        self._linger = False
        if error is None:
            self._finished(run)
            self._check_progress()
            self._serve_the_rest()
        elif isinstance(error, SourceError) and error.status_code in _REFUSALS:
            self._fail(error, _rights(run.download))
            self._serve_the_rest()
        else:
            self._fail(error)
        self.notify()
        self._rest_if_idle()

    def _finished(self, run: Run) -> None:
        if self.task.finished:
            self.proved_digests.update(run.whole_digests)
            self._house.finished(self.task_id, run.peer_id, told=run.told)
        pieces = [piece for number in self.task.held() if (piece := self.task.piece(number))]
        from_source = sum(
            piece.length for piece in pieces if piece.traffic_type is TrafficType.BACK_TO_SOURCE
        )
        _log.info(
            "download_finished",
            task_id=self.task_id,
            peer_id=run.peer_id,
            content_length=self.task.content_length,
            bytes_from_source=from_source,
            bytes_from_peers=sum(piece.length for piece in pieces) - from_source,
        )

    def _disproved(self, number: int) -> None:
        error = DigestMismatchError(
            f"piece {number} was not what the source sent, and had been read: ask again"
        )
        for view in self._views:
            view.spoil(error, number)
        self.notify()

    def _spoil(self, error: WrongContentError) -> None:
        """Readers learn it at once; who comes now waits until the content is gone."""
        for view in self._views:
            view.spoil(error)
        self._fail(error)
        self.notify()

    async def _after_wrong_content(self, run: Run) -> None:
        if isinstance(run.outcome.result(), WrongContentError):
            self._run = None
            self._linger = False
            self._serve_the_rest()
            self.notify()
        else:
            await self._begin_anew()

    def _check_progress(self) -> None:
        """Who lacks something gets run after run: not for ever, if they bring nothing."""
        fruitful = self.task.finished or len(self.task.held()) > self._held_before
        self._fruitless_runs = 0 if fruitful else self._fruitless_runs + 1
        if self._fruitless_runs >= MAX_FRUITLESS_RUNS:
            self._fail(InternalError(f"task {self.task_id} can't be completed: the log says more"))

    def _fail(self, error: OdonataError, rights: tuple[str, ...] | None = None) -> None:
        """Who waited is told; with `rights`, which the source refused, whoever has just these."""
        say = _log.warning if self._views else _log.info  # else it was cancelled
        say("download_failed", task_id=self.task_id, code=error.code, error=error.detail)
        for view in self._views:
            if view.joined and not view.satisfied and rights in {None, _rights(view.download)}:
                view.error = error

    def _serve_the_rest(self) -> None:
        """Who joined too late for the run that just ended gets another one."""
        for view in self._views:
            if not view.satisfied and view.error is None:
                self._house.start("rest of a task", self._begin_again(view))
                return  # the new run serves them all

    async def _begin_again(self, view: View) -> None:
        async with self._opening:
            await self._await_ending_run()
            if view in self._views and not view.satisfied and view.error is None:
                try:
                    await self._begin(view)
                except OdonataError as error:
                    self._fail(error)
        self.notify()
        self._rest_if_idle()

    async def _begin_anew(self) -> None:
        """The source has another content now: forget the old one and fetch the new."""
        self._was_reset = True
        try:
            await self._forget_content()
        except OdonataError as error:
            self._fail(error)
        self._run = None
        self._serve_the_rest()
        self.notify()

    async def _forget_content(self) -> None:
        changed = SourceError("the content changed at the source while it was read: ask again")
        for view in self._views:
            if view.reading:
                view.error = changed
        _log.warning("content_changed", task_id=self.task_id)
        self.proved_digests.clear()
        await self.task.reset()

    # --- news and rest ---

    def _stored_changed(self) -> None:
        """Something landed; or was lost: a piece that rotted on the disk is taken off the index."""
        if self._run is None and not self._opening.locked():
            self._serve_the_rest()
        self.notify()

    def notify(self) -> None:
        """Something changed: whoever waits for it looks anew."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _rest_if_idle(self) -> None:
        idle = not self._views and self._run is None and self._driving == 0
        if idle and not self._opening.locked():
            self._forget_stored()
            self._on_idle(self)

    def _forget_stored(self) -> None:
        if self._task is not None:
            if self._unsubscribe is not None:
                self._unsubscribe()
            self._task.unpin()
            self._task = None


def _tells(download: Download) -> bool:
    """The scheduler is to hear of it although nothing is left to fetch."""
    return download.need_back_to_source or download.metadata_only


def _rights(download: Download) -> tuple[str, ...]:
    """What a source lets somebody in for. URLs of one task differ in their signatures."""
    shown = {name.lower(): value for name, value in download.request_header.items()}
    return download.url, shown.get("authorization", ""), shown.get("cookie", "")
