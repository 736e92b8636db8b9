"""A scheduler core in a test: short names for hosts, peers and events, invariants after each event.

`World` drives one `SchedulerCore` on a clock of its own. Every method hands in one event and
returns the effects; `told` puts effects into words, one line each.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import starmap
from random import Random

from models.dragonfly import DragonflyRanker
from models.ranker import Ranker
from odonata.telemetry.record import DecisionRecord, Record
from odonata.wire.digest_list import unpack
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    FarShare,
    Finished,
    HeldTask,
    Host,
    HostType,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceDigests,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    SchedulerAnswer,
    SourceAnswer,
    Started,
    TaskType,
    TrafficType,
)
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import (
    Answer,
    CloseStream,
    ProbeHost,
    Refuse,
    SchedulerEffect,
    TriggerSeed,
    WakeAt,
    WriteRecord,
)
from scheduler.core.event import (
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
from scheduler.core.invariant import check
from scheduler.core.limits import Limits
from scheduler.core.peer import Peer
from scheduler.core.task import Task

URL = "http://origin/blob"
PIECE_LENGTH = 4 * 1024 * 1024


def host(
    host_id: str,
    *,
    seed: bool = False,
    shared: bool = True,
    idc: str = "",
    location: str = "",
    bandwidth: int = 0,
) -> Host:
    """A host whose address follows from its id."""
    return Host(
        id=host_id,
        hostname=host_id,
        type=HostType.SUPER if seed else HostType.NORMAL,
        ip=f"10.0.0.{sum(host_id.encode()) % 250 + 1}",
        port=4000 + sum(host_id.encode()) % 1000,
        disable_shared=not shared,
        idc=idc,
        location=location,
        max_tx_bandwidth_bits_per_s=bandwidth,
    )


def download(
    *,
    size: int | None = None,
    source: bool = False,
    metadata: bool = False,
    priority: int = 0,
    part: ByteRange | None = None,
    may_use_source: bool = True,
    kind: TaskType = TaskType.STANDARD,
) -> Download:
    """A download of the one URL there is."""
    return Download(
        url=URL,
        type=kind,
        range=part,
        priority=priority,
        need_back_to_source=source,
        metadata_only=metadata,
        disable_back_to_source=not may_use_source,
        output_path="/out",
        actual_content_length=size,
        actual_piece_length=None if size is None else PIECE_LENGTH,
        actual_piece_count=None if size is None else -(-size // PIECE_LENGTH),
    )


class World:
    """One scheduler, its clock, and where each peer lives. Task "t" unless said otherwise."""

    def __init__(
        self, limits: Limits | None = None, seed: int = 1, ranker: Ranker | None = None
    ) -> None:
        self.core = SchedulerCore(limits or Limits(), ranker or DragonflyRanker(), Random(seed))
        self.now = 0.0
        self.homes: dict[str, tuple[str, str]] = {}
        self.ours: set[str] = set()  # peers that are ours, and write their own pieces
        self.old: set[str] = set()  # of these, who do not know of parts of gateways
        self.resuming: set[str] = set()  # peers that come in the middle of a download
        self.records: list[Record] = []

    def handle(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        """Hand in an event; records go to `records`, for they are no part of a conversation."""
        effects = self.feed(event)
        check(self.core)
        self.records += [one.record for one in effects if isinstance(one, WriteRecord)]
        return [one for one in effects if not isinstance(one, WriteRecord)]

    def feed(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        return self.core.handle(event, self.now)

    def announce(
        self,
        *hosts: Host,
        interval_s: float = 300.0,
        shares_source: bool = False,
        returns: bool = False,
    ) -> list[SchedulerEffect]:
        return [
            effect
            for one in hosts
            for effect in self.handle(
                HostAnnounced(
                    host=one, interval_s=interval_s, shares_source=shares_source, returns=returns
                )
            )
        ]

    def register(
        self, peer_id: str, host_id: str, what: Download | None = None, task_id: str = "t"
    ) -> list[SchedulerEffect]:
        self.homes[peer_id] = (host_id, task_id)
        return self.say(peer_id, Register(download=what or download()))

    def say(self, peer_id: str, message: PeerMessage) -> list[SchedulerEffect]:
        host_id, task_id = self.homes[peer_id]
        return self.handle(
            PeerSpoke(
                host_id=host_id,
                task_id=task_id,
                peer_id=peer_id,
                message=message,
                is_ours=peer_id in self.ours,
                checks_pieces=peer_id in self.ours,
                shares_far=peer_id in self.ours - self.old,
                resumes=peer_id in self.resuming,
                writes_pieces=peer_id in self.ours,
            )
        )

    def started(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, Started())

    def at_source(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, BackToSourceStarted())

    def piece(
        self,
        peer_id: str,
        number: int,
        parent_id: str = "",
        *,
        length: int = PIECE_LENGTH,
        cost_s: float = 0.1,
        digest: str = "",
        strong: bytes = b"",
    ) -> list[SchedulerEffect]:
        message = _finished_piece(
            number, parent_id, length=length, cost_s=cost_s, digest=digest, strong=strong
        )
        return self.say(peer_id, message)

    def pieces(self, peer_id: str, parent_ids: dict[int, str]) -> list[SchedulerEffect]:
        """Pieces arrive, each from a parent ("": the source), and are reported together."""
        host_id, task_id = self.homes[peer_id]
        return self.handle(
            PiecesFinished(
                host_id=host_id,
                task_id=task_id,
                peer_id=peer_id,
                messages=tuple(starmap(_finished_piece, parent_ids.items())),
            )
        )

    def piece_failed(
        self,
        peer_id: str,
        parent_id: str,
        *,
        temporary: bool = True,
        wrong_digest: bool = False,
        by_list: bool = False,
    ) -> list[SchedulerEffect]:
        failed = PieceFailed(
            parent_id=parent_id,
            number=0,
            temporary=temporary,
            wrong_digest=wrong_digest or by_list,
            by_list=by_list,
        )
        return self.say(peer_id, failed)

    def source_refused(self, peer_id: str, status_code: int | None) -> list[SchedulerEffect]:
        return self.say(peer_id, PieceBackToSourceFailed(answer=_source_answer(status_code)))

    def reschedule(self, peer_id: str, *parent_ids: str) -> list[SchedulerEffect]:
        return self.say(peer_id, Reschedule(parent_ids=parent_ids))

    def finished(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, Finished())

    def finished_from_source(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, BackToSourceFinished())

    def failed(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, Failed())

    def failed_from_source(self, peer_id: str) -> list[SchedulerEffect]:
        return self.say(peer_id, BackToSourceFailed())

    def closed(self, peer_id: str) -> list[SchedulerEffect]:
        return self.handle(StreamClosed(peer_id=peer_id))

    def leave(self, host_id: str) -> list[SchedulerEffect]:
        return self.handle(HostDeleted(host_id=host_id))

    def contacted(self, *host_ids: str) -> list[SchedulerEffect]:
        return [effect for one in host_ids for effect in self.handle(HostContacted(host_id=one))]

    def lost(self, host_id: str) -> list[SchedulerEffect]:
        return self.handle(HostLost(host_id=host_id))

    def unreachable(self, host_id: str) -> list[SchedulerEffect]:
        return self.handle(HostUnreachable(host_id=host_id))

    def tells(self, host_id: str, *held: HeldTask) -> list[SchedulerEffect]:
        return self.handle(TasksHeld(host_id=host_id, held=held))

    def delete_task(self, host_id: str, task_id: str = "t") -> list[SchedulerEffect]:
        return self.handle(TaskDeleted(host_id=host_id, task_id=task_id))

    def delete_peer(self, peer_id: str) -> list[SchedulerEffect]:
        host_id, task_id = self.homes[peer_id]
        return self.handle(PeerDeleted(host_id=host_id, task_id=task_id, peer_id=peer_id))

    def seed_finished(self, host_id: str, task_id: str = "t") -> list[SchedulerEffect]:
        return self.handle(SeedFinished(task_id=task_id, host_id=host_id))

    def seed_failed(
        self,
        host_id: str,
        task_id: str = "t",
        *,
        unreachable: bool = False,
        status_code: int | None = None,
    ) -> list[SchedulerEffect]:
        """A trigger failed; `status_code` is the source's answer, if it was that."""
        return self.handle(
            SeedFailed(
                task_id=task_id,
                host_id=host_id,
                reason="no",
                unreachable=unreachable,
                answer=_source_answer(status_code),
            )
        )

    def advance(self, to_s: float) -> list[SchedulerEffect]:
        """Let time pass until `to_s`, with every alarm on the way."""
        effects: list[SchedulerEffect] = []
        while self.core.wake_at_s is not None and self.core.wake_at_s <= to_s:
            self.now = max(self.now, self.core.wake_at_s)
            effects += self.handle(Ticked())
        self.now = max(self.now, to_s)
        return effects

    # --- shortcuts to a situation ---

    def holder(self, peer_id: str, host_id: str) -> None:
        """Make `peer_id` a peer that holds the whole task."""
        self.register(peer_id, host_id, download(metadata=True, size=3 * PIECE_LENGTH))
        self.started(peer_id)
        self.finished(peer_id)

    def origin_fetcher(self, peer_id: str, host_id: str) -> None:
        """Make `peer_id` a peer that downloads from the source."""
        self.register(peer_id, host_id, download(source=True))
        self.at_source(peer_id)

    def decisions(self, peer_id: str) -> list[DecisionRecord]:
        """What was recorded of the decisions about one child, in order."""
        recorded = [one for one in self.records if isinstance(one, DecisionRecord)]
        return [one for one in recorded if one.child_id == peer_id]

    def peer(self, peer_id: str) -> Peer:
        return self.core.state.peers[peer_id]

    def task(self, task_id: str = "t") -> Task:
        return self.core.state.tasks[task_id]


