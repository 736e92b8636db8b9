"""What `odonata cache` and `odonata store` ask of the daemon of this host.

A client of the daemon's unix socket: the daemon reads and writes the files, nothing is moved here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from odonata import ids
from odonata.client.endpoint import check_endpoint, explain
from odonata.client.tally import Tally
from odonata.grpc_client import REQUEST_TIMEOUT_S, open_channel
from odonata.grpc_stub import download_stub, upload_stub
from odonata.wire.dragonfly import PieceArrived, TaskStarted, duration_to_wire
from odonata.wire.dragonfly.origin import object_storage_to_wire
from odonata.wire.dragonfly.persistent import (
    LocalCopy,
    PersistentFacts,
    dfdaemon_message,
    facts_from_wire,
    local_copy_from_wire,
    named,
    persistent_step_from_wire,
)
from odonata.wire.message import TaskType, Value
from odonata.wire.origin import ObjectStorage
from peer.get_progress import Display

_Call: TypeAlias = Callable[[Any], Any]  # grpc's stubs ship without types


class ImportWish(Value, frozen=True, kw_only=True):
    """A file to import. Bytes and seconds; what is None follows the daemon's rules."""

    path: Path
    replica_count: int
    ttl_s: float
    timeout_s: float | None = None
    tag: str | None = None
    application: str | None = None
    piece_length: int | None = None
    content_for_calculating_task_id: str | None = None


class ExportWish(Value, frozen=True, kw_only=True):
    """Where a content is to go."""

    output: Path
    digest: str | None = None
    overwrite: bool = False
    force_hard_link: bool = False
    timeout_s: float | None = None


class DaemonClient:
    """The daemon at `endpoint`, asked about tasks of `kind`. Every call raises OdonataError."""

    def __init__(self, endpoint: Path, kind: TaskType) -> None:
        self._endpoint = endpoint
        self._kind = kind

    async def import_cache(self, wish: ImportWish) -> PersistentFacts:
        """Have a file imported as a persistent cache task."""
        given = ("tag", "application", "piece_length", "content_for_calculating_task_id")
        fields = {name: value for name in given if (value := getattr(wish, name)) is not None}
        return await self._import(wish, fields)

    async def import_stored(
        self, wish: ImportWish, url: str, storage: ObjectStorage
    ) -> PersistentFacts:
        """Have a file written to `url` and imported as a persistent task."""
        return await self._import(
            wish, {"url": url, "object_storage": object_storage_to_wire(storage)}
        )

    async def _import(self, wish: ImportWish, fields: dict[str, Any]) -> PersistentFacts:
        request = dfdaemon_message(
            self._kind,
            "Upload{}TaskRequest",
            path=str(wish.path.absolute()),
            persistent_replica_count=wish.replica_count,
            ttl=duration_to_wire(wish.ttl_s),
            **fields,
        )
        if wish.timeout_s is not None:
            request.timeout.CopyFrom(duration_to_wire(wish.timeout_s))
        async with self._stub() as stub:
            return facts_from_wire(await self._rpc(stub, "Upload{}Task")(request))

    async def export_cache(self, task_id: str, wish: ExportWish, display: Display) -> None:
        """Have the content of a persistent cache task written to a file."""
        await self._export({"task_id": task_id}, wish, display)

    async def export_stored(
        self, url: str, storage: ObjectStorage, wish: ExportWish, display: Display
    ) -> None:
        """Have the content of a persistent task written to a file."""
        fields = {"url": url, "object_storage": object_storage_to_wire(storage)}
        await self._export(fields, wish, display)

    async def _export(self, fields: dict[str, Any], wish: ExportWish, display: Display) -> None:
        request = dfdaemon_message(
            self._kind,
            "Download{}TaskRequest",
            output_path=str(wish.output.absolute()),
            overwrite=wish.overwrite,
            force_hard_link=wish.force_hard_link,
            **fields,
        )
        if wish.digest is not None:
            request.digest = wish.digest
        if wish.timeout_s is not None:
            request.timeout.CopyFrom(duration_to_wire(wish.timeout_s))
        tally = Tally()
        async with self._stub() as stub:
            async for response in self._rpc(stub, "Download{}Task")(request):
                step = persistent_step_from_wire(self._kind, response)
                if isinstance(step, PieceArrived):
                    tally.add(step.piece)
                else:
                    tally.start(TaskStarted(content_length=step))
                display.told(tally.progress)
        display.done(str(wish.output.absolute()))

    async def stat(self, task_id: str) -> PersistentFacts:
        """What the task's scheduler knows."""
        async with self._stub() as stub:
            request = dfdaemon_message(self._kind, "Stat{}TaskRequest", task_id=task_id)
            call = self._rpc(stub, "Stat{}Task")(request, timeout=2 * REQUEST_TIMEOUT_S)
            return facts_from_wire(await call)

    async def list_local(self) -> list[LocalCopy]:
        """The tasks on this host."""
        async with self._stub() as stub:
            request = dfdaemon_message(self._kind, "ListLocal{}TasksRequest")
            answer = await self._rpc(stub, "ListLocal{}Tasks")(request, timeout=REQUEST_TIMEOUT_S)
            return [local_copy_from_wire(task) for task in answer.tasks]

    async def remove(self, task_id: str) -> None:
        """Remove a task from this host, and have the swarm forget it."""
        async with self._stub(upload_stub) as stub:
            request = dfdaemon_message(self._kind, "Delete{}TaskRequest", task_id=task_id)
            await self._rpc(stub, "Delete{}Task")(request, timeout=2 * REQUEST_TIMEOUT_S)

    def _rpc(self, stub: Any, pattern: str) -> Any:
        return getattr(stub, named(self._kind, pattern))

    @asynccontextmanager
    async def _stub(self, make: _Call = download_stub) -> AsyncGenerator[Any]:
        check_endpoint(self._endpoint)
        async with open_channel(f"unix:{self._endpoint}") as channel:
            try:
                yield make(channel)
            except grpc.aio.AioRpcError as failure:
                raise explain(failure, self._endpoint) from failure


def stored_task_id(url: str, storage: ObjectStorage) -> str:
    """The id of what lies at `url`."""
    return ids.persistent_task_id(url, region=storage.region, endpoint=storage.endpoint)
