"""The parents of one download: their links, and the pieces on their way from each.

Carries out ConnectParent, AskParentMeta, DropParent, FetchPiece and CancelPiece; decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from odonata.errors import (
    DigestMismatchError,
    DiskFullError,
    NotFoundError,
    OdonataError,
    PeerRefusedError,
    ProtocolError,
    StorageError,
    UnavailableError,
)
from odonata.wire.message import Parent
from peer.core.effect import AskParentMeta, CancelPiece, ConnectParent, DropParent, FetchPiece
from peer.core.event import DownloadEvent, FailureReason, PieceNotFetched, PieceStored
from peer.runtime.parent_link import ParentLink
from peer.runtime.run_tools import RunPlace, storage_failed

ParentEffect = ConnectParent | AskParentMeta | DropParent | FetchPiece | CancelPiece

# What an error of the fetch says about the parent; the first that fits.
_REASONS: Final[tuple[tuple[type[Exception], FailureReason], ...]] = (
    (PeerRefusedError, FailureReason.REFUSED),
    (NotFoundError, FailureReason.NOT_FOUND),
    (DigestMismatchError, FailureReason.DIGEST),
    (ProtocolError, FailureReason.PROTOCOL),
    (UnavailableError, FailureReason.UNREACHABLE),
)


class ParentSet:
    """Bounded by the core: so many parents, so many pieces in flight."""

    def __init__(self, place: RunPlace) -> None:
        self._place = place
        self._links: dict[str, tuple[ParentLink, asyncio.Task[None]]] = {}
        self._fetches: dict[tuple[str, int], asyncio.Task[None]] = {}

    def perform(self, effect: ParentEffect) -> None:
        """Carry out `effect`, without waiting."""
        if isinstance(effect, FetchPiece):
            task = self._place.start(f"piece {effect.number}", self._fetch(effect))
            self._fetches[effect.peer_id, effect.number] = task
        elif isinstance(effect, CancelPiece):
            self._cancel(effect)
        elif isinstance(effect, ConnectParent):
            self._connect(effect.parent, effect.interested)
        elif isinstance(effect, AskParentMeta):
            link, _ = self._links.get(effect.peer_id, (None, None))
            if link is not None:
                self._place.start("parent facts", link.ask_meta())
        else:
            self._drop(effect.peer_id)

    def _connect(self, parent: Parent, interested: tuple[int, ...]) -> None:
        old, old_task = self._links.get(parent.peer_id, (None, None))
        link = ParentLink(parent, self._place)
        if old is not None and old_task is not None:
            old_task.cancel()
            link.address = old.address
        task = self._place.start(f"parent {parent.peer_id}", link.follow(interested))
        self._links[parent.peer_id] = (link, task)

    def _drop(self, peer_id: str) -> None:
        _, task = self._links.pop(peer_id, (None, None))
        if task is not None:
            task.cancel()
        for key in [key for key in self._fetches if key[0] == peer_id]:
            self._fetches.pop(key).cancel()

    def _cancel(self, effect: CancelPiece) -> None:
        task = self._fetches.pop((effect.peer_id, effect.number), None)
        if task is not None:  # else its answer is on its way already
            task.cancel()
            self._place.put(_not_fetched(effect, FailureReason.CANCELLED))

    async def _fetch(self, effect: FetchPiece) -> None:
        event = await self._fetched(effect)
        key = (effect.peer_id, effect.number)
        if self._fetches.get(key) is asyncio.current_task():
            del self._fetches[key]
        await self._place.tell(event)

    async def _fetched(self, effect: FetchPiece) -> DownloadEvent:
        link, _ = self._links.get(effect.peer_id, (None, None))
        if link is None or link.address is None:
            return _not_fetched(effect, FailureReason.NOT_FOUND, "it offered no piece")
        ip, port = link.address
        try:
            piece = await self._place.tools.fetcher.fetch(
                ip,
                port,
                self._place.task,
                effect.number,
                parent_id=effect.peer_id,
                timeout_s=effect.timeout_s,
            )
        except (StorageError, DiskFullError) as error:
            return storage_failed(error)
        except OSError as error:
            if not isinstance(error, TimeoutError):  # no descriptor left: our fault, not its
                return _not_fetched(effect, FailureReason.REFUSED, str(error))
            return _not_fetched(effect, FailureReason.TIMEOUT, str(error))
        except OdonataError as error:
            reason = next(
                (why for kind, why in _REASONS if isinstance(error, kind)), FailureReason.PROTOCOL
            )
            return _not_fetched(effect, reason, str(error))
        return PieceStored(peer_id=effect.peer_id, piece=piece)


def _not_fetched(
    effect: FetchPiece | CancelPiece, reason: FailureReason, detail: str = ""
) -> PieceNotFetched:
    return PieceNotFetched(
        peer_id=effect.peer_id, number=effect.number, reason=reason, detail=detail
    )
