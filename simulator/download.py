"""Carries out the effects of one real DownloadCore in a simulated world. It decides nothing.

It is what the daemon's runtime is in a live host: effects become transfers and messages, their
outcomes become events. Events that would come within the carrying out of an effect are put off to
the same moment's end, so that the core is never entered twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, assert_never

from msgspec.structs import replace

from odonata.errors import InternalError, OdonataError
from odonata.wire.message import Download, PeerMessage
from peer.core.effect import (
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
from peer.core.run_record import Fetcher, RunRecord, Try
from simulator.node import FORGED, WRONG_DIGEST, Follower, Node
from simulator.source import Source, SourceRequest
from simulator.telemetry import LosableRecorder

if TYPE_CHECKING:
    from random import Random

    from odonata.telemetry.record import Recorder
    from odonata.wire.message import Piece
    from simulator.clock import Alarm
    from simulator.network import Network, Transfer
    from simulator.parts import Parts
    from simulator.wire import Wire
    from simulator.world import World

LEARN_S: Final = 0.001
"""How often what was asked for early looks whether the content is known by now."""
PIECE_CONNECT_S: Final = 2.0
"""How long a parent that does not answer is waited for, when a piece is asked for..."""
STREAM_CONNECT_S: Final = 5.0
"""...and for its streams: the time-outs of the daemon's piece client and parent links."""


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
        self._fetches: dict[tuple[str, int], _Fetch] = {}
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
        effect: ConnectParent | AskParentMeta | DropParent | FetchPiece | AskProgress | CancelPiece,
    ) -> None:
        match effect:
            case ConnectParent():
                self._connect(effect)
            case AskParentMeta():
                self._ask_meta(effect.peer_id)
            case DropParent():
                self._drop(effect)
            case FetchPiece():
                parent, _ = self._parents[effect.peer_id]
                attempt = self._record.from_parent(effect, parent.host)
                fetch = _Fetch(self._around, self, parent, effect, attempt)
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

    def _stop(self, fetch: _Fetch, reason: str) -> None:
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

    def fetched(self, fetch: _Fetch, event: PieceStored | PieceNotFetched) -> None:
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


