"""Carries out the effects of one real DownloadCore in a simulated world. It decides nothing.

It is what the daemon's runtime is in a live host: effects become transfers and messages, their
outcomes become events. Events that would come within the carrying out of an effect are put off to
the same moment's end, so that the core is never entered twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, assert_never

from odonata.errors import InternalError, OdonataError
from odonata.wire.message import Download, PeerMessage
from peer.core.effect import (
    AskAhead,
    AskParentMeta,
    AskProgress,
    CancelPiece,
    CancelReason,
    CheckPiece,
    CheckWhole,
    CloseStream,
    Complete,
    ConnectParent,
    DownloadEffect,
    DropParent,
    FetchPiece,
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
    FailureReason,
    ParentEnded,
    PieceChecked,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
    SchedulerLost,
    StorageFailed,
    Ticked,
    WholeChecked,
)
from peer.core.run_record import Fetcher, RunRecord
from simulator.fetch import Fetch
from simulator.node import Follower, Node
from simulator.source import Source, SourceRequest
from simulator.telemetry import LosableRecorder

if TYPE_CHECKING:
    from random import Random

    from odonata.telemetry.record import Recorder
    from simulator.clock import Alarm
    from simulator.network import Network
    from simulator.parts import Parts
    from simulator.wire import Wire
    from simulator.world import World

STREAM_CONNECT_S: Final = 5.0
"""How long a parent that does not answer is waited for, when its streams are opened: the time-out
of the daemon's parent links."""


_WRONG: Final = (FailureReason.DIGEST, FailureReason.LISTED_DIGEST)


class Surroundings:
    """What a download meets in its world."""

    def __init__(
        self,
        *,
        world: World,
        network: Network,
        wire: Wire,
        parts: Parts,
        source: Source,
        nodes: dict[str, Node],
        task_id: str,
        recorder: Recorder,
        say: Callable[[SimulatedDownload, PeerMessage], None],
        seek: Callable[[SimulatedDownload, float], None],
        on_end: Callable[[SimulatedDownload], None],
    ) -> None:
        """`nodes` by host id; `say` brings a message to the scheduler; `on_end`: it is over.

        `seek`: after a pause, tell the download of a scheduler that answers, if there is one.
        """
        self.world = world
        self.network = network
        self.wire = wire
        self.parts = parts
        self.source = source
        self.nodes = nodes
        self.task_id = task_id
        self.recorder = recorder
        self.say = say
        self.seek = seek
        self.on_end = on_end


