"""Parent <-> common.v2.Peer: how a scheduler names a parent, and a child names it back.

Full messages, as Dragonfly writes them: who, on which host, with what of which task, in what state.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
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


def parent_to_wire(parent: Parent) -> common_pb2.Peer:
    """A full Peer. Cost and times are set, if only to zero: Dragonfly refuses one without."""
    message = common_pb2.Peer()
    lay_parents((message,), (parent,))
    return message


def lay_parents(messages: Iterable[common_pb2.Peer], parents: Iterable[Parent]) -> None:
    """Write each parent into an empty Peer.

    The parts are serialised and merged: setting a submessage, or a list of them, costs protobuf
    tens of microseconds, and reading all of it at once costs one.
    """
    tasks: dict[tuple[int, str], bytes] = {}  # as a rule the parents of an answer are of one
    for message, parent in zip(messages, parents, strict=True):
        message.id, message.state = parent.peer_id, parent.state
        known = id(parent.task), parent.state
        task = tasks.get(known)
        if task is None:
            task = tasks[known] = _task_part(parent.task, parent.state)
        pieces = b"".join(map(_piece_part, parent.finished_pieces))
        message.MergeFromString(_HOSTS.part(parent.host) + task + _NO_TIMES + pieces)


class _Hosts:
    """Peers that hold a host and nothing else, serialised, of the hosts named lately.

    A good parent is named to hundreds of children. By the very object, which is kept with it.
    """

    LIMIT = 4096
    """Hosts: 4 to 8 MiB. Of more, all are forgotten; making one anew takes some 10 us."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Host, bytes]] = {}

    def part(self, host: Host) -> bytes:
        """What of a Peer is this host."""
        made = self._made.get(id(host))
        if made is None:
            if len(self._made) >= self.LIMIT:
                self._made.clear()
            part = common_pb2.Peer(host=host_to_wire(host)).SerializeToString()
            made = self._made[id(host)] = (host, part)
        return made[1]


_HOSTS: Final = _Hosts()
_NO_TIMES: Final = common_pb2.Peer(
    cost=Duration(), created_at=Timestamp(), updated_at=Timestamp()
).SerializeToString()


def _task_part(task: TaskFacts, state: str) -> bytes:
    message = common_pb2.Task(
        id=task.id,
        url=task.url,
        content_length=content_length_to_wire(task.content_length),
        piece_count=task.piece_count,
        state=state,
        created_at=Timestamp(),
        updated_at=Timestamp(),
    )
    return common_pb2.Peer(task=message).SerializeToString()


@lru_cache(maxsize=16_384)  # pieces of 64 GiB in the usual length; 2 MiB
def _piece_part(number: int) -> bytes:
    return common_pb2.Peer(pieces=[common_pb2.Piece(number=number)]).SerializeToString()


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
