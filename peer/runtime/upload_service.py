"""dfdaemon.v2.DfdaemonUpload: what schedulers and other peers ask of this host.

Pieces themselves travel by Vortex; here is who holds what, how busy the uplink is, and the
scheduler's order to fetch something. `TaskService` is a part of it, too, and persistent tasks are
served by `peer.runtime.persistent`.
What is not served (cache tasks) is answered UNIMPLEMENTED by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly import (
    HeldPiece,
    download_request_from_wire,
    held_piece_to_wire,
    local_task_to_wire,
    require_id,
    wanted_pieces_from_wire,
)
from odonata.wire.dragonfly.feature import (
    TAKES_COMING,
    TAKES_PIECE_LISTS,
    UNSIZED_STARTED,
    features_in,
    share_in,
)
from odonata.wire.dragonfly.piece_list import PIECES_MAX, add_pieces, say_coming
from odonata.wire.message import Piece
from peer.core.patience import load_pauses_s
from peer.runtime.host_info import HostReporter
from peer.runtime.hub import Hub
from peer.runtime.local_task import stat_task
from peer.runtime.task_admin import TaskAdmin
from peer.runtime.task_stream import TaskStream

LOAD_INTERVAL_S: Final = 1.0
"""How often a parent tells its load (Dragonfly's rhythm); who has just come hears it sooner."""


class UploadService:
    """The rpcs, by their names. Errors are raised; the server turns them into statuses."""

    def __init__(
        self,
        hub: Hub,
        reporter: HostReporter,
        admin: TaskAdmin,
        *,
        load_interval_s: float = LOAD_INTERVAL_S,
    ) -> None:
        self._hub = hub
        self._reporter = reporter
        self._stream = TaskStream(hub, admin, reporter.facts.id)
        self._load_interval_s = load_interval_s

    async def DownloadTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Any
    ) -> None:
        """A scheduler's order. It goes on when the scheduler hangs up: children wait for it."""
        download = download_request_from_wire(request)
        # Who is not on this host has no business with its files, and takes pieces by Vortex.
        here = msgspec.structs.replace(
            download,
            output_path=None,
            need_piece_content=False,
            source_share=share_in(context.invocation_metadata()),
        )
        features = features_in(context.invocation_metadata()) & {UNSIZED_STARTED}
        await self._stream.serve(here, context, linger=True, features=features)

    async def SyncPieces(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.SyncPiecesRequest, context: Any
    ) -> AsyncGenerator[dfdaemon_pb2.SyncPiecesResponse]:
        """Each wanted piece as it lands; ends when all were named, or no more will come."""
        wanted = wanted_pieces_from_wire(request)
        able = features_in(context.invocation_metadata())
        size = PIECES_MAX if TAKES_PIECE_LISTS in able else 1
        numbers, with_coming = frozenset(wanted.numbers), TAKES_COMING in able
        offers = self._hub.offers(wanted.task_id, numbers, with_coming=with_coming)
        async for offer in offers:
            for start in range(0, len(offer.pieces), size):
                message = self._offer(offer.pieces[start : start + size])
                if offer.is_coming:
                    say_coming(message)
                yield message

    def _offer(self, pieces: tuple[Piece, ...]) -> dfdaemon_pb2.SyncPiecesResponse:
        first, *others = pieces
        facts = self._reporter.facts
        held = HeldPiece(
            number=first.number,
            offset=first.offset,
            length=first.length,
            ip=facts.ip,
            tcp_port=facts.tcp_port,
        )
        message = held_piece_to_wire(held)
        add_pieces(message, others)
        return message

    async def SyncHost(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.SyncHostRequest, _context: Any
    ) -> AsyncGenerator[common_pb2.Host]:
        """Who this host is and what its uplink carries, over and over."""
        require_id("host_id", request.host_id)
        for pause_s in load_pauses_s(self._load_interval_s):
            yield self._reporter.brief()
            await asyncio.sleep(pause_s)

    async def StatLocalTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.StatLocalTaskRequest, _context: Any
    ) -> dfdaemon_pb2.StatLocalTaskResponse:
        task_id = require_id("task_id", request.task_id)
        told = stat_task(self._hub.storage, task_id)
        # From where this host has its files is nobody else's business.
        return local_task_to_wire(msgspec.structs.replace(told, url=""))
