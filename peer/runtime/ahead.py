"""A question to a seed that no scheduler has named yet: for the piece and the facts of one content.

On links that are full each question waits in two queues. A short content takes two of them, one
after the other: who has it, and may I have it. A seed that was met before probably has it, too, so
it is asked at the same time as the scheduler. What it sends lies in the socket until the scheduler
has answered: nothing is read, checked or stored before, and nothing at all if somebody else
becomes the parent. Of a content that is not short, or not there, it says so, and that is all.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from dragonfly_api import dfdaemon_pb2

from odonata.errors import OdonataError
from odonata.grpc_stub import upload_stub
from odonata.tracing.span import carried
from odonata.wire.dragonfly import LocalTask, local_task_from_wire
from peer.runtime.known_address import MetSeed
from peer.runtime.port import AheadAsker, AheadPiece
from peer.runtime.run_tools import RunPlace

STAT_S: Final = 5.0
"""Longest wait for a parent's facts. Dragonfly's clients give a connection 3 s; a loaded host gets
a little more before it counts as gone."""

ASK_S: Final = 5.0
"""Longest wait for the head of a piece that was asked for ahead, for the same reason."""

_log = structlog.get_logger(__name__)


async def facts_of(stub: Any, task_id: str) -> LocalTask:  # the stubs carry no types
    """What a daemon says of a task. Errors: grpc.aio.AioRpcError."""
    request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
    return local_task_from_wire(
        await stub.StatLocalTask(request, timeout=STAT_S, metadata=carried())
    )


class Ahead:
    """One for a download at most. What it holds ends with the download, or with who takes it."""

    def __init__(self, seed: MetSeed, place: RunPlace, asker: AheadAsker) -> None:
        self.host_id = seed.host_id
        self._seed = seed
        self._place = place
        self._asker = asker
        loop = asyncio.get_running_loop()
        self._facts: asyncio.Future[LocalTask | None] = loop.create_future()
        self._piece: asyncio.Future[AheadPiece | None] = loop.create_future()
        self._taken = asyncio.Event()

    def begin(self) -> None:
        """Ask; both at once."""
        self._place.start("piece ahead", self._ask_piece())
        self._place.start("facts ahead", self._ask_facts())

    async def facts(self) -> LocalTask | None:
        """What the seed says of the content; None: nothing that is of use."""
        return await asyncio.shield(self._facts)

    async def take_piece(self, timeout_s: float) -> AheadPiece | None:
        """Once; the caller owns it. None: it must be asked for in the usual way.

        Errors: TimeoutError.
        """
        async with asyncio.timeout(timeout_s):
            piece = await asyncio.shield(self._piece)
        if piece is None or self._taken.is_set():
            return None
        self._taken.set()
        return piece

    async def _ask_piece(self) -> None:
        piece = None
        try:
            piece = await self._asked()
        finally:
            if not self._piece.done():
                self._piece.set_result(piece)
        if piece is None:
            return
        try:
            await self._taken.wait()
        finally:
            if not self._taken.is_set():
                piece.close()

    async def _asked(self) -> AheadPiece | None:
        place = self._seed.place
        try:
            return await self._asker.ask_ahead(
                place.ip,
                place.port,
                self._place.task.task_id,
                features=place.features,
                timeout_s=ASK_S,
            )
        except (OdonataError, OSError) as error:  # it is asked once more if it becomes a parent
            _log.debug("not_asked_ahead", host_id=self.host_id, error=str(error))
            self._place.tools.known.forget(self._seed.target)
            return None

    async def _ask_facts(self) -> None:
        facts = None
        try:
            async with self._place.tools.parents.use(self._seed.target) as channel:
                facts = await facts_of(upload_stub(channel), self._place.task.task_id)
        except (grpc.aio.AioRpcError, OdonataError) as error:  # most often it has no such task
            _log.debug("no_facts_ahead", host_id=self.host_id, error=str(error))
        finally:
            if not self._facts.done():
                has_length = facts is not None and facts.content_length is not None
                self._facts.set_result(facts if has_length else None)