class _Fetch:
    """One piece from one parent: connect, ask, transfer, check."""

    def __init__(
        self,
        around: Surroundings,
        download: SimulatedDownload,
        parent: Node,
        effect: FetchPiece,
        attempt: Try,
    ) -> None:
        self.effect = effect
        self.attempt = attempt
        self.parent = parent
        self.began_at_s: float | None = None
        self._around = around
        self._download = download
        self._asked_at_s = around.world.now
        self._transfer: Transfer | None = None
        self._ticket: int | None = None
        self._piece: Piece | None = None  # as the parent says
        self._came = ""  # the digest that its bytes will have...
        self.content = b""  # ...and the strong one
        self._given: tuple[int, ...] = ()
        self._over = False
        # Connect and ask take a round trip each; the answer's last byte another way.
        attempt.times.requested_at_s = around.world.now + 2 * parent.delay_s
        self._timer = around.world.after(3 * parent.delay_s, self._arrive)
        self._timeout = download.node.clock.after(effect.timeout_s, self._time_out)

    @property
    def received(self) -> int:
        """Bytes that have left the parent."""
        length, transfer = self.effect.length or 0, self._transfer
        if transfer is None:
            return 0 if self.began_at_s is None else length
        passed_s = self._around.world.now - transfer.since_s
        return int(length - transfer.left + transfer.rate * passed_s)

    def stop(self) -> None:
        self._over = True
        self._timer.cancel()
        self._timeout.cancel()
        if self._transfer is not None:
            self._around.network.stop(self._transfer)
        self._free_slot()

    def go(self) -> None:
        """The parent has a slot for it."""
        self.began_at_s = self._around.world.now
        self.attempt.times.first_byte_at_s = self._around.world.now + self.parent.delay_s
        parent, network = self.parent, self._around.network
        self._piece = piece = parent.held[self.effect.number]
        is_wrong = parent.lie == "digest" or parent.trouble == "corrupt"
        self._came = WRONG_DIGEST if is_wrong else piece.digest
        self.content = FORGED if parent.lie == "forgery" else parent.content[piece.number]
        length, then = piece.length, self._check
        if parent.trouble == "cut":
            length, then = length // 2, self.broke
        self._transfer = network.send(parent.link, self._download.node.link, length, then)
        if parent.trouble == "stall":
            network.hold(self._transfer)

    def broke(self) -> None:
        """The connection broke, or the parent died."""
        self._free_slot()
        self._fail(FailureReason.UNREACHABLE)

    def _arrive(self) -> None:
        """The request reaches the parent."""
        parent = self.parent
        if not self._around.wire.joins(self._download.node.name, parent.name):
            unreachable = FailureReason.UNREACHABLE
            self._timer = self._around.world.after(
                PIECE_CONNECT_S, lambda: self._answer(unreachable)
            )
        elif not parent.alive:
            self._fail(FailureReason.UNREACHABLE)
        elif self.effect.number not in parent.held:
            self._fail(FailureReason.NOT_FOUND)
        else:
            self._join(parent, self.effect)

    def _join(self, parent: Node, effect: FetchPiece) -> None:
        """A slot, or a place in the queue; or why there is none."""
        child = self._download.node.host.id
        self._given = parent.given(effect.number, child) if effect.is_exclusive else ()
        if self._given:
            self._fail(FailureReason.GIVEN)
            return
        self._ticket = parent.ask(effect.number, self, child=child, is_patient=effect.is_patient)
        if self._ticket is None:
            self._fail(FailureReason.REFUSED)

    def _free_slot(self, *, is_whole: bool = False) -> None:
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self.parent.leave(ticket, is_whole=is_whole)

    def _check(self) -> None:
        """The last byte has left; a delay later it is here, and its digest is looked at."""
        self._transfer = None
        self._free_slot(is_whole=True)
        self._around.wire.carry(self.parent.name, self._download.node.name, self._store)

    def _store(self) -> None:
        if self._over:
            return
        assert self._piece is not None, "what comes was sent"
        if not self._download.node.learned:  # asked early
            self._timer = self._around.world.after(LEARN_S, self._store)
            return
        if not self._around.parts.accepts(self._piece.digest, self._came):
            self._answer(FailureReason.DIGEST)
            return
        listed = self._download.node.listed.get(self._piece.number, b"")
        if listed and not self._around.parts.is_listed(listed, self.content):
            self._answer(FailureReason.LISTED_DIGEST)
            return
        took_s = self._around.world.now - self._asked_at_s
        stored = replace(
            self._piece,
            digest=self._came,
            strong_digest=listed,
            parent_id=self.effect.peer_id,
            cost_s=took_s,
        )
        self.stop()
        stored_event = PieceStored(
            peer_id=self.effect.peer_id,
            piece=stored,
            began_s=self._since(self.attempt.times.first_byte_at_s),
            wait_s=self._wait_s(),
        )
        self._download.fetched(self, stored_event)

    def _since(self, at_s: float | None) -> float | None:
        return None if at_s is None else self._around.world.now - at_s

    def _wait_s(self) -> float | None:
        """From asking to the first byte, the connection not counted."""
        asked_s, first_s = self.attempt.times.requested_at_s, self.attempt.times.first_byte_at_s
        return None if asked_s is None or first_s is None else first_s - asked_s

    def _time_out(self) -> None:
        self._answer(FailureReason.TIMEOUT)

    def _fail(self, reason: FailureReason) -> None:
        """Known to the parent's side now, to the child a delay later."""
        if self._transfer is not None:
            self._around.network.stop(self._transfer)
            self._transfer = None
        self._timer.cancel()
        self._around.wire.carry(
            self.parent.name, self._download.node.name, lambda: self._answer(reason)
        )

    def _answer(self, reason: FailureReason) -> None:
        if self._over:
            return
        self.stop()
        number, peer_id = self.effect.number, self.effect.peer_id
        event = PieceNotFetched(peer_id=peer_id, number=number, reason=reason, given=self._given)
        self._download.fetched(self, event)
