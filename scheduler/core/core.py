"""The scheduler's brain: one mutator, `SchedulerCore.handle(event, now) -> effects`.

It dispatches an event to the part that knows about it, then decides the children that wait on any
task in which something changed, and says when it wants to be woken. The same events with the same
times and the same random numbers give the same effects.

The core never logs and never raises for what a client does: a broken conversation ends that peer's
stream with an error that tells its story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from odonata.errors import NotFoundError, PreconditionError
from odonata.wire.message import (
    AskDigests,
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Failed,
    Finished,
    HostType,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    Started,
)
from scheduler.core import (
    account,
    contact,
    departure,
    gateway,
    gc,
    judgement,
    proof,
    query,
    replacement,
    report,
    review,
    rota,
    waiting,
)
from scheduler.core.cluster import Cluster
from scheduler.core.effect import CloseStream, SchedulerEffect, WakeAt
from scheduler.core.event import (
    ClusterConfigured,
    HostAnnounced,
    HostContacted,
    HostDeleted,
    HostLost,
    HostUnreachable,
    PeerDeleted,
    PeerSpoke,
    PiecesFinished,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
    TaskDeleted,
    TasksHeld,
    Ticked,
)
from scheduler.core.lifecycle import IllegalTransitionError
from scheduler.core.limits import Limits
from scheduler.core.register import hold, register
from scheduler.core.reschedule import reschedule
from scheduler.core.state import SchedulerState
from scheduler.core.story import Decision, Story
from scheduler.core.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from models.ranker import Ranker
    from scheduler.core.peer import Peer
    from scheduler.core.story import Outcome


class SchedulerCore:
    """All of one scheduler's state behind one method, and the questions that may be asked of it."""

    def __init__(self, limits: Limits, ranker: Ranker, rng: Random) -> None:
        self.state = SchedulerState(limits)
        self._ranker = ranker
        self._rng = rng
        self._story = Story(limits.story_decision_limit)
        self._sweeps: gc.SweepTimes | None = None
        self._wake_at_s: float | None = None
        self._event_at_s = 0.0

    @property
    def wake_at_s(self) -> float | None:
        """The time of the latest WakeAt that has not been answered; None if none is due."""
        return self._wake_at_s

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        """Take in one event at time `now` (seconds, never running backwards); return what to do."""
        turn = Turn(
            state=self.state, ranker=self._ranker, rng=self._rng, story=self._story, now=now
        )
        if self._sweeps is None:
            self._sweeps = gc.first_sweeps(self.state.limits, now)
            self.state.began_at_s = now
        self._mind_pause(now)
        self._dispatch(turn, event)
        state = self.state
        if state.restless:
            waiting.settle_restless(turn)
        if state.bereft:
            replacement.tend(turn)
        if isinstance(event, Ticked):
            replacement.try_out(turn)  # last: who waits comes first
            review.look_again(turn)
        if state.restless:
            waiting.settle_restless(turn)
        if state.fresh:
            rota.call_hungry(turn)
        if state.divided_anew:
            gateway.divide(turn)
        if not self._alarm_stands(now):
            self._set_alarm(turn)
        return turn.effects

    def stat_task(self, task_id: str) -> query.TaskStatus:
        """Describe a task; NotFoundError if it is unknown."""
        return query.stat_task(self.state, task_id)

    def stat_peer(self, peer_id: str) -> query.PeerStatus:
        """Describe a peer; NotFoundError if it is unknown."""
        return query.stat_peer(self.state, peer_id)

    def list_hosts(self, host_type: HostType | None = None) -> list[query.HostStatus]:
        """Describe all hosts, or those of one type."""
        return query.list_hosts(self.state, host_type)

    def standing_counts(self) -> judgement.StandingCounts:
        """Count the hosts by their standing, and the verdicts so far."""
        return judgement.standing_counts(self.state)

    @property
    def decision_counts(self) -> Mapping[tuple[Outcome, str, str], int]:
        """All decisions since the start, by outcome, by who ranked and by fallback."""
        return self._story.counts

    def named_in_story(self, prefix: str) -> tuple[list[str], list[str]]:
        """The ids of children and of tasks with decisions to explain that begin so."""
        return self._story.named(prefix)

    def explain(
        self, *, task_id: str = "", child_id: str = "", latest: int | None = None
    ) -> list[Decision]:
        """Return the latest decisions, oldest first, of one task or child if named."""
        return self._story.explain(task_id=task_id, child_id=child_id, latest=latest)

    def _dispatch(self, turn: Turn, event: SchedulerEvent) -> None:
        match event:
            case PeerSpoke():
                _listen(turn, event)
            case PiecesFinished():
                _take_pieces(turn, event)
            case HostAnnounced() | HostContacted() | HostLost() | HostUnreachable() | TasksHeld():
                _hear_of_host(turn, event)
            case StreamClosed():
                departure.close_stream(turn, event)
            case Ticked():
                self._tick(turn)
            case SeedFinished() | SeedFailed():
                _hear_of_seed(turn, event)
            case HostDeleted() | TaskDeleted() | PeerDeleted():
                _delete(turn, event)
            case ClusterConfigured():
                self.state.configure(Cluster(event.config))
            case _:
                assert_never(event)

    def _mind_pause(self, now: float) -> None:
        """Nothing happened although an alarm was long due: this scheduler was suspended."""
        if self._wake_at_s is not None:
            pause_s = now - max(self._wake_at_s, self._event_at_s)
            if pause_s > contact.PAUSE_S:
                contact.paused(self.state, pause_s, now)
        self._event_at_s = now

    def _tick(self, turn: Turn) -> None:
        self._wake_at_s = None
        assert self._sweeps is not None, "handle() sets the first sweeps"
        judgement.end_terms(turn)
        contact.tick(turn)
        gc.sweep(turn, self._sweeps)
        for task in tuple(self.state.waiting_tasks.values()):
            waiting.expire(turn, task)

    def _alarm_stands(self, now: float) -> bool:
        """Whether nothing can have come up that needs an earlier alarm: so after most events."""
        at_s, state = self._wake_at_s, self.state
        if at_s is None or state.expecting or state.terms or state.bereft:
            return False
        if state.losing or state.orphaning or (state.contacts and at_s > now + contact.BEAT_S):
            return False
        if state.reviews and state.reviews[0][0] < at_s:
            return False
        return self._sweeps is not None and self._sweeps.next_at_s() >= at_s

    def _set_alarm(self, turn: Turn) -> None:
        """Ask to be woken for the earliest deadline; an alarm that rings earlier is left alone.

        While one is set, only tasks with something new can need an earlier one. So a piece costs
        the same whether ten children wait somewhere or ten thousand.
        """
        state = self.state
        tasks = state.waiting_tasks if self._wake_at_s is None else state.expecting
        deadlines = [
            deadline_s
            for task in tasks.values()
            if task.waiting and (deadline_s := task.next_deadline_s()) is not None
        ]
        state.expecting = {}
        if state.terms:
            deadlines.append(state.terms[0][0])
        contact_s = contact.next_deadline_s(state, turn.now)
        if contact_s is not None:
            deadlines.append(contact_s)
        if state.bereft:
            deadlines.append(turn.now + replacement.PAUSE_S)
        review_at_s = rota.next_at_s(turn)
        if review_at_s is not None:
            deadlines.append(review_at_s)
        if self._sweeps is not None and (self.state.hosts or self.state.tasks):
            deadlines.append(self._sweeps.next_at_s())
        if not deadlines:
            return
        at_s = min(deadlines)
        if self._wake_at_s is None or at_s < self._wake_at_s:
            self._wake_at_s = at_s
            turn.effects.append(WakeAt(at_s=at_s))


