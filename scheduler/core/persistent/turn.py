"""One event's worth of work on one task: the snapshot as it changes, and the effects gathered.

Every part of this package that handles events is a set of functions over a `Turn`. It decides
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from odonata.errors import NotFoundError, OdonataError
from scheduler.core.persistent.effect import (
    CloseStream,
    DropPeer,
    DropTask,
    PersistentEffect,
    PutPeer,
    PutTask,
    Refuse,
)
from scheduler.core.persistent.lifecycle import (
    PeerState,
    PeerTrigger,
    TaskTrigger,
    next_peer_state,
    next_task_state,
)
from scheduler.core.persistent.state import Kind, Peer, PeerHost, Task

if TYPE_CHECKING:
    from random import Random


@dataclass(slots=True, kw_only=True)
class Turn:
    """`now`: seconds since 1970. `task` is None if there is none, or its time is over."""

    kind: Kind
    task_id: str
    task: Task | None
    peers: dict[str, Peer]
    hosts: dict[str, PeerHost]
    taken_by: str
    now: float
    rng: Random
    parent_limit: int
    effects: list[PersistentEffect] = field(default_factory=list[PersistentEffect])

    def need_task(self) -> Task:
        """The task; NotFoundError if there is none."""
        if self.task is None:
            raise NotFoundError(
                f"{self.kind} task {self.task_id} not found: it was never uploaded, was deleted, or"
                " its time to live is over"
            )
        return self.task

    def need_host(self, host_id: str) -> PeerHost:
        """The host; NotFoundError if it never announced itself."""
        host = self.hosts.get(host_id)
        if host is None:
            raise NotFoundError(
                f"host {host_id} not found: announce it before it takes part in {self.kind} tasks"
            )
        return host

    def put_task(self, task: Task) -> None:
        """Write the task."""
        self.task = task
        self.effects.append(PutTask(task=task))

    def put_peer(self, peer: Peer) -> None:
        """Write a peer of the task."""
        peer = replace(peer, updated_at_s=self.now)
        self.peers[peer.id] = peer
        self.effects.append(PutPeer(peer=peer, expires_at_s=self.need_task().expires_at_s))

    def drop_peer(self, peer: Peer) -> None:
        """Forget a peer."""
        del self.peers[peer.id]
        self.effects.append(DropPeer(peer=peer))

    def drop_all(self) -> None:
        """Forget the task and its peers."""
        for peer in tuple(self.peers.values()):
            self.drop_peer(peer)
        self.task = None
        self.effects.append(DropTask(task_id=self.task_id))

    def move_task(self, trigger: TaskTrigger) -> None:
        """Move the task along; IllegalTransitionError if it can't."""
        task = self.need_task()
        state = next_task_state(task.state, trigger, task.id)
        self.put_task(replace(task, state=state, updated_at_s=self.now))

    def move_peer(self, peer: Peer, trigger: PeerTrigger) -> Peer:
        """Move a peer along; IllegalTransitionError if it can't. Returns it as it is now."""
        state = next_peer_state(peer.state, trigger, peer.id)
        cost_s = peer.cost_s
        if state is PeerState.SUCCEEDED:
            cost_s = max(0.0, self.now - peer.created_at_s)
        self.put_peer(replace(peer, state=state, cost_s=cost_s))
        return self.peers[peer.id]

    def refuse(self, error: OdonataError) -> None:
        """Tell the event's caller that it can't be granted."""
        self.effects.append(Refuse(error=error))

    def close(self, error: OdonataError | None = None) -> None:
        """End the stream the event came from."""
        self.effects.append(CloseStream(error=error))
