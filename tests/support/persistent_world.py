"""One persistent task in a test: a core, a store of dictionaries, a clock; short names for events.

`PersistentWorld` hands each event to a `PersistentCore` with a snapshot of what it keeps, keeps
what is to be written, and returns the other effects; `told` puts those into words. After each event
`check` finds out whether what is kept can be true.
"""

from __future__ import annotations

from random import Random
from typing import Any

from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    EmptyTask,
    Failed,
    Finished,
    NeedBackToSource,
    PieceFailed,
    Reschedule,
    Started,
)
from scheduler.core.persistent.core import PersistentCore
from scheduler.core.persistent.effect import (
    Answer,
    AnswerTask,
    CloseStream,
    CountReplicas,
    Demote,
    DownloadReplica,
    DropPeer,
    DropTask,
    Parents,
    PersistentEffect,
    PersistentWrite,
    Promote,
    PutPeer,
    PutTask,
    Refuse,
)
from scheduler.core.persistent.event import (
    HostLeft,
    PeerDeleted,
    PeerSpoke,
    PersistentEvent,
    PersistentMessage,
    PiecesFinished,
    Register,
    ReplicaKept,
    ReplicasWanted,
    Scope,
    StreamClosed,
    TaskDeleted,
    UploadFailed,
    UploadFinished,
    UploadStarted,
    scope_of,
)
from scheduler.core.persistent.lifecycle import PeerState, TaskState
from scheduler.core.persistent.state import Kind, Peer, PeerHost, Snapshot, Task

TASK = "t"
PIECE_COUNT = 4
SIZE = 16 * 1024 * 1024


class PersistentWorld:
    """Task "t" of one kind. `homes`: host of each peer that was ever named."""

    def __init__(self, kind: Kind, *, parent_limit: int = 2, seed: int = 1) -> None:
        self.kind = kind
        self.core = PersistentCore(parent_limit, Random(seed))
        self.now = 0.0
        self.task: Task | None = None
        self.peers: dict[str, Peer] = {}
        self.hosts: dict[str, PeerHost] = {}
        self.homes: dict[str, str] = {}

    @property
    def snapshot(self) -> Snapshot:
        """What is kept."""
        return Snapshot(
            kind=self.kind, task_id=TASK, task=self.task, peers=self.peers, hosts=self.hosts
        )

    def handle(self, event: PersistentEvent) -> list[PersistentEffect]:
        """Handle an event, keep the writes, return the rest."""
        effects = self.core.handle(event, self.snapshot, self.now)
        self._check_scope(event, effects)
        for effect in effects:
            if isinstance(effect, PersistentWrite):
                self._keep(effect)
        check(self)
        return [effect for effect in effects if not isinstance(effect, PersistentWrite)]

    def _check_scope(self, event: PersistentEvent, effects: list[PersistentEffect]) -> None:
        """The event looks at and changes no more than its scope says."""
        scope = scope_of(event)
        if scope is Scope.TASK:
            return
        assert isinstance(event, PeerSpoke | StreamClosed | ReplicaKept)
        for effect in effects:
            if isinstance(effect, PersistentWrite):
                assert isinstance(effect, PutPeer)
                assert effect.peer.id == event.peer_id
        if scope is Scope.PEER:
            own = {name: peer for name, peer in self.peers.items() if name == event.peer_id}
            alone = Snapshot(kind=self.kind, task_id=TASK, task=self.task, peers=own)
            # Errors have no equality but their words.
            assert repr(self.core.handle(event, alone, self.now)) == repr(effects)

    def _keep(self, write: PersistentWrite) -> None:
        match write:
            case PutTask(task=task):
                self.task = task
            case PutPeer(peer=peer, expires_at_s=expires_at_s):
                assert self.task is not None
                assert expires_at_s == self.task.expires_at_s
                self.peers = {**self.peers, peer.id: peer}
            case DropPeer(peer=peer):
                self.peers = {name: kept for name, kept in self.peers.items() if name != peer.id}
            case DropTask():
                self.task = None

    def advance(self, to_s: float) -> None:
        """Let time pass; the store forgets what has expired."""
        self.now = to_s
        if self.task is not None and self.task.expires_at_s <= to_s:
            self.task, self.peers = None, {}

    def announce(self, name: str, **fields: Any) -> None:
        """A host says hello."""
        said: dict[str, Any] = {"ip": "10.0.0.1", "port": 4000, "disk_free_bytes": SIZE, **fields}
        host = PeerHost(id=name, updated_at_s=self.now, **said)
        self.hosts = {**self.hosts, name: host}

    def leave(self, name: str) -> list[PersistentEffect]:
        """A host is gone."""
        self.hosts = {key: host for key, host in self.hosts.items() if key != name}
        return self.handle(HostLeft(host_id=name))

    def upload_started(
        self,
        peer: str,
        host: str,
        *,
        replicas: int = 1,
        size: int = SIZE,
        ttl_s: float = 3600.0,
        url: str = "s3://b/k",
    ) -> list[PersistentEffect]:
        self.homes[peer] = host
        task = Task(
            id=TASK,
            state=TaskState.PENDING,
            persistent_replica_count=replicas,
            content_length=size,
            piece_count=PIECE_COUNT if size else 0,
            ttl_s=ttl_s,
            created_at_s=-1.0,
            updated_at_s=-1.0,
            url=url if self.kind.has_source else "",
        )
        return self.handle(UploadStarted(host_id=host, peer_id=peer, task=task))

    def upload_finished(self, peer: str, host: str = "") -> list[PersistentEffect]:
        return self.handle(UploadFinished(host_id=host or self.home(peer), peer_id=peer))

    def upload_failed(self, peer: str, host: str = "") -> list[PersistentEffect]:
        return self.handle(UploadFailed(host_id=host or self.home(peer), peer_id=peer))

    def upload(self, peer: str, host: str, **fields: Any) -> list[PersistentEffect]:
        """A whole upload; what its end brings about."""
        assert self.upload_started(peer, host, **fields) == []
        return self.upload_finished(peer)

    def home(self, peer: str) -> str:
        """The host a peer said it was on."""
        return self.homes.get(peer, "nowhere")

    def say(self, peer: str, message: PersistentMessage) -> list[PersistentEffect]:
        """A message on the peer's stream."""
        return self.handle(PeerSpoke(host_id=self.home(peer), peer_id=peer, message=message))

    def register(self, peer: str, host: str, **fields: Any) -> list[PersistentEffect]:
        self.homes[peer] = host
        return self.say(peer, Register(**fields))

    def started(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, Started())

    def finished(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, Finished())

    def failed(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, Failed())

    def at_source(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, BackToSourceStarted())

    def finished_from_source(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, BackToSourceFinished())

    def failed_from_source(self, peer: str) -> list[PersistentEffect]:
        return self.say(peer, BackToSourceFailed())

    def pieces(self, peer: str, *numbers: int) -> list[PersistentEffect]:
        return self.say(peer, PiecesFinished(numbers=numbers))

    def piece_failed(self, peer: str, parent: str, *, temporary: bool) -> list[PersistentEffect]:
        return self.say(peer, PieceFailed(parent_id=parent, temporary=temporary))

    def reschedule(self, peer: str, *parents: str) -> list[PersistentEffect]:
        return self.say(peer, Reschedule(parent_ids=parents))

    def download(self, peer: str, host: str, **fields: Any) -> None:
        """A whole download."""
        assert isinstance(self.register(peer, host, **fields)[0], Answer)
        self.started(peer)
        assert self.finished(peer) == [CloseStream()]

    def closed(self, peer: str) -> list[PersistentEffect]:
        return self.handle(StreamClosed(host_id=self.home(peer), peer_id=peer))

    def delete_peer(self, peer: str) -> list[PersistentEffect]:
        return self.handle(PeerDeleted(host_id=self.home(peer), peer_id=peer))

    def delete_task(self) -> list[PersistentEffect]:
        return self.handle(TaskDeleted())

    def kept(self, peer: str) -> list[PersistentEffect]:
        return self.handle(ReplicaKept(peer_id=peer))

    def count(self, *avoid: str) -> list[PersistentEffect]:
        """Time to count the replicas."""
        return self.handle(ReplicasWanted(avoid=frozenset(avoid)))


