"""How each kind of task speaks to its scheduler: which stream, and which messages on it.

`peer.runtime.conversation` keeps the order; here is only what a message looks like. One object for
one conversation: it remembers the parents that were named, since a scheduler of Dragonfly's wants
them back in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from odonata.wire.dragonfly import PeerRequest, add_finished, answer_from_wire, request_to_wire
from odonata.wire.dragonfly.persistent import (
    named,
    persistent_answer_from_wire,
    persistent_request_to_wire,
)
from odonata.wire.message import NormalTask, Parent, PieceFinished, SchedulerAnswer, TaskType

Metadata = tuple[tuple[str, str], ...]


class Announce(Protocol):
    """One announce stream's words."""

    def open(self, stub: Any, metadata: Metadata) -> Any:
        """The call (the stubs carry no types)."""
        ...

    def write(self, request: PeerRequest, others: Sequence[PieceFinished] = ()) -> Any:
        """The message for `request`; one of a piece may report `others` as well."""
        ...

    def read(self, response: Any) -> SchedulerAnswer:
        """The answer in `response`. Raises ProtocolError."""
        ...


class StandardAnnounce:
    """AnnouncePeer."""

    def __init__(self) -> None:
        self._parents: dict[str, Parent] = {}

    def open(self, stub: Any, metadata: Metadata) -> Any:
        """See `Announce.open`."""
        return stub.AnnouncePeer(metadata=metadata)

    def write(self, request: PeerRequest, others: Sequence[PieceFinished] = ()) -> Any:
        """See `Announce.write`."""
        message = request_to_wire(request, self._parents)
        if others:
            add_finished(message, others)
        return message

    def read(self, response: Any) -> SchedulerAnswer:
        """See `Announce.read`."""
        answer = answer_from_wire(response)
        if isinstance(answer, NormalTask):
            self._parents.update((parent.peer_id, parent) for parent in answer.parents)
        return answer


class PersistentAnnounce:
    """AnnouncePersistentPeer or AnnouncePersistentCachePeer."""

    def __init__(self, kind: TaskType) -> None:
        self._kind = kind
        self._peers: dict[str, Any] = {}

    def open(self, stub: Any, metadata: Metadata) -> Any:
        """See `Announce.open`."""
        return getattr(stub, named(self._kind, "Announce{}Peer"))(metadata=metadata)

    def write(self, request: PeerRequest, others: Sequence[PieceFinished] = ()) -> Any:
        """See `Announce.write`; there are no `others`."""
        assert not others, "no scheduler takes them of this kind of task"
        return persistent_request_to_wire(self._kind, request, self._peers)

    def read(self, response: Any) -> SchedulerAnswer:
        """See `Announce.read`."""
        answer, peers = persistent_answer_from_wire(self._kind, response)
        self._peers.update((peer.id, peer) for peer in peers)
        return answer


def announce_of(kind: TaskType) -> Announce:
    """The words of a new conversation about a task of `kind`."""
    return StandardAnnounce() if kind is TaskType.STANDARD else PersistentAnnounce(kind)