def _finished_piece(
    number: int,
    parent_id: str,
    *,
    length: int = PIECE_LENGTH,
    cost_s: float = 0.1,
    digest: str = "",
    strong: bytes = b"",
) -> PieceFinished | PieceBackToSourceFinished:
    piece = Piece(
        number=number,
        offset=number * PIECE_LENGTH,
        length=length,
        digest=digest,
        strong_digest=strong,
        parent_id=parent_id,
        traffic_type=TrafficType.REMOTE_PEER if parent_id else TrafficType.BACK_TO_SOURCE,
        cost_s=cost_s,
    )
    return PieceFinished(piece=piece) if parent_id else PieceBackToSourceFinished(piece=piece)


def _source_answer(status_code: int | None) -> SourceAnswer | None:
    return None if status_code is None else SourceAnswer(message="no", status_code=status_code)


def answers(effects: Iterable[SchedulerEffect]) -> dict[str, SchedulerAnswer]:
    """The answers among `effects`, by peer; a peer that got two fails the test.

    Without digests and shares, which answer nothing.
    """
    given = [
        effect
        for effect in effects
        if isinstance(effect, Answer) and not isinstance(effect.answer, PieceDigests | FarShare)
    ]
    by_peer = {effect.peer_id: effect.answer for effect in given}
    assert len(by_peer) == len(given), "a peer was answered twice"
    return by_peer


