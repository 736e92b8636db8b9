"""What a peer asks its scheduler about persistent tasks besides downloading them.

Each call goes to the scheduler that the hash ring names for the task. Errors: the scheduler's own
(NotFoundError, PreconditionError if it has no Redis, AlreadyExistsError, CallerError), and
UnavailableError if none answers. Nothing is tried twice here but the end of an upload.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio
from dragonfly_api import common_pb2

from odonata.errors import NotFoundError, OdonataError, UnavailableError, is_retryable
from odonata.grpc_client import REQUEST_TIMEOUT_S, closing_is_unavailable
from odonata.grpc_status import error_of
from odonata.grpc_stub import scheduler_stub
from odonata.tracing.span import carried
from odonata.wire.dragonfly import duration_to_wire
from odonata.wire.dragonfly.persistent import (
    PersistentTaskMessage,
    named,
    scheduler_message,
    without_secrets,
)
from odonata.wire.message import TaskType, Value
from peer.runtime.scheduler_link import SchedulerLink

FINISH_TRIES: Final = 4
"""Of telling the end of an upload. The copy is whole by then, and the word is said again as it
was: a scheduler that heard it already answers the same."""
FINISH_PAUSE_S: Final = 0.5
"""Before the second one; doubles. Four tries outlast a scheduler's restart on an idle machine."""


class Upload(Value, frozen=True, kw_only=True):
    """What the scheduler is told when an upload begins. Bytes and seconds.

    `url` and `storage` are a persistent task's, the others but `piece_count` a cache task's.
    """

    task_id: str
    peer_id: str
    replica_count: int
    content_length: int
    piece_count: int
    piece_length: int
    ttl_s: float
    tag: str | None = None
    application: str | None = None
    url: str = ""
    storage: bytes = b""
    """An ObjectStorage message, serialised. Never logged."""


class SchedulerCalls:
    """The calls about tasks of one kind."""

    def __init__(self, link: SchedulerLink, kind: TaskType, host_id: str) -> None:
        self._link = link
        self._kind = kind
        self._host_id = host_id

    async def stat(self, task_id: str) -> PersistentTaskMessage:
        """What is known of a task."""
        answer: PersistentTaskMessage = await self._call("Stat{}Task", task_id)
        return answer

    async def delete(self, task_id: str) -> None:
        """Have the task forgotten, for all."""
        await self._call("Delete{}Task", task_id)

    async def forget_copy(self, task_id: str, peer_id: str) -> None:
        """Say that the copy that `peer_id` made is not here any more."""
        await self._call("Delete{}Peer", task_id, peer_id=peer_id)

    async def knows(self, task_id: str, peer_id: str) -> bool:
        """Whether it knows of the copy of `peer_id`."""
        try:
            await self._call("Stat{}Peer", task_id, peer_id=peer_id)
        except NotFoundError:
            return False
        return True

    async def upload_started(self, upload: Upload) -> None:
        """Say that this host makes the first copy."""
        fields: dict[str, Any] = {
            "peer_id": upload.peer_id,
            "persistent_replica_count": upload.replica_count,
            "content_length": upload.content_length,
            "piece_count": upload.piece_count,
            "ttl": duration_to_wire(upload.ttl_s),
        }
        if self._kind is TaskType.PERSISTENT:
            storage = common_pb2.ObjectStorage()
            storage.ParseFromString(upload.storage)
            fields |= {"url": upload.url, "object_storage": without_secrets(storage)}
        else:
            fields |= {"piece_length": upload.piece_length}
            given = {"tag": upload.tag, "application": upload.application}
            fields |= {name: value for name, value in given.items() if value}
        await self._call("Upload{}TaskStarted", upload.task_id, **fields)

    async def upload_finished(self, task_id: str, peer_id: str) -> PersistentTaskMessage:
        """Say that the first copy is whole; returns the task."""
        pause_s = FINISH_PAUSE_S
        for _ in range(FINISH_TRIES - 1):
            try:
                return await self._finish(task_id, peer_id)
            except OdonataError as error:
                if not is_retryable(error):
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await self._finish(task_id, peer_id)

    async def _finish(self, task_id: str, peer_id: str) -> PersistentTaskMessage:
        answer: PersistentTaskMessage = await self._call(
            "Upload{}TaskFinished", task_id, peer_id=peer_id
        )
        return answer

    async def upload_failed(self, task_id: str, peer_id: str, description: str) -> None:
        """Say that the first copy was not made."""
        await self._call("Upload{}TaskFailed", task_id, peer_id=peer_id, description=description)

    async def _call(self, rpc: str, task_id: str, **fields: Any) -> Any:  # stubs without types
        scheduler = self._link.of_task(task_id)
        if scheduler is None:
            raise UnavailableError(
                "no scheduler answers: persistent tasks need one; set scheduler.addrs, or start it"
            )
        request = scheduler_message(
            self._kind, f"{rpc}Request", host_id=self._host_id, task_id=task_id, **fields
        )
        call = getattr(scheduler_stub(scheduler.channel), named(self._kind, rpc))
        whom = f"scheduler {scheduler.address}"
        try:
            with closing_is_unavailable(whom):
                return await call(request, timeout=REQUEST_TIMEOUT_S, metadata=carried())
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, whom) from failure
