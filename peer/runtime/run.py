"""One running download: the core decides, this carries it out.

    tell(event) -> queue -> core.handle(event, now) -> effects -> perform, one after another

Events are handled one at a time by `drive`; whoever tells one waits until its effects were carried
out, so each child has at most one event in the queue and the queue needs no other bound. Effects
that take long (streams, fetches, the source) become child tasks, which live and die with the run.
Nothing here decides what to fetch from whom.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

import msgspec
import structlog

from odonata.errors import (
    DigestMismatchError,
    InternalError,
    OdonataError,
    PreconditionError,
    UnavailableError,
    WrongContentError,
)
from odonata.tracing.span import spanning
from odonata.wire.message import ByteRange, Download, Register, SchedulerAnswer
from peer.core.effect import (
    CheckPiece,
    CheckWhole,
    CloseStream,
    Complete,
    DownloadEffect,
    FetchSource,
    GiveUp,
    LearnDigests,
    LearnMeta,
    OpenSource,
    SeekScheduler,
    Send,
    StopSource,
    WakeAt,
)
from peer.core.event import (
    Begun,
    Cancelled,
    DownloadEvent,
    PieceChecked,
    ReaderWaiting,
    SchedulerAnswered,
    SchedulerLost,
    Ticked,
    Wanted,
    WholeChecked,
)
from peer.core.proof import digests_of_whole
from peer.core.run_record import Fetcher, RunRecord
from peer.runtime.conversation import CLOSE_S, Conversation
from peer.runtime.parent_set import ParentSet
from peer.runtime.port import StoredTask
from peer.runtime.run_tools import ContentChangedError, RunPlace, RunTools, storage_failed
from peer.runtime.source_run import SourceRuns
from peer.runtime.whole_digest import WholeCheck

_log = structlog.get_logger("download")


class Core(Protocol):
    """`peer.core.download.DownloadCore`."""

    @property
    def decisions(self) -> int:
        """Answers with parents so far."""
        ...

    @property
    def beside_because(self) -> str:
        """Why the source is asked beside the parents."""
        ...

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]: ...


class Run:
    """One download. `drive` it as a task; `outcome` is set when readers may know how it ended."""

    def __init__(
        self, core: Core, download: Download, task: StoredTask, peer_id: str, tools: RunTools
    ) -> None:
        self._core = core
        self._download = download
        self._task = task
        self._peer_id = peer_id
        self._converse = tools.converse
        self._tracer = tools.tracer
        self._find_scheduler = tools.find_scheduler
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[DownloadEvent, asyncio.Future[None] | None]] = deque()
        self._news = asyncio.Event()
        self._learned = asyncio.Event()
        if task.piece_length is not None:
            self._learned.set()
        self._wanted: list[ByteRange | None] = [download.range]
        self._children: set[asyncio.Task[None]] = set()
        fetcher = Fetcher(
            task_id=task.task_id,
            peer_id=peer_id,
            host_id=tools.facts.id,
            is_seed=tools.facts.is_seed,
        )
        # Not the loop's clock: it has the same zero, but uvloop's has a grain of milliseconds.
        self._record = RunRecord(tools.recorder, fetcher, time.monotonic)
        place = RunPlace(
            task=task,
            peer_id=peer_id,
            tools=tools,
            record=self._record,
            tell=self._tell,
            put=self._put,
            start=self._start,
            learned=self._learned,
            changed=lambda why: self._overtake(ContentChangedError(why)),
        )
        self._parents = ParentSet(place)
        self._sources = SourceRuns(place)
        self._conversation: Conversation | None = None
        self._listener: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._bug: BaseException | None = None
        self._cancelled = False
        self._begun = False
        digests = digests_of_whole(download) if tools.verify_whole else ()
        self._whole_check = WholeCheck(task, digests) if digests else None
        self._whole_is_right = self._whole_check is None
        self.is_proved = False
        """What is held was checked as far as it can be: readers may have its end."""
        self.on_disproved: Callable[[int], None] | None = None
        """Told of each held piece that turned out to be wrong, and is not held any more."""
        self.on_proved: Callable[[], None] | None = None
        """Told when `is_proved`."""
        self.whole_digests = digests
        """What the whole content is checked against."""
        self.outcome: asyncio.Future[OdonataError | None] = self._loop.create_future()
        """None: everything wanted is held."""

    @property
    def peer_id(self) -> str:
        return self._peer_id

    @property
    def download(self) -> Download:
        """What it was begun for, with the freshest URL and request headers."""
        return self._download

    @property
    def told(self) -> bool:
        """A scheduler was told how it ended."""
        return self._conversation is not None and self._conversation.finished

    @property
    def ended(self) -> bool:
        """Too late to join; the last words to the scheduler may still be on their way."""
        return self.outcome.done()

    @property
    def cancelled(self) -> bool:
        """Too late to join, too: it will end soon."""
        return self._cancelled

    # --- from outside ---

    def join(self, download: Download) -> None:
        """Another reader: its range is wanted too, and its credentials are fresher.

        They are for its own URL, which may be another registry's that has the same blob.
        """
        is_elsewhere = download.url != self._download.url
        self._download = msgspec.structs.replace(
            self._download,
            url=download.url,
            request_header=download.request_header,
            extra=download.extra if is_elsewhere or download.extra else self._download.extra,
        )
        if None not in self._wanted and download.range not in self._wanted:
            self._wanted.append(download.range)
        unwilling = download.disable_back_to_source and not download.need_back_to_source
        self._put(Wanted(range=download.range, disable_back_to_source=unwilling))

    def reader_waits(self, number: int | None) -> None:
        """The foremost reader stands at piece `number`; None: none waits."""
        self._put(ReaderWaiting(number=number))

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._cancelled = True
        if self._begun:
            self._put(Cancelled())
        else:
            self.abandon()

    def abandon(self) -> None:
        """End it if it has not begun: it waited for its turn, and is not wanted any more."""
        if not self._begun:
            self._settle(UnavailableError("the download ended before its turn came"))

    # --- the loop ---

    async def drive(self, begun: Begun) -> None:
        """The whole life of the download, from `begun` to the scheduler's last word."""
        self._begun = True
        about = {"task_id": self._task.task_id, "peer_id": self._peer_id}
        with spanning(self._tracer.start("download", about)) as span:
            await self._drive(begun)
            error = self.outcome.result()
            if error is not None:
                span.fail(error.detail)

    async def _drive(self, begun: Begun) -> None:
        self._put(begun)
        if self._whole_check is not None:
            self._start("digest of the whole", self._follow(self._whole_check))
        try:
            await self._handle_events()
            await self._stop_children(keep=self._listener)
            await self._drop_wrong_content()
            await self._part_from_scheduler()
        except Exception:
            story = f"a bug broke the download of task {self._task.task_id}: the log says more"
            self._settle(InternalError(story))
            raise
        finally:
            self._cancelled = self._cancelled or not self.outcome.done()
            self._settle(UnavailableError("the daemon stops"))
            try:
                await self._stop_children()
            finally:
                self._end_record()

    def _end_record(self) -> None:
        self._record.end(
            self.outcome.result(),
            content_length=self._task.content_length,
            piece_length=self._task.piece_length,
            decisions=self._core.decisions,
            cancelled=self._cancelled,
        )

    async def _handle_events(self) -> None:
        while not self.outcome.done() or self._events:
            while not self._events:
                self._news.clear()
                await self._news.wait()
            if self._bug is not None:
                raise self._bug
            event, handled = self._events.popleft()
            for effect in self._core.handle(event, self._loop.time()):
                await self._perform(effect)
            if handled is not None and not handled.done():
                handled.set_result(None)

    async def _tell(self, event: DownloadEvent) -> None:
        """Hand in an event; returns when its effects were carried out (never, after the end)."""
        handled: asyncio.Future[None] = self._loop.create_future()
        self._events.append((event, handled))
        self._news.set()
        await handled

    def _put(self, event: DownloadEvent) -> None:
        """Hand in an event without waiting."""
        if not self.outcome.done():
            self._events.append((event, None))
            self._news.set()

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=f"{name} of {self._peer_id}")
        self._children.add(task)
        task.add_done_callback(self._child_ended)
        return task

    def _child_ended(self, child: asyncio.Task[None]) -> None:
        self._children.discard(child)
        if child.cancelled() or (error := child.exception()) is None:
            return
        # Children turn every expected failure into an event: this is a bug, and ends the run.
        _log.error("download_broke", peer_id=self._peer_id, kind=child.get_name(), exc_info=error)
        self._bug = self._bug or error
        self._put(Ticked())  # wakes the loop, which finds the bug

    async def _stop_children(self, keep: asyncio.Task[None] | None = None) -> None:
        while children := [child for child in self._children if child is not keep]:
            for child in children:
                child.cancel()
            await asyncio.wait(children)
        if self._alarm is not None:
            self._alarm.cancel()

    # --- effects ---

    async def _perform(self, effect: DownloadEffect) -> None:
        if isinstance(effect, LearnMeta):
            await self._learn(effect)
        elif isinstance(effect, LearnDigests | CheckPiece | CheckWhole):
            self._prove(effect)
        elif isinstance(effect, Complete):
            await self._complete(whole=effect.whole)
        elif isinstance(effect, GiveUp):
            await self._give_up(effect.error)
        elif isinstance(effect, Send | CloseStream):
            self._speak(effect)
        elif isinstance(effect, SeekScheduler):
            self._start("search for a scheduler", self._seek(effect.pause_s))
        elif isinstance(effect, OpenSource | FetchSource | StopSource):
            if isinstance(effect, FetchSource) and self._core.beside_because:
                self._tell_why(effect.first)
            self._sources.perform(effect, self._download)
        elif isinstance(effect, WakeAt):
            self._wake_at(effect.at_s)
        else:
            self._parents.perform(effect)

    def _tell_why(self, first: int) -> None:
        _log.info(
            "source_asked_beside_peers",
            task_id=self._task.task_id,
            peer_id=self._peer_id,
            piece=first,
            reason=self._core.beside_because,
        )

    async def _learn(self, effect: LearnMeta) -> None:
        try:
            await self._task.learn(
                effect.content_length,
                effect.piece_length,
                effect.response_header,
                wanted_bytes=_bytes_of(self._wanted, effect.piece_length),
            )
        except PreconditionError as error:
            self._overtake(ContentChangedError(error.detail))
        except OdonataError as error:
            self._events.appendleft((storage_failed(error), None))
        else:
            self._learned.set()

    def _prove(self, effect: LearnDigests | CheckPiece | CheckWhole) -> None:
        if isinstance(effect, LearnDigests):
            self._task.expect(effect.digests)
        elif isinstance(effect, CheckPiece):
            self._start(f"check of piece {effect.number}", self._check_piece(effect.number))
        else:
            self._start("check of the whole", self._check_whole())

    async def _check_piece(self, number: int) -> None:
        piece = self._task.piece(number)
        try:
            is_right = await self._task.verify(number)
        except OdonataError as error:
            await self._tell(storage_failed(error))
            return
        if not is_right:
            if self._whole_check is not None and piece is not None:
                self._whole_check.restart(piece.offset)
            if self.on_disproved is not None:
                self.on_disproved(number)
        await self._tell(PieceChecked(number=number, is_right=is_right))

    async def _check_whole(self) -> None:
        try:
            reason = await self._why_wrong()
        except OdonataError as error:
            await self._tell(storage_failed(error))
        else:
            await self._tell(WholeChecked(reason=reason))

    async def _why_wrong(self) -> str:
        """Why the whole content is not what it should be; "" if it is."""
        if self._whole_check is not None and not self._whole_is_right:
            try:
                await self._whole_check.finish()
            except DigestMismatchError as error:
                return error.detail
            self._whole_is_right = True
        return ""

    async def _follow(self, check: WholeCheck) -> None:
        try:
            await check.follow()
        except OdonataError as error:  # the check at the end finds it, too
            _log.info("check_paused", task_id=self._task.task_id, error=error.detail)

    async def _drop_wrong_content(self) -> None:
        """It must neither be served nor be found here when it is asked for again."""
        error = self.outcome.result() if self.outcome.done() else None
        if isinstance(error, WrongContentError):
            _log.warning("wrong_content", task_id=self._task.task_id, error=error.detail)
            try:
                await self._task.reset()
            except OdonataError as other:
                _log.warning("content_not_dropped", task_id=self._task.task_id, error=other.detail)

    async def _complete(self, *, whole: bool) -> None:
        try:
            if whole:
                reason = await self._why_wrong()  # of what was all here when it began
                if reason:
                    self._settle(WrongContentError(reason))
                    return
                self.is_proved = True
                if self.on_proved is not None:
                    self.on_proved()  # readers need not wait for the disk
                await self._task.finish()
        except PreconditionError as error:  # a piece rotted meanwhile: who lacks it asks for more
            _log.info("download_not_whole", task_id=self._task.task_id, error=error.detail)
        except OdonataError as error:
            self._settle(error)
        self._settle(None)

    async def _give_up(self, error: OdonataError) -> None:
        try:
            await self._task.fail()
        except OdonataError as other:
            _log.warning("failure_not_stamped", task_id=self._task.task_id, error=other.detail)
        self._settle(error)

    def _settle(self, error: OdonataError | None) -> None:
        """The first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(error)
            self._record.settle()

    def _overtake(self, error: OdonataError) -> None:
        """The core's decision is not waited for: there is nothing left to decide."""
        self._settle(error)
        self._news.set()
        self._events.append((Cancelled(), None))  # the scheduler hears that this peer left

    def _wake_at(self, at_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at_s, self._put, Ticked())

    # --- the scheduler ---

    def _speak(self, effect: Send | CloseStream) -> None:
        if isinstance(effect, CloseStream):
            if self._conversation is not None:
                self._conversation.finish()
            return
        try:
            if isinstance(effect.message, Register):
                self._conversation = self._converse(self._task.task_id, self._peer_id)
                self._listener = self._start("scheduler stream", self._listen(self._conversation))
            assert self._conversation is not None, "the first word is a Register"
            self._conversation.say(effect.message)
        except UnavailableError as error:
            self._put(SchedulerLost(reason=error.detail))

    async def _listen(self, conversation: Conversation) -> None:
        reason, refused = "the scheduler ended the stream", True
        try:
            await conversation.listen(self._hear)
        except OdonataError as error:
            reason, refused = error.detail, conversation.refused
        if not conversation.finished:
            self._put(SchedulerLost(reason=reason, refused=refused))

    async def _seek(self, pause_s: float) -> None:
        """However long it takes; ends with the run."""
        await asyncio.sleep(pause_s)
        self._put(await self._find_scheduler(self._task.task_id))

    async def _hear(self, answer: SchedulerAnswer) -> None:
        if not self.outcome.done():
            self._put(SchedulerAnswered(answer=answer))

    async def _part_from_scheduler(self) -> None:
        """Our last word must arrive: let the scheduler end the stream, but not for ever."""
        if self._listener is None or self._conversation is None or self._listener.done():
            return
        self._conversation.finish()
        await asyncio.wait([self._listener], timeout=CLOSE_S)


def _bytes_of(wanted: Iterable[ByteRange | None], piece_length: int) -> int | None:
    """What the wanted ranges take on disk at most, in whole pieces; None: everything is wanted."""
    total = 0
    for one in wanted:
        if one is None:
            return None
        first, end = one.start // piece_length, -(-(one.start + one.length) // piece_length)
        total += (end - first) * piece_length
    return total