def digests(effects: Iterable[SchedulerEffect]) -> dict[str, dict[int, bytes]]:
    """Who was told which strong digests."""
    told: dict[str, dict[int, bytes]] = {}
    for effect in effects:
        if isinstance(effect, Answer) and isinstance(effect.answer, PieceDigests):
            told.setdefault(effect.peer_id, {}).update(unpack(effect.answer.packed))
    return told


def far_shares(effects: Iterable[SchedulerEffect]) -> dict[str, tuple[int, int]]:
    """Who was told to be which of how many gateways; nobody is told twice at once."""
    told = [
        (effect.peer_id, (effect.answer.index, effect.answer.count))
        for effect in effects
        if isinstance(effect, Answer) and isinstance(effect.answer, FarShare)
    ]
    assert len(dict(told)) == len(told)
    return dict(told)


def parents(effects: Iterable[SchedulerEffect]) -> dict[str, list[str]]:
    """Who was given which parents, best first."""
    return {
        peer_id: [parent.peer_id for parent in answer.parents]
        for peer_id, answer in answers(effects).items()
        if isinstance(answer, NormalTask)
    }


def sent_to_source(effects: Iterable[SchedulerEffect]) -> list[str]:
    """Who was told to go back to the source, in order."""
    given = answers(effects)
    return [peer_id for peer_id, one in given.items() if isinstance(one, NeedBackToSource)]


def triggers(effects: Iterable[SchedulerEffect]) -> list[TriggerSeed]:
    return [effect for effect in effects if isinstance(effect, TriggerSeed)]


def closes(effects: Iterable[SchedulerEffect]) -> dict[str, str]:
    """Whose stream ended, and with which error's code ("ok" if none)."""
    return {
        effect.peer_id: effect.error.code if effect.error else "ok"
        for effect in effects
        if isinstance(effect, CloseStream)
    }


def told(effects: Iterable[SchedulerEffect]) -> list[str]:
    """Put effects into words, one line each."""
    return [_told(effect) for effect in effects if not isinstance(effect, WriteRecord)]


def _told(  # noqa: PLR0911  # one line for each kind
    effect: Answer | CloseStream | Refuse | TriggerSeed | ProbeHost | WakeAt,
) -> str:
    match effect:
        case Answer(peer_id=peer_id, answer=answer):
            return f"{peer_id} <- {_answer_told(answer)}"
        case CloseStream(peer_id=peer_id, error=None):
            return f"{peer_id} closed: ok"
        case CloseStream(peer_id=peer_id, error=error):
            assert error is not None
            return f"{peer_id} closed: {error.code}: {error.detail}"
        case Refuse(error=error):
            return f"refused: {error.code}: {error.detail}"
        case TriggerSeed(task_id=task_id, host=seed):
            return f"trigger {seed.id} to fetch {task_id}"
        case ProbeHost(host=host):
            return f"probe {host.id}"
        case WakeAt(at_s=at_s):
            return f"alarm at {at_s:g}"


def _answer_told(answer: SchedulerAnswer) -> str:
    match answer:
        case NormalTask(parents=given):
            names = (
                f"{one.peer_id} ({_state_told(one.state, one.finished_pieces)})" for one in given
            )
            return f"parents {', '.join(names)}"
        case NeedBackToSource(description=why):
            return f"back to source: {why}"
        case EmptyTask():
            return "empty task"
        case MetadataOnly():
            return "metadata only"
        case PieceDigests(packed=packed):
            return f"digests of {','.join(map(str, unpack(packed))) or 'no'} pieces"
        case FarShare(index=index, count=count):
            return f"gateway {index} of {count}"


def _state_told(state: str, pieces: tuple[int, ...]) -> str:
    return f"{state}, pieces {','.join(map(str, pieces))}" if pieces else state