class SimulatedDownload:
    """One download of one node."""

    def __init__(
        self, around: Surroundings, node: Node, download: Download, peer_id: str, rng: Random
    ) -> None:
        self.node = node
        self.peer_id = peer_id
        self.task_id = around.task_id
        self.started_at_s = around.world.now
        self.ended_at_s: float | None = None
        self.error: OdonataError | None = None
        self.crashed = False
        self.blamed: list[tuple[str, int]] = []
        self.fetched_from: dict[str, int] = {}  # bytes by name of the giver
        self._around = around
        idc, budget = node.host.idc, node.budget
        self._core = around.parts.download(node.limits, download, rng, idc, budget)
        fetcher = Fetcher(
            task_id=around.task_id,
            peer_id=peer_id,
            host_id=node.host.id,
            is_seed=node.host.is_seed,
        )
        self._recorder = LosableRecorder(around.recorder)
        self._record = RunRecord(self._recorder, fetcher, lambda: around.world.now)
        self._closed = False
        self._parents: dict[str, tuple[Node, Follower]] = {}
        self._fetches: dict[tuple[str, int], Fetch] = {}
        self._requests: dict[int, SourceRequest] = {}
        self._alarm: Alarm | None = None

    @property
    def over(self) -> bool:
        return self.ended_at_s is not None or self.crashed

    @property
    def state(self) -> str:
        return self._core.state

    def story(self) -> tuple[str, ...]:
        return self._core.story()

    def begin(self, *, scheduler: bool, needs_size: bool = False) -> None:
        """Start. `needs_size`: the scheduler must be told the length (`Begun`)."""
        node = self.node
        node.active = True
        self.give(
            Begun(
                content_length=node.content_length,
                piece_length=node.piece_length,
                held=tuple(sorted(node.held)),
                scheduler=scheduler,
                needs_size=needs_size,
                tells_digests=self.node.is_ours,
            )
        )

    def give(self, event: DownloadEvent) -> None:
        """Hand an event to the core and do what it says."""
        if self.over:
            return
        for effect in self._core.handle(event, self.node.clock.now):
            self._perform(effect)

    def stream_ended(self, reason: str, *, refused: bool = False) -> None:
        """The scheduler ended the stream, or is gone; `refused`: it does not want the download."""
        if not self._closed:
            self.give(SchedulerLost(reason=reason, refused=refused))

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self.give(Cancelled())

    def lose_parents(self, name: str, reason: str) -> None:
        """Streams to a host have been silent for too long, and count as broken."""
        for peer_id, (parent, follower) in list(self._parents.items()):
            if parent.name == name and follower.is_open:
                follower.is_open = False
                self.give(ParentEnded(peer_id=peer_id, finished=False, reason=reason))

    def fails_to_keep(self) -> bool:
        """Whether the next piece finds no room on the disk; then the download is told."""
        if len(self.node.held) < self.node.room:
            return False
        event = StorageFailed(reason="no space left on device", disk_full=True)
        self._around.world.after(0.0, lambda: self.give(event))
        return True

    def crash(self) -> None:
        """Its host dies."""
        if not self.over:
            self.crashed = True
            self._recorder.lose()
            self._clear_up()

    # --- effects --------------------------------------------------------------------------------

    def _perform(self, effect: DownloadEffect) -> None:
        match effect:
            case Send():
                self._around.say(self, effect.message)
            case CloseStream():
                self._closed = True
            case SeekScheduler():
                self._around.seek(self, effect.pause_s)
            case LearnMeta():
                self.node.learn(effect.content_length, effect.piece_length)
            case OpenSource() | FetchSource() | StopSource():
                self._perform_source(effect)
            case LearnDigests() | CheckPiece() | CheckWhole():
                self._prove(effect)
            case WakeAt():
                self._wake_at(effect.at_s)
            case Complete() | GiveUp():
                self._end(effect)
            case _:
                self._perform_parent(effect)

    def _perform_parent(
        self,
        effect: AskAhead
        | ConnectParent
        | AskParentMeta
        | DropParent
        | FetchPiece
        | AskProgress
        | CancelPiece,
    ) -> None:
        match effect:
            case AskAhead():
                pass  # a world tells of no seed that was met before
            case ConnectParent():
                self._connect(effect)
            case AskParentMeta():
                self._ask_meta(effect.peer_id)
            case DropParent():
                self._drop(effect)
            case FetchPiece():
                parent, _ = self._parents[effect.peer_id]
                attempt = self._record.from_parent(effect, parent.host)
                fetch = Fetch(self._around, self, parent, effect, attempt)
                self._fetches[effect.peer_id, effect.number] = fetch
            case CancelPiece():
                self._cancel(effect)
            case AskProgress():
                self._tell_progress(effect)
            case _:
                assert_never(effect)

    def _prove(self, effect: LearnDigests | CheckPiece | CheckWhole) -> None:
        """Reading what is held takes no time here. No URL of a world names a digest."""
        node, world = self.node, self._around.world
        if isinstance(effect, LearnDigests):
            node.listed.update(effect.digests)
            for number in [number for number, digest in node.listed.items() if not digest]:
                del node.listed[number]
        elif isinstance(effect, CheckPiece):
            number = effect.number
            is_right = not node.is_listed_wrong(number)
            if not is_right:
                self.blamed.append((self._name_of(node.held[number].parent_id), number))
                node.forget(number)
                world.note(node.name, f"forgets {number}: it is not what the source sent")
            checked = PieceChecked(number=number, is_right=is_right)
            world.after(0.0, lambda: self.give(checked))
        else:
            world.after(0.0, lambda: self.give(WholeChecked()))

    def _name_of(self, peer_id: str) -> str:
        known = self._parents.get(peer_id)
        return peer_id if known is None else known[0].name

    def _perform_source(self, effect: OpenSource | FetchSource | StopSource) -> None:
        request = self._requests.get(effect.first)
        if isinstance(effect, StopSource):
            if request is not None:
                request.stop()
                del self._requests[effect.first]
            return
        order = effect if isinstance(effect, FetchSource) else None
        if order is not None and request is not None and not request.over:
            request.fetch(order)
            return
        source = self._around.source
        self._requests[effect.first] = source.ask(self, effect.first, order, self._record)

    def _connect(self, effect: ConnectParent) -> None:
        peer_id = effect.parent.peer_id
        parent = self._around.nodes[effect.parent.host.id]
        old = self._parents.get(peer_id)
        if old is not None:
            old[1].is_open = False

        follower = Follower(
            parent_id=peer_id,
            child=self.node.name,
            give=lambda event: self._hear(follower, event),
        )
        self._parents[peer_id] = (parent, follower)
        if self._around.wire.joins(self.node.name, parent.name):
            self._ask_parent(parent, lambda: parent.follow(follower))
        else:
            follower.is_open = False
            ended = ParentEnded(peer_id=peer_id, finished=False, reason="no answer")
            self._around.world.after(STREAM_CONNECT_S, lambda: self._hear(follower, ended))

    def _ask_parent(self, parent: Node, action: Callable[[], None]) -> None:
        self._around.wire.carry(self.node.name, parent.name, action)

    def _hear(self, follower: Follower, event: DownloadEvent) -> None:
        """From a parent that may have been dropped while the message was on its way."""
        _, current = self._parents.get(follower.parent_id, (None, None))
        if current is follower:
            self.give(event)

    def _ask_meta(self, peer_id: str) -> None:
        parent, follower = self._parents[peer_id]
        self._ask_parent(parent, lambda: parent.tell_facts(follower))

    def _drop(self, effect: DropParent) -> None:
        _, follower = self._parents.pop(effect.peer_id)
        follower.is_open = False
        for key in [key for key in self._fetches if key[0] == effect.peer_id]:
            self._stop(self._fetches.pop(key), effect.reason)

    def _stop(self, fetch: Fetch, reason: str) -> None:
        fetch.stop()
        fetch.attempt.stopped(reason)

    def _cancel(self, effect: CancelPiece) -> None:
        fetch = self._fetches.pop((effect.peer_id, effect.number), None)
        if fetch is None:
            return  # its answer is on its way
        self._stop(fetch, effect.reason)
        event = PieceNotFetched(
            peer_id=effect.peer_id, number=effect.number, reason=FailureReason.CANCELLED
        )
        self._around.world.after(0.0, lambda: self.give(event))

    def _tell_progress(self, effect: AskProgress) -> None:
        fetch = self._fetches.get((effect.peer_id, effect.number))
        if fetch is not None:
            began_s = (
                None if fetch.began_at_s is None else self._around.world.now - fetch.began_at_s
            )
            event = PieceProgress(
                peer_id=effect.peer_id,
                number=effect.number,
                began_s=began_s,
                received=fetch.received,
            )
            self._around.world.after(0.0, lambda: self.give(event))

    def fetched(self, fetch: Fetch, event: PieceStored | PieceNotFetched) -> None:
        """A fetch came to its end."""
        key = (fetch.effect.peer_id, fetch.effect.number)
        if self._fetches.get(key) is not fetch:
            return
        del self._fetches[key]
        if isinstance(event, PieceStored) and self.fails_to_keep():
            return
        if isinstance(event, PieceStored):
            if event.piece.number in self.node.held:
                raise InternalError(f"piece {event.piece.number} was fetched twice: {self.story()}")
            giver = fetch.parent.name
            self.fetched_from[giver] = self.fetched_from.get(giver, 0) + event.piece.length
            self.node.store(event.piece, fetch.content)
            fetch.attempt.ok(event.piece.length)
        elif event.reason is FailureReason.GIVEN:
            fetch.attempt.cancelled(event.reason)
        else:
            fetch.attempt.failed(event.reason)
        if isinstance(event, PieceNotFetched) and event.reason in _WRONG:
            self.blamed.append((fetch.parent.name, event.number))
        self._note(event)
        self.give(event)

    def _wake_at(self, at_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.node.clock.at(at_s, lambda: self.give(Ticked()))

    # --- the end --------------------------------------------------------------------------------

    def _end(self, effect: Complete | GiveUp) -> None:
        self.ended_at_s = self._around.world.now
        self.error = effect.error if isinstance(effect, GiveUp) else None
        self._clear_up()
        self._record.end(
            self.error,
            content_length=self.node.content_length,
            piece_length=self.node.piece_length,
            decisions=self._core.decisions,
        )
        self.node.active = False
        what = "completed" if self.error is None else f"gave up: {self.error.detail}"
        self._around.world.note(self.node.name, what)
        self.node.end_lists(finished=self.error is None, reason=what)
        self._around.on_end(self)

    def _clear_up(self) -> None:
        for request in self._requests.values():
            request.stop()
        for fetch in self._fetches.values():
            self._stop(fetch, CancelReason.ENDED)
        for _, follower in self._parents.values():
            follower.is_open = False
        if self._alarm is not None:
            self._alarm.cancel()
        self._requests.clear()
        self._fetches.clear()
        self._parents.clear()

    def _note(self, event: PieceStored | PieceNotFetched) -> None:
        if isinstance(event, PieceStored):
            what = f"stored {event.piece.number} from {event.peer_id}"
        else:
            what = f"lacks {event.number} from {event.peer_id}: {event.reason}"
        self._around.world.note(self.node.name, what)
