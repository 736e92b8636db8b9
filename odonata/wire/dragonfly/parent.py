"""Parent <-> common.v2.Peer: how a scheduler names a parent, and a child names it back.

Full messages, as Dragonfly writes them: who, on which host, with what of which task, in what state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dragonfly_api import common_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from odonata.wire.dragonfly.check import FIRST_IMPOSSIBLE_LENGTH
from odonata.wire.dragonfly.host import host_from_wire, host_to_wire
from odonata.wire.message import Host, Parent, TaskFacts

# -1 in an unsigned field: see FIRST_IMPOSSIBLE_LENGTH.
UNKNOWN_CONTENT_LENGTH = 2**64 - 1


def content_length_to_wire(value: int | None) -> int:
    """Bytes; None (unknown) as Dragonfly's scheduler writes it."""
    return UNKNOWN_CONTENT_LENGTH if value is None else value


def content_length_from_wire(value: int, piece_count: int) -> int | None:
    """Bytes, or None: the sender does not know, or says 0 while there are pieces."""
    if value >= FIRST_IMPOSSIBLE_LENGTH or (value == 0 and piece_count > 0):
        return None
    return value


class _Hosts:
    """Messages of the hosts named lately: a good parent is named to hundreds of children.

    By the very object, which is kept with its message. What is given out is to be copied from.
    """

    LIMIT = 4096
    """Hosts: 2 to 8 MiB. Of more, all are forgotten; making one anew takes some 10 us."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Host, common_pb2.Host]] = {}

    def of(self, host: Host) -> common_pb2.Host:
        """The message of this host."""
        made = self._made.get(id(host))
        if made is None:
            if len(self._made) >= self.LIMIT:
                self._made.clear()
            made = self._made[id(host)] = (host, host_to_wire(host))
        return made[1]


_HOSTS: Final = _Hosts()
_NO_TIME: Final = Timestamp()
_NO_COST: Final = Duration()


def parent_to_wire(parent: Parent) -> common_pb2.Peer:
    """A full Peer. Cost and times are set, if only to zero: Dragonfly refuses one without."""
    task = parent.task
    return common_pb2.Peer(
        id=parent.peer_id,
        host=_HOSTS.of(parent.host),
        state=parent.state,
        task=common_pb2.Task(
            id=task.id,
            url=task.url,
            content_length=content_length_to_wire(task.content_length),
            piece_count=task.piece_count,
            state=parent.state,
            created_at=_NO_TIME,
            updated_at=_NO_TIME,
        ),
        pieces=[common_pb2.Piece(number=number) for number in parent.finished_pieces],
        cost=_NO_COST,
        created_at=_NO_TIME,
        updated_at=_NO_TIME,
    )


def parent_from_wire(message: common_pb2.Peer) -> Parent:
    """Read a candidate parent. Without a Task in it, nothing is known of the content."""
    task = message.task
    length = (
        content_length_from_wire(task.content_length, task.piece_count)
        if message.HasField("task")
        else None
    )
    return Parent(
        peer_id=message.id,
        host=host_from_wire(message.host),
        state=message.state,
        task=TaskFacts(
            id=task.id, url=task.url, content_length=length, piece_count=task.piece_count
        ),
        finished_pieces=tuple(piece.number for piece in message.pieces),
    )


def parents_to_wire(parents: Iterable[Parent]) -> list[common_pb2.Peer]:
    """`parent_to_wire` for each, in order."""
    return [parent_to_wire(parent) for parent in parents]