def _listen(turn: Turn, event: PeerSpoke) -> None:
    """Hand a peer's message to whoever knows about it."""
    if isinstance(event.message, Register):
        register(turn, event, event.message)
        return
    peer = _speaker(turn, event)
    if peer is None:
        return
    try:
        _take(turn, peer, event)
        account.heard(turn, peer, event.message)
    except IllegalTransitionError as error:
        turn.fail(peer, error)


def _take_pieces(turn: Turn, event: PiecesFinished) -> None:
    peer = _speaker(turn, event)
    if peer is None:
        return
    for message in event.messages:
        report.piece_finished(turn, peer, message.piece)
        if peer.account is not None:
            account.heard(turn, peer, message)


def _speaker(turn: Turn, event: PeerSpoke | PiecesFinished) -> Peer | None:
    """Whose message it is; None if it is to be ignored, or was answered with an error."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None:
        detail = f"peer {event.peer_id} not found: a stream begins with RegisterPeer"
        turn.effects.append(CloseStream(peer_id=event.peer_id, error=NotFoundError(detail)))
        return None
    if peer.task.id != event.task_id or peer.host.id != event.host_id:
        detail = (
            f"peer {peer.id} belongs to task {peer.task.id} on host {peer.host.id},"
            f" not to task {event.task_id} on host {event.host_id}"
        )
        turn.fail(peer, PreconditionError(detail))
        return None
    if peer.host.is_lost:
        contact.heard(turn, peer.host)
    # Else it was under way when the stream ended.
    return peer if peer.stream_is_open else None


def _take(turn: Turn, peer: Peer, event: PeerSpoke) -> None:
    match event.message:
        case Reschedule() as message:
            reschedule(turn, peer, message)
        case PieceFinished(piece=piece) | PieceBackToSourceFinished(piece=piece):
            report.piece_finished(turn, peer, piece)
        case PieceFailed() as message:
            report.piece_failed(turn, peer, message)
        case PieceBackToSourceFailed() as message:
            report.piece_back_to_source_failed(turn, peer, message)
        case Started():
            report.started(turn, peer)
        case AskDigests():
            proof.tell(turn, peer, is_asked=True)
        case BackToSourceStarted():
            report.back_to_source_started(turn, peer)
        case _:
            _take_terminal(turn, peer, event)


def _take_terminal(turn: Turn, peer: Peer, event: PeerSpoke) -> None:
    match event.message:
        case Finished():
            report.finished(turn, peer)
        case BackToSourceFinished():
            report.back_to_source_finished(turn, peer)
        case Failed():
            report.failed(turn, peer)
        case BackToSourceFailed():
            report.back_to_source_failed(turn, peer)
        case _:
            raise AssertionError(f"{type(event.message).__name__} is handled elsewhere")


def _hear_of_host(
    turn: Turn,
    event: HostAnnounced | HostContacted | HostLost | HostUnreachable | TasksHeld,
) -> None:
    match event:
        case HostAnnounced():
            contact.announced(turn, event)
        case HostContacted():
            contact.contacted(turn, event)
        case HostLost():
            contact.lost(turn, event)
        case HostUnreachable():
            contact.unreachable(turn, event)
        case TasksHeld():
            hold(turn, event)


def _hear_of_seed(turn: Turn, event: SeedFinished | SeedFailed) -> None:
    match event:
        case SeedFinished():
            departure.seed_finished(turn, event)
        case SeedFailed():
            departure.seed_failed(turn, event)


def _delete(turn: Turn, event: HostDeleted | TaskDeleted | PeerDeleted) -> None:
    match event:
        case HostDeleted():
            departure.delete_host(turn, event)
        case TaskDeleted():
            departure.delete_task(turn, event)
        case PeerDeleted():
            departure.delete_peer(turn, event)