def check(world: PersistentWorld) -> None:
    """What is kept can be true."""
    states = [peer.state for peer in world.peers.values()]
    if world.task is None:
        assert not world.peers, "peers without a task"
        return
    assert world.task.state is not TaskState.PENDING
    assert states.count(PeerState.UPLOADING) == (world.task.state is TaskState.UPLOADING)
    if world.task.state is TaskState.SUCCEEDED and not world.kind.has_source:
        assert PeerState.SUCCEEDED in states, "a cache task that nobody holds is not there"
    for peer in world.peers.values():
        assert peer.host_id in world.hosts, f"{peer.id} is left of a host that is gone"
        assert peer.finished_pieces < 1 << world.task.piece_count


def told(effects: list[PersistentEffect]) -> list[str]:
    """Each effect in words."""
    return [_told(effect) for effect in effects]


def _told(effect: PersistentEffect) -> str:
    if isinstance(effect, Answer):
        return f"<- {_told_answer(effect)}"
    match effect:
        case AnswerTask(status=status):
            counts = status.counts
            return f"<- {status.task.state}, {counts.persistent} replicas, {counts.every} copies"
        case CloseStream(error=None):
            return "closed"
        case CloseStream(error=error) | Refuse(error=error):
            assert error is not None
            how = "refused" if isinstance(effect, Refuse) else "closed"
            return f"{how}: {error.code}: {error.detail}"
        case _:
            return _told_aside(effect)


def _told_answer(effect: Answer) -> str:
    match effect.answer:
        case Parents(peers=peers):
            return "parents " + ", ".join(f"{peer.id} ({peer.state})" for peer in peers)
        case NeedBackToSource(description=why):
            return f"back to source: {why}"
        case EmptyTask():
            return "empty"


def _told_aside(effect: PersistentEffect) -> str:
    match effect:
        case CountReplicas():
            return "its replicas are to be counted"
        case Promote(peer_id=peer_id, host=host):
            return f"{host.id} is asked to keep {peer_id}"
        case Demote(host=host):
            return f"{host.id} need not keep it any longer"
        case DownloadReplica(host=host):
            return f"{host.id} is asked to fetch it and keep it"
        case _:
            raise AssertionError(effect)
