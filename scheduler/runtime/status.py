"""What the core tells of tasks, peers and hosts -> the answers of StatTask, StatPeer, ListHosts.

Times: the core's clock starts anywhere; `WallClock` turns its seconds into the time of day.
"""

from __future__ import annotations

import time
from typing import Final

from dragonfly_api import common_pb2
from google.protobuf.duration_pb2 import Duration

from odonata.wire.dragonfly import (
    content_length_to_wire,
    host_to_wire,
    range_to_wire,
    timestamp_to_wire,
)
from odonata.wire.message import TaskFacts, TaskType
from scheduler.core.query import HostStatus, PeerStatus, TaskStatus

# Dragonfly's size scopes: nothing, at most 128 bytes, one piece, more.
_TINY_BYTES = 128

_PRIORITIES: Final = (
    common_pb2.LEVEL0,
    common_pb2.LEVEL1,
    common_pb2.LEVEL2,
    common_pb2.LEVEL3,
    common_pb2.LEVEL4,
    common_pb2.LEVEL5,
    common_pb2.LEVEL6,
)
_TASK_TYPES: Final = {
    TaskType.STANDARD: common_pb2.STANDARD,
    TaskType.PERSISTENT: common_pb2.PERSISTENT,
    TaskType.PERSISTENT_CACHE: common_pb2.PERSISTENT_CACHE,
    TaskType.CACHE: common_pb2.CACHE,
}


class WallClock:
    """Turns seconds of the core's clock into seconds since 1970. `now` is that clock's present."""

    def __init__(self, now: float) -> None:
        self._offset_s = time.time() - now

    def at(self, core_s: float) -> float:
        """Seconds since 1970 of the moment `core_s`."""
        return core_s + self._offset_s


def task_to_wire(task: TaskStatus, clock: WallClock) -> common_pb2.Task:
    """StatTask's answer. Request headers are not in it: they hold tokens."""
    return common_pb2.Task(
        id=task.id,
        type=_TASK_TYPES[task.type],
        url=task.url,
        digest=task.digest,
        tag=task.tag,
        application=task.application,
        filtered_query_params=task.filtered_query_params,
        content_length=content_length_to_wire(task.content_length),
        piece_count=task.piece_count,
        size_scope=_size_scope(task.content_length, task.piece_count),
        state=task.state,
        peer_count=task.peer_count,
        has_available_peer=task.has_available_peer,
        created_at=timestamp_to_wire(clock.at(task.created_at_s)),
        updated_at=timestamp_to_wire(clock.at(task.updated_at_s)),
    )


def peer_to_wire(peer: PeerStatus, clock: WallClock) -> common_pb2.Peer:
    """StatPeer's answer."""
    return common_pb2.Peer(
        id=peer.id,
        range=None if peer.range is None else range_to_wire(peer.range),
        priority=_PRIORITIES[peer.priority],
        pieces=[common_pb2.Piece(number=number) for number in peer.finished_pieces],
        cost=Duration(),
        state=peer.state,
        task=_facts_to_wire(peer.task),
        host=host_to_wire(peer.host),
        created_at=timestamp_to_wire(clock.at(peer.created_at_s)),
        updated_at=timestamp_to_wire(clock.at(peer.updated_at_s)),
        concurrent_piece_count=peer.concurrent_piece_count,
    )


def host_status_to_wire(status: HostStatus) -> common_pb2.Host:
    """One host of ListHosts: all it said of itself."""
    return host_to_wire(status.host)


def _facts_to_wire(task: TaskFacts) -> common_pb2.Task:
    return common_pb2.Task(
        id=task.id,
        url=task.url,
        content_length=content_length_to_wire(task.content_length),
        piece_count=task.piece_count,
        size_scope=_size_scope(task.content_length, task.piece_count),
    )


def _size_scope(content_length: int | None, piece_count: int) -> common_pb2.SizeScope:
    if content_length == 0:
        return common_pb2.EMPTY
    if content_length is not None and content_length <= _TINY_BYTES:
        return common_pb2.TINY
    return common_pb2.SMALL if piece_count == 1 else common_pb2.NORMAL
