"""One download's brain: events in, effects out.

`DownloadCore` moves the download through the states of `peer.core.lifecycle` and leaves the details
to its parts: `fetching` (pieces from parents), `source_plan` (pieces from the source), `content`
(what is held and missing) and `conversation` (what the scheduler is told). It reads no clock and
does no I/O: `now` comes with each event, in seconds of any clock that does not jump back.

Every answer it waits for is bounded by a timer of its own, so a download always ends, in Complete
or GiveUp, even if nobody ever answers. After the end events have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from odonata.errors import DiskFullError, OdonataError, StorageError, UnavailableError
from odonata.wire.message import (
    BackToSourceFailed,
    Download,
    EmptyTask,
    Failed,
    FarShare,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceDigests,
    PieceFinished,
    Reschedule,
    SchedulerAnswer,
    TrafficType,
)
from peer.core.beside import Beside
from peer.core.budget import Budget
from peer.core.content import Content
from peer.core.conversation import Conversation
from peer.core.effect import (
    CancelReason,
    Complete,
    DownloadEffect,
    GiveUp,
    SeekScheduler,
    WakeAt,
)
from peer.core.event import (
    Begun,
    Cancelled,
    DownloadEvent,
    FailureReason,
    OtherEvent,
    ParentConnected,
    ParentEnded,
    ParentEvent,
    ParentHolds,
    ParentLoad,
    ParentNews,
    ParentReceives,
    PieceChecked,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
    ReaderWaiting,
    SchedulerAnswered,
    SchedulerFound,
    SchedulerLost,
    SourceEnded,
    SourceEvent,
    SourceFailed,
    SourceOpened,
    SourcePieceStored,
    StorageFailed,
    Ticked,
    Wanted,
    WholeChecked,
    summary,
)
from peer.core.fetching import Fetching
from peer.core.lifecycle import Lifecycle, State, Step
from peer.core.limits import DownloadLimits
from peer.core.parents import ParentState
from peer.core.proof import Proof
from peer.core.registration import held_reports, introduction, no_source_error, why_not_register
from peer.core.search import Search
from peer.core.source_plan import SourcePlan
from peer.core.source_share import SharedSource
from peer.core.source_streams import Streams

if TYPE_CHECKING:
    from random import Random

_Word = NormalTask | NeedBackToSource | EmptyTask | MetadataOnly
_NAMED = frozenset({State.SWARMING, State.RESCHEDULING})
_SWARM = _NAMED | {State.ALONE}
_AT_WORK = _SWARM | {State.SOURCING}
_WAITING = frozenset({State.REGISTERING, State.RESCHEDULING})


class DownloadCore:
    """Decides for one download of one task. Give it Begun first; carry its effects out in order."""

    def __init__(
        self,
        limits: DownloadLimits,
        download: Download,
        rng: Random,
        idc: str = "",
        budget: Budget | None = None,
    ) -> None:
        """`idc`: the data centre this host is in, "" if that is not known.

        `budget`: what its daemon has learned of beginnings; None: nothing yet.
        """
        budget = budget or Budget()
        self._limits = limits
        self._download = download
        self._life = Lifecycle()
        self._content = Content.of(download, limits)
        self._conversation = Conversation()
        self._proof = Proof(limits, self._content, self._conversation, download)
        self._search = Search(limits, rng)
        share = download.source_share
        self._source = SourcePlan(
            limits=limits,
            content=self._content,
            rng=rng,
            streams=Streams(limits, download.url, budget.origins),
            shared=None if share is None else SharedSource(share, limits),
        )
        slots = download.concurrent_piece_count or limits.concurrent_piece_count
        self._fetching = Fetching(
            limits=limits,
            slots=min(slots, limits.max_concurrent_piece_count),
            may_widen=limits.widen and download.concurrent_piece_count is None,
            content=self._content,
            conversation=self._conversation,
            at_source=self._source.covers,
            rng=rng,
            idc=idc,
            downloads=lambda: budget.downloads,
        )
        self._beside = Beside(
            limits=limits,
            content=self._content,
            source=self._source,
            fetching=self._fetching,
            budget=budget,
            download=download,
            rng=rng,
        )
        self._scheduler = False
        self._needs_size = False
        self._was_alone = False  # it may have parents before the scheduler has answered
        self._was_lost = False  # the scheduler, at least once
        self._owes_pieces = False  # the scheduler was not told yet what is held
        self._may_use_source = download.need_back_to_source or not download.disable_back_to_source
        self._cancelled_early = False
        self._lost_because = ""
        self._decisions = 0
        self._rounds = 0  # answers that were asked for, since the last piece
        self._asked_at = 0.0
        self._progress_at = 0.0
        self._alarm_at: float | None = None

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def decisions(self) -> int:
        """Answers with parents so far; the scheduler counts them, too."""
        return self._decisions

    @property
    def beside_because(self) -> str:
        """Why the source is asked beside the parents; empty as long as it is not."""
        return self._beside.because if self._beside.on else ""

    def story(self) -> tuple[str, ...]:
        """The last events and steps, oldest first: for logs and bug reports."""
        return self._life.story()

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]:
        """Take one event in; return what is to be done about it, in order.

        Raises IllegalStepError if the driver breaks the contract (no Begun, or a second one).
        """
        out: list[DownloadEffect] = []
        if self._life.ended:
            return out
        if self.state is State.NEW and not isinstance(event, Begun):
            self._before_begun(event)
            return out
        self._life.note(now, summary(event))
        self._beside.wake(self._alarm_at, now)
        if isinstance(event, PieceChecked | WholeChecked):
            self._proof.on_checked(event, self._fetching, out)
        elif isinstance(event, ParentEvent):
            self._on_parent_event(event, now, out)
        elif isinstance(event, SourceEvent):
            self._on_source_event(event, now, out)
        else:
            self._on_other_event(event, now, out)
        self._steer(now, out)
        if self._may_finish:
            self._proof.tend(now, out)
        self._set_alarm(now, out)
        return out

    # --- beginning ------------------------------------------------------------------------------

    def _before_begun(self, event: DownloadEvent) -> None:
        """Readers may come and go before the driver knows what storage holds; nothing else may."""
        if isinstance(event, Wanted):
            self._on_wanted(event)
        elif isinstance(event, Cancelled):
            self._cancelled_early = True
        elif not isinstance(event, ReaderWaiting | Ticked):
            raise self._life.illegal(f"{type(event).__name__} before Begun")

    def _begin(self, event: Begun, now: float, out: list[DownloadEffect]) -> None:
        if self.state is not State.NEW:
            raise self._life.illegal("a second Begun")
        self._scheduler = event.scheduler
        self._needs_size = event.needs_size
        self._proof.meet_scheduler(tells_digests=event.tells_digests)
        self._content.resume(event.content_length, event.piece_length, event.held)
        self._beside.begin(now)
        self._proof.resume()
        triggered = self._download.need_back_to_source
        if triggered:
            self._source.streams.go_for_others(now)
        tells = triggered or self._download.metadata_only
        if self._cancelled_early:
            self._cancel(now, out)
        elif self._content.complete:
            if tells and self._scheduler and self._content.whole:
                self._life.take(Step.REPORT, now)
                self._register(now, out, metadata_only=True)
            else:
                self._finish(now, out)
        elif not self._scheduler:
            self._begin_without_scheduler(event.lost_s, now, out)
        elif self._content.content_length is None and (triggered or self._needs_size):
            self._life.take(Step.SIZE, now)
            self._source.open_share(self._source.told_size(self._download), now, out)
        else:
            self._ask_scheduler(now, out, event.ahead_host_id)

    def _begin_without_scheduler(
        self, lost_s: float | None, now: float, out: list[DownloadEffect]
    ) -> None:
        """One that was lost a moment ago may be back soon; who was triggered need not wait."""
        if lost_s is None or lost_s >= self._limits.scheduler_patience_s:
            self._go_to_source("there is no scheduler", now, out)
            return
        self._lost_because = "the scheduler is gone"
        if self._download.need_back_to_source:
            self._go_to_source(self._lost_because, now, out)
        else:
            self._go_alone(now)
        self._seek(now, out, lost_s)

    def _go_alone(self, now: float) -> None:
        self._was_alone = True
        self._progress_at = now
        self._life.take(Step.GO_ALONE, now)

    def _seek(self, now: float, out: list[DownloadEffect], lost_s: float = 0.0) -> None:
        self._was_lost = True
        pause_s = self._search.lose(now, lost_s)
        if pause_s is not None:
            out.append(SeekScheduler(pause_s=pause_s))

    def _ask_scheduler(self, now: float, out: list[DownloadEffect], ahead: str = "") -> None:
        """Register, unless that is of no use."""
        why_not = why_not_register(
            self._download,
            self._content.content_length,
            needs_size=self._needs_size,
            small_bytes=self._limits.small_content_bytes,
        )
        if not self._scheduler:
            why_not = self._lost_because or "there is no scheduler"
        if why_not:
            self._go_to_source(why_not, now, out)
        else:
            self._life.take(Step.REGISTER, now)
            self._register(now, out)
            self._fetching.ask_ahead(ahead, out)

    def _register(
        self, now: float, out: list[DownloadEffect], *, metadata_only: bool = False
    ) -> None:
        self._asked_at = now
        download = introduction(
            self._download,
            self._content,
            metadata_only=metadata_only,
            at_source=self.state is State.SOURCING,
        )
        self._conversation.register(download, out, resumes=self._was_lost)

    # --- readers, storage, the scheduler --------------------------------------------------------

    def _on_other_event(self, event: OtherEvent, now: float, out: list[DownloadEffect]) -> None:
        match event:
            case Begun():
                self._begin(event, now, out)
            case Wanted():
                self._on_wanted(event)
            case ReaderWaiting():
                self._fetching.reader_at(event.number, now)
            case SchedulerAnswered():
                self._on_answer(event.answer, now, out)
            case SchedulerLost():
                self._on_lost(event, now, out)
            case SchedulerFound():
                self._proof.meet_scheduler(tells_digests=event.tells_digests)
                self._on_found(needs_size=event.needs_size, now=now, out=out)
            case StorageFailed():
                error_type = DiskFullError if event.disk_full else StorageError
                self._give_up(error_type(event.reason), Failed(description=event.reason), now, out)
            case Cancelled():
                self._cancel(now, out)
            case Ticked():
                self._alarm_at = None
            case _:
                assert_never(event)

    def _cancel(self, now: float, out: list[DownloadEffect]) -> None:
        error = UnavailableError("the download was cancelled: nobody wants it any more")
        self._give_up(error, Failed(description="cancelled"), now, out)

    def _on_wanted(self, event: Wanted) -> None:
        self._content.want(event.range)
        self._may_use_source = self._may_use_source or not event.disable_back_to_source

    def _on_answer(self, answer: SchedulerAnswer, now: float, out: list[DownloadEffect]) -> None:
        """What was asked for, or what the scheduler says of its own. See `lifecycle`."""
        if isinstance(answer, PieceDigests):
            self._proof.on_digests(answer, out)
        elif isinstance(answer, FarShare):
            self._fetching.take_share(answer, now)
        else:
            self._on_word(answer, now, out)

    def _on_word(self, answer: _Word, now: float, out: list[DownloadEffect]) -> None:
        """An answer that decides how the download goes on."""
        self._conversation.answered = True
        if isinstance(answer, NormalTask) and answer.parents:
            self._decisions += 1
        if self.state is State.REPORTING:
            self._finish(now, out)
            return
        self._search.succeed()
        if self.state is State.SOURCING:
            self._on_answer_at_source(answer, now, out)
        if self.state not in _WAITING and self.state is not State.SWARMING:
            return  # too late: decided otherwise meanwhile
        match answer:
            case NormalTask():
                self._on_parents_named(answer, now, out)
            case NeedBackToSource():
                self._source.streams.go_for_others(now)
                self._go_to_source(answer.description, now, out)
            case EmptyTask():
                self._on_empty(now, out)
            case MetadataOnly():
                pass  # answers a question that was not asked
            case _:
                assert_never(answer)

    def _on_answer_at_source(
        self, answer: SchedulerAnswer, now: float, out: list[DownloadEffect]
    ) -> None:
        """Parents bring what the source need not; whoever found a scheduler says what it holds."""
        if isinstance(answer, NormalTask):
            self._fetching.connect(answer.parents, self._decisions, now, out)
            if self._source.shared is not None and self._fetching.has_seeds:
                self._source.shared.named(now)
        self._conversation.start_source("it was there already", out)
        self._tell_held(out)

    def _on_parents_named(self, answer: NormalTask, now: float, out: list[DownloadEffect]) -> None:
        was_asked = self.state in _WAITING
        if was_asked:
            self._rounds += 1
            self._progress_at = now
        self._life.take(Step.SWARM, now)
        self._conversation.start(out)
        self._tell_held(out)
        if not self._beside.on:
            self._source.close(out)
        if was_asked:
            self._beside.named(now, has_lost=self._was_lost)
        if answer.parents:
            self._fetching.let_go(answer.parents)
        self._fetching.connect(answer.parents, self._decisions, now, out, was_asked=was_asked)

    def _on_empty(self, now: float, out: list[DownloadEffect]) -> None:
        if self._content.contradiction(0, None) is not None:
            # Never a short file: the scheduler is mistaken, the source is not.
            self._go_to_source("the scheduler says empty, but it is not", now, out)
            return
        learned = self._content.learn(0, None, {})
        if learned is not None:
            out.append(learned)
        if not self._may_finish:  # else it ends as any other does, once it is proved
            self._finish(now, out)

    def _on_lost(self, event: SchedulerLost, now: float, out: list[DownloadEffect]) -> None:
        self._conversation.lose()
        self._proof.lose()
        self._scheduler = False
        self._lost_because = f"the scheduler is gone: {event.reason}"
        if self.state is State.REPORTING:
            self._finish(now, out)
            return
        is_alone = event.refused and not len(self._fetching.parents)
        in_vain = self._download.need_back_to_source or is_alone
        if self.state is State.REGISTERING and in_vain:
            self._go_to_source(self._lost_because, now, out)
        elif self.state in {State.REGISTERING, State.SWARMING, State.RESCHEDULING}:
            self._go_alone(now)
        if not event.refused:
            self._seek(now, out)

    def _on_found(self, *, needs_size: bool, now: float, out: list[DownloadEffect]) -> None:
        """Register anew, and tell what is held once that was answered."""
        if self._conversation.open:
            return
        self._scheduler = True
        self._needs_size = needs_size
        if self.state not in {State.ALONE, State.SOURCING}:
            return  # it will register in its turn
        if needs_size and self._content.content_length is None:
            return  # it can't be told what it must be told
        self._owes_pieces = True
        if self.state is State.ALONE:
            self._life.take(Step.REGISTER, now)
        self._register(now, out)

    def _tell_held(self, out: list[DownloadEffect]) -> None:
        """A scheduler that this download came to in its middle knows nothing of its pieces."""
        if self._owes_pieces and self._conversation.open:
            self._owes_pieces = False
            own, limit = self._proof.own_digests, self._limits.max_held_report
            for report in held_reports(self._content, limit, own):
                self._conversation.say(report, out)  # unless it was lost once more

    # --- parents --------------------------------------------------------------------------------

    def _on_parent_event(self, event: ParentEvent, now: float, out: list[DownloadEffect]) -> None:
        self._beside.hear(event, now)
        if isinstance(event, PieceStored):
            self._on_piece_stored(event, now, out)
        elif isinstance(event, PieceNotFetched):
            if event.reason is FailureReason.LISTED_DIGEST:
                self._proof.doubt()
            self._fetching.on_not_fetched(event, now, out)
        elif isinstance(event, PieceProgress):
            self._fetching.on_progress(event, now)
        elif (state := self._fetching.parents.get(event.peer_id)) is not None:
            self._on_news_of(state, event, now, out)

    def _on_news_of(
        self, state: ParentState, event: ParentNews, now: float, out: list[DownloadEffect]
    ) -> None:
        """What a parent says of itself that was not dropped meanwhile."""
        match event:
            case ParentConnected():
                self._on_parent_connected(state, event, now, out)
            case ParentHolds():
                self._on_holds(state, event.pieces, now, out)
            case ParentReceives():
                self._fetching.on_receives(state, event.pieces, now, out)
            case ParentEnded():
                self._fetching.on_ended(state, finished=event.finished, now=now, out=out)
            case ParentLoad():
                state.told_load(event.max_rate_bytes_per_s, event.used_rate_bytes_per_s, now)
            case _:
                assert_never(event)

    def _on_parent_connected(
        self, state: ParentState, event: ParentConnected, now: float, out: list[DownloadEffect]
    ) -> None:
        was_asked = state.meta_asked_at is not None
        self._fetching.on_connected(state, now)
        scheduled = state.parent.task.content_length  # what the scheduler says, 0 if it can't
        lies = bool(scheduled) and event.content_length not in {None, scheduled}
        why = self._content.contradiction(event.content_length, event.piece_length)
        if lies or why is not None:
            self._fetching.blame(state, None, why or "not what the scheduler says", out)
            return
        # Without a length: it does not know yet, unless it has pieces and still can't say.
        if event.content_length is not None or (was_asked and (state.offers or state.finished)):
            self._learn(event.content_length, event.piece_length, event.response_header, out)

    def _on_holds(
        self, state: ParentState, pieces: tuple[Piece, ...], now: float, out: list[DownloadEffect]
    ) -> None:
        self._fetching.on_holds(state, pieces, now, out)
        if self._source.shared is not None and state.is_seed:
            held = self._content.held
            self._source.shared.heard((p.number for p in pieces if p.number not in held), now)

    def _on_piece_stored(self, event: PieceStored, now: float, out: list[DownloadEffect]) -> None:
        piece = event.piece
        news = self._content.hold(piece.number)
        self._fetching.on_stored(event.peer_id, piece, now, out, event.wait_s)
        if news:
            self._proof.on_stored(piece, event.peer_id)
            self._progress(now)
            piece = msgspec.structs.replace(
                piece, parent_id=event.peer_id, traffic_type=TrafficType.REMOTE_PEER
            )
            self._conversation.say(PieceFinished(piece=piece), out)

    def _learn(
        self,
        content_length: int | None,
        piece_length: int | None,
        response_header: dict[str, str],
        out: list[DownloadEffect],
    ) -> None:
        learned = self._content.learn(content_length, piece_length, response_header)
        if learned is not None:
            out.append(learned)
            self._fetching.check_offers(out)

    def _progress(self, now: float) -> None:
        self._progress_at = now
        self._rounds = 0

    # --- the source -----------------------------------------------------------------------------

    def _on_source_event(self, event: SourceEvent, now: float, out: list[DownloadEffect]) -> None:
        match event:
            case SourceOpened():
                self._on_source_opened(event, now, out)
            case SourcePieceStored():
                self._on_source_piece(event, now, out)
            case SourceEnded():
                self._on_source_ended(event, now, out)
            case SourceFailed():
                self._on_source_failed(event, now, out)
            case _:
                assert_never(event)

    def _on_source_opened(self, event: SourceOpened, now: float, out: list[DownloadEffect]) -> None:
        took_s = self._source.answered(now)
        if took_s is not None:
            self._beside.source_answered(took_s, now)
        if self.state not in {State.SIZING, State.SOURCING} and not self._beside.on:
            return  # stopped meanwhile
        if self.state is State.SIZING and self._source.is_told_wrong(
            self._download, event.content_length
        ):
            self._source.close(out)
            self._source.shared = None
            self._source.open(now, out)
            return
        why = self._content.contradiction(event.content_length, None)
        if why is not None:
            self._contradicted(why, out)
            return
        told, is_sizing = self._source.told_size(self._download), self.state is State.SIZING
        length = told if event.content_length is None else event.content_length
        self._learn(length, None, event.response_header, out)
        self._source.on_opened(ranges=event.ranges, now=now, out=out)
        if told is not None and not event.ranges and is_sizing:
            self._source.close(out)  # it begins with what the first seed brings
        if is_sizing:
            self._ask_scheduler(now, out)

    def _on_source_piece(
        self, event: SourcePieceStored, now: float, out: list[DownloadEffect]
    ) -> None:
        news = self._content.hold(event.piece.number)
        self._source.on_stored(event.piece, now)
        self._fetching.forget(event.piece.number, CancelReason.SOURCE, now, out)
        self._beside.source_brought(event.piece.length, now)
        if news:
            self._proof.on_source_piece(event.piece)
            if not self._beside.on:  # or parents that bring nothing would never be reported
                self._progress(now)
            piece = msgspec.structs.replace(
                event.piece, parent_id="", traffic_type=TrafficType.BACK_TO_SOURCE
            )
            self._conversation.say(PieceBackToSourceFinished(piece=piece), out)

    def _on_source_ended(self, event: SourceEnded, now: float, out: list[DownloadEffect]) -> None:
        why = self._content.contradiction(event.content_length, None)
        if why is not None:
            self._contradicted(why, out)
            return
        if event.content_length is not None:
            self._learn(event.content_length, None, {}, out)
        self._source.on_ended(event.first, now, out)

    def _contradicted(self, why: str, out: list[DownloadEffect]) -> None:
        """The source has other content: no use beside the swarm, and an error at the source."""
        if self._beside.on:
            self._beside.refuse(out)
        else:
            self._source.contradicted(why, out)

    def _on_source_failed(self, event: SourceFailed, now: float, out: list[DownloadEffect]) -> None:
        if self.state in {State.SIZING, State.SOURCING} or self._beside.on:
            self._source.on_failed(event, now, out)
        else:
            self._source.forget_open(event.first)

    def _go_to_source(self, why: str, now: float, out: list[DownloadEffect]) -> None:
        """The source brings what no parent brings, unless the download may not ask it."""
        if not self._may_use_source:
            last_word = Failed(description=f"{why}; back to source is disabled")
            self._give_up(no_source_error(self._download, why), last_word, now, out)
            return
        self._life.take(Step.GO_TO_SOURCE, now)
        self._beside.end()
        self._progress_at = now
        if self._source.shared is not None:
            self._source.shared.begin(now)
        self._conversation.start_source(why, out)
        self._tell_held(out)

    # --- after every event ----------------------------------------------------------------------

    def _steer(self, now: float, out: list[DownloadEffect]) -> None:
        """Look at where things stand now, and do what follows."""
        if self.state is State.REPORTING:
            if now - self._asked_at >= self._limits.report_timeout_s:
                self._finish(now, out)
        elif self.state is State.SIZING:
            self._steer_sizing(now, out)
        elif self.state in _SWARM or self.state is State.REGISTERING:
            self._steer_swarm(now, out)
        # No elif: the swarm may just have been given up for the source.
        if self.state is State.SOURCING:
            self._steer_source(now, out)

    def _steer_sizing(self, now: float, out: list[DownloadEffect]) -> None:
        self._source.tend(now, out)
        if self._source.error is not None:
            self._give_up(self._source.error, Failed(), now, out)
        elif self._source.retry_due is not None and now >= self._source.retry_due:
            self._source.open_share(self._source.told_size(self._download), now, out)

    def _steer_swarm(self, now: float, out: list[DownloadEffect]) -> None:
        if self._may_finish:
            if self._content.complete:
                self._end_if_proved(now, out)
                return
            self._fetching.tend(now, out)
            is_served = self.state in {State.SWARMING, State.RESCHEDULING}
            self._beside.steer(now, out, may_begin=self._may_use_source and is_served)
            self._fetching.fill(now, out)
        if self.state in _WAITING:
            if now - self._asked_at >= self._limits.schedule_timeout_s:
                self._go_to_source("the scheduler did not answer in time", now, out)
            elif self._is_new and self._beside.is_answer_overdue(self._asked_at, now):
                self._go_to_source("the scheduler names nobody", now, out)
            return
        if self._fetching.flights:
            return
        if not self._fetching.hopeful(now):
            self._fetching.drop_all(out)
            self._swarm_is_dry("not all pieces are downloaded from parents", (), now, out)
        elif now - self._progress_at >= self._limits.stall_timeout_s:
            # At first only who went silent is to blame; later whoever was named.
            everybody = tuple(p.peer_id for p in self._fetching.parents)
            to_blame = self._fetching.silent(now) if self._rounds <= 1 else everybody
            self._swarm_is_dry("parents bring nothing", to_blame, now, out)

    @property
    def _is_new(self) -> bool:
        """The scheduler has named nobody yet, and the source may be asked."""
        return self.state is State.REGISTERING and not self._was_alone and self._may_use_source

    def _swarm_is_dry(
        self, why: str, useless: tuple[str, ...], now: float, out: list[DownloadEffect]
    ) -> None:
        """These parents do not suffice: others, or the source."""
        if self.state is State.ALONE:
            if not self._search.is_patient(now):
                self._go_to_source(self._lost_because, now, out)
        elif self._rounds >= self._limits.max_schedule_count:
            why = f"{why}; {self._rounds} answers of the scheduler brought no piece"
            self._conversation.end(Failed(description=why), out)
            self._go_to_source(why, now, out)
        else:
            self._life.take(Step.ASK_AGAIN, now)
            self._asked_at = now
            gone = dict.fromkeys([*self._fetching.parents.take_gone(), *useless])
            message = Reschedule(parent_ids=tuple(gone), description=why)
            self._conversation.say(message, out)

    def _steer_source(self, now: float, out: list[DownloadEffect]) -> None:
        if self._content.complete:
            self._end_if_proved(now, out)
            return
        self._source.tend(now, out)
        self._fetching.tend(now, out)
        if self._idle and now - self._progress_at >= self._limits.stall_timeout_s:
            self._fetching.drop_all(out)  # they offer pieces and do not bring them
        reader = self._fetching.reader
        elsewhere = self._fetching.promised(now)
        self._source.advance(
            elsewhere,
            None if reader is None else reader.number,
            now,
            out,
            has_fellow=self._fetching.has_seeds,
        )
        self._fetching.leave_to_source(now, out)
        self._fetching.fill(now, out)
        if self._source.error is not None and not self._fetching.suffices():
            self._source_is_dead(self._source.error, now, out)

    @property
    def _may_finish(self) -> bool:
        """Here pieces come: once all are held nothing is waited for but their proof."""
        return self.state in _AT_WORK or (self.state is State.REGISTERING and self._was_alone)

    @property
    def _idle(self) -> bool:
        """Nothing is on its way, neither from parents nor from the source they are waited for."""
        return not self._fetching.flights and (self._beside.on or not self._source.busy)

    def _source_is_dead(self, error: OdonataError, now: float, out: list[DownloadEffect]) -> None:
        answer = self._source.answer
        failed = PieceBackToSourceFailed(answer=answer, description=error.detail)
        self._conversation.say(failed, out)
        self._give_up(error, BackToSourceFailed(description=error.detail), now, out)

    # --- ends -----------------------------------------------------------------------------------

    def _end_if_proved(self, now: float, out: list[DownloadEffect]) -> None:
        is_settled, error = self._proof.is_settled(now, out), self._proof.error
        if error is not None:
            self._give_up(error, Failed(description=error.detail), now, out)
        elif is_settled:
            self._finish(now, out)

    def _finish(self, now: float, out: list[DownloadEffect]) -> None:
        self._conversation.finish(out)
        self._clear_up(now, out)
        out.append(Complete(whole=self._content.whole))
        self._life.take(Step.FINISH, now)

    def _give_up(
        self, error: OdonataError, last_word: PeerMessage, now: float, out: list[DownloadEffect]
    ) -> None:
        self._conversation.end(last_word, out)
        self._clear_up(now, out)
        out.append(GiveUp(error=error))
        self._life.take(Step.GIVE_UP, now)

    def _clear_up(self, now: float, out: list[DownloadEffect]) -> None:
        self._beside.leave(now)
        self._fetching.drop_all(out)
        self._source.close(out)

    def _set_alarm(self, now: float, out: list[DownloadEffect]) -> None:
        """Ask to be woken when time alone may change something."""
        if self._life.ended or not (moments := self._deadlines(now)):
            return
        at = max(min(moments), now + self._limits.min_wake_s)
        if self._alarm_at is None or self._alarm_at <= now or at < self._alarm_at:
            self._alarm_at = at
            out.append(WakeAt(at_s=at))

    def _deadlines(self, now: float) -> list[float]:
        limits = self._limits
        if self._content.complete and self._may_finish:  # then its proof is all there is to do
            moment = self._proof.next_wake()
            return [] if moment is None else [moment]
        moments = [self._source.next_wake(), self._fetching.next_wake(now)]
        if self.state is State.ALONE:
            moments.append(self._search.next_wake(now))
        if self._is_new:
            moments.append(self._beside.next_wake(self._asked_at, now))
        elif self.state in _NAMED and self._may_use_source:
            moments.append(self._beside.next_wake(None, now))
        if self.state is State.REPORTING:
            moments.append(self._asked_at + limits.report_timeout_s)
        elif self.state in _WAITING:
            moments.append(self._asked_at + limits.schedule_timeout_s)
        elif self.state is not State.SIZING and self._idle:
            moments.append(self._progress_at + limits.stall_timeout_s)
        return [m for m in moments if m is not None]
