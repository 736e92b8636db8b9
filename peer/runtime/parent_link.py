"""What a download keeps with one parent: its facts, the list of its pieces, its load.

Three calls of DfdaemonUpload: StatLocalTask once (and when asked again), SyncPieces and SyncHost as
streams without a deadline. A persistent task has a SyncPieces of its own, and no StatLocalTask: its
facts come from the scheduler. It reports as events and decides nothing. Pieces themselves are
fetched elsewhere; `address` says where.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.errors import ProtocolError
from odonata.grpc_client import target_of
from odonata.grpc_stub import upload_stub
from odonata.tracing.span import carried
from odonata.wire.dragonfly import (
    LocalTask,
    WantedPieces,
    held_piece_from_wire,
    wanted_pieces_to_wire,
)
from odonata.wire.dragonfly.feature import (
    FEATURES_KEY,
    TAKES_COMING,
    TAKES_PIECE_LISTS,
    features_in,
)
from odonata.wire.dragonfly.persistent import named, persistent_wanted_to_wire
from odonata.wire.dragonfly.piece_list import added_pieces, is_coming
from odonata.wire.message import Host, Parent, Piece, TaskType
from peer.core.event import (
    ParentConnected,
    ParentEnded,
    ParentHolds,
    ParentLoad,
    ParentReceives,
)
from peer.runtime.ahead import Ahead, facts_of
from peer.runtime.known_address import ServedAt
from peer.runtime.run_tools import RunPlace

TAKES_LISTS: Final = (FEATURES_KEY, f"{TAKES_PIECE_LISTS},{TAKES_COMING}")

_BITS: Final = 8
# Not an error of the link: the parent has not begun yet, or is a program that can't say.
_KNOWS_NOTHING: Final = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED})


class ParentLink:
    """One parent of one download. `follow` runs until its streams are over, or cancelled."""

    def __init__(self, parent: Parent, place: RunPlace, ahead: Ahead | None = None) -> None:
        """`ahead`: its facts have been asked for already."""
        self._parent = parent
        self._ahead = ahead
        self._task_id = place.task.task_id
        self._kind = place.task.kind
        self._host_id = place.tools.facts.id
        self._peer_id = place.peer_id
        self._pool = place.tools.parents
        self._tell = place.tell
        self.target = target_of(parent.host.ip, parent.host.port)
        self._known = place.tools.known
        self.address: tuple[str, int] | None = None
        """Where its pieces are served (Vortex over TCP); None until it offered one."""
        self.features: frozenset[str] = frozenset()
        """What it said it can beyond Dragonfly's API; nothing, if it is not ours."""
        self.told_where = asyncio.Event()
        """It has offered one, or its list is at its end."""
        self._has_told_all = False

    @property
    def host(self) -> Host:
        """Who it is, as the scheduler says."""
        return self._parent.host

    async def follow(self, interested: tuple[int, ...]) -> None:
        """Connect, then report what it holds and how busy it is."""
        try:
            await self._follow(interested)
        finally:
            self.told_where.set()

    async def _follow(self, interested: tuple[int, ...]) -> None:
        self._has_told_all = False
        async with self._pool.use(self.target) as channel, asyncio.TaskGroup() as group:
            stub = upload_stub(channel)
            wanted = WantedPieces(host_id=self._host_id, task_id=self._task_id, numbers=interested)
            pieces = self._sync_pieces(stub, wanted)  # on its way while we ask
            try:
                if await self._stat(stub):
                    load = group.create_task(self._follow_load(stub))
                    if not await self._follow_pieces(pieces):
                        load.cancel()  # else it goes on: there are pieces left to fetch
            finally:
                pieces.cancel()

    async def ask_meta(self) -> None:
        """Ask for its facts again."""
        async with self._pool.use(self.target) as channel:
            await self._stat(upload_stub(channel))

    def _sync_pieces(self, stub: Any, wanted: WantedPieces) -> Any:  # the stubs carry no types
        if self._kind is TaskType.STANDARD:
            metadata = (*carried(), TAKES_LISTS)
            return stub.SyncPieces(wanted_pieces_to_wire(wanted), metadata=metadata)
        request = persistent_wanted_to_wire(self._kind, wanted)
        return getattr(stub, named(self._kind, "Sync{}Pieces"))(request, metadata=carried())

    async def _stat(self, stub: Any) -> bool:
        if self._kind is not TaskType.STANDARD:
            await self._tell(ParentConnected(peer_id=self._parent.peer_id))
            return True
        try:
            facts = await self._facts_ahead() or await facts_of(stub, self._task_id)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _KNOWS_NOTHING:
                await self._tell(self._ended(error))
                return False
            await self._tell(ParentConnected(peer_id=self._parent.peer_id))
            return True
        await self._tell(
            ParentConnected(
                peer_id=self._parent.peer_id,
                content_length=facts.content_length,
                piece_length=facts.piece_length or None,
                response_header=facts.response_header,
            )
        )
        return True

    async def _facts_ahead(self) -> LocalTask | None:
        """Once: what is asked again has changed."""
        ahead, self._ahead = self._ahead, None
        return None if ahead is None else await ahead.facts()

    async def _follow_pieces(self, call: Any) -> bool:
        """Whether the list came to its end."""
        try:
            self.features = features_in(await call.initial_metadata())
            async for response in call:
                await self._offered(response)
        except grpc.aio.AioRpcError as error:
            await self._tell(self._ended(error))
            return False
        except ProtocolError as error:
            reason = f"{self.target}: {error.detail}"
            await self._tell(
                ParentEnded(peer_id=self._parent.peer_id, finished=False, reason=reason)
            )
            return False
        self._has_told_all = True
        await self._tell(ParentEnded(peer_id=self._parent.peer_id, finished=True))
        return True

    async def _offered(self, response: dfdaemon_pb2.SyncPiecesResponse) -> None:
        held = held_piece_from_wire(response)
        if held.tcp_port is None:
            return  # it serves by QUIC only: as if it did not hold the piece
        self.address = (held.ip, held.tcp_port)
        place = ServedAt(held.ip, held.tcp_port, self.features)
        self._known.learn(self.target, place, self._parent.host)
        self.told_where.set()
        peer_id = self._parent.peer_id
        pieces = tuple(
            Piece(number=number, offset=offset, length=length, parent_id=peer_id)
            for number, offset, length in (
                (held.number, held.offset, held.length),
                *added_pieces(response),
            )
        )
        kind = ParentReceives if is_coming(response) else ParentHolds
        await self._tell(kind(peer_id=peer_id, pieces=pieces))

    async def _follow_load(self, stub: Any) -> None:
        request = dfdaemon_pb2.SyncHostRequest(host_id=self._host_id, peer_id=self._peer_id)
        call = stub.SyncHost(request, metadata=carried())
        try:
            async for host in call:
                await self._loaded(host)
        except grpc.aio.AioRpcError as error:
            # What it said last stands. Its list of pieces tells whether it lives; once that is at
            # its end, only this stream does.
            if self._has_told_all and error.code() is grpc.StatusCode.UNAVAILABLE:
                await self._tell(self._ended(error))
        finally:
            call.cancel()

    async def _loaded(self, host: common_pb2.Host) -> None:
        await self._tell(
            ParentLoad(
                peer_id=self._parent.peer_id,
                max_rate_bytes_per_s=host.network.max_tx_bandwidth / _BITS,
                used_rate_bytes_per_s=host.network.tx_bandwidth / _BITS,
            )
        )

    def _ended(self, error: grpc.aio.AioRpcError) -> ParentEnded:
        reason = f"{self.target}: {error.code().name}: {error.details()}"
        return ParentEnded(peer_id=self._parent.peer_id, finished=False, reason=reason)
