"""The parents of one download: their links, and the pieces on their way from each.

Carries out AskAhead, ConnectParent, AskParentMeta, DropParent, FetchPiece, AskProgress and
CancelPiece; decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from odonata.errors import (
    DigestMismatchError,
    DiskFullError,
    ListedDigestError,
    NotFoundError,
    OdonataError,
    PeerRefusedError,
    PieceGivenError,
    ProtocolError,
    StorageError,
    UnavailableError,
)
from odonata.wire.message import Host, Parent, Piece, TrafficType
from peer.core.effect import (
    AskAhead,
    AskParentMeta,
    AskProgress,
    CancelPiece,
    CancelReason,
    ConnectParent,
    DropParent,
    FetchPiece,
)
from peer.core.event import (
    DownloadEvent,
    FailureReason,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
)
from peer.core.run_record import Try
from peer.runtime.ahead import Ahead
from peer.runtime.known_address import ServedAt
from peer.runtime.parent_link import ParentLink
from peer.runtime.port import Early
from peer.runtime.run_tools import RunPlace, storage_failed

ParentEffect = (
    AskAhead | ConnectParent | AskParentMeta | DropParent | FetchPiece | AskProgress | CancelPiece
)

NO_DESCRIPTOR: Final = "no_descriptor"
"""Recorded of a try that ended because this process may open no more sockets."""

# What an error of the fetch says about the parent; the first that fits.
_REASONS: Final[tuple[tuple[type[Exception], FailureReason], ...]] = (
    (PeerRefusedError, FailureReason.REFUSED),
    (NotFoundError, FailureReason.NOT_FOUND),
    (ListedDigestError, FailureReason.LISTED_DIGEST),
    (DigestMismatchError, FailureReason.DIGEST),
    (ProtocolError, FailureReason.PROTOCOL),
    (UnavailableError, FailureReason.UNREACHABLE),
)


class ParentSet:
    """Bounded by the core: so many parents, so many pieces in flight."""

    def __init__(self, place: RunPlace) -> None:
        self._place = place
        self._links: dict[str, tuple[ParentLink, asyncio.Task[None]]] = {}
        self._fetches: dict[tuple[str, int], tuple[Try, asyncio.Task[None]]] = {}
        self._ahead: Ahead | None = None

    def perform(self, effect: ParentEffect) -> None:
        """Carry out `effect`, without waiting."""
        if isinstance(effect, FetchPiece):
            self._begin(effect)
        elif isinstance(effect, CancelPiece):
            self._cancel(effect)
        elif isinstance(effect, AskProgress):
            self._tell_progress(effect)
        elif isinstance(effect, ConnectParent):
            self._connect(effect.parent, effect.interested)
        elif isinstance(effect, AskAhead):
            self._ask_ahead(effect.host_id)
        elif isinstance(effect, AskParentMeta):
            link, _ = self._links.get(effect.peer_id, (None, None))
            if link is not None:
                self._place.start("parent facts", link.ask_meta())
        else:
            self._drop(effect)

    def _ask_ahead(self, host_id: str) -> None:
        seed, asker = self._place.tools.known.seed, self._place.tools.asker
        if seed is not None and seed.host_id == host_id and asker is not None:
            self._ahead = Ahead(seed, self._place, asker)
            self._ahead.begin()

    def _ahead_of(self, host: Host) -> Ahead | None:
        is_it = self._ahead is not None and self._ahead.host_id == host.id
        return self._ahead if is_it else None

    def _connect(self, parent: Parent, interested: tuple[int, ...]) -> None:
        old, old_task = self._links.get(parent.peer_id, (None, None))
        link = ParentLink(parent, self._place, self._ahead_of(parent.host))
        if old is not None and old_task is not None:
            old_task.cancel()
            link.address, link.features = old.address, old.features
        task = self._place.start(f"parent {parent.peer_id}", link.follow(interested))
        self._links[parent.peer_id] = (link, task)

    def _drop(self, effect: DropParent) -> None:
        _, task = self._links.pop(effect.peer_id, (None, None))
        if task is not None:
            task.cancel()
        for key in [key for key in self._fetches if key[0] == effect.peer_id]:
            self._stop(key, effect.reason)

    def _cancel(self, effect: CancelPiece) -> None:
        if self._stop((effect.peer_id, effect.number), effect.reason):
            self._place.put(_not_fetched(effect, FailureReason.CANCELLED))

    def _tell_progress(self, effect: AskProgress) -> None:
        attempt, _ = self._fetches.get((effect.peer_id, effect.number), (None, None))
        if attempt is not None:
            first = attempt.times.first_byte_at_s
            self._place.put(
                PieceProgress(
                    peer_id=effect.peer_id,
                    number=effect.number,
                    began_s=None if first is None else time.monotonic() - first,
                    received=attempt.times.received(),
                )
            )

    def _stop(self, key: tuple[str, int], reason: str) -> bool:
        """End a fetch. False: it has ended, and its answer is on its way already."""
        attempt, task = self._fetches.pop(key, (None, None))
        if attempt is None or task is None:
            return False
        attempt.stop_reason = reason
        task.cancel()
        return True

    def _begin(self, effect: FetchPiece) -> None:
        link, _ = self._links.get(effect.peer_id, (None, None))
        attempt = self._place.record.from_parent(effect, None if link is None else link.host)
        task = self._place.start(f"piece {effect.number}", self._fetch(effect, link, attempt))
        task.add_done_callback(lambda _: self._settle(effect, attempt))
        self._fetches[effect.peer_id, effect.number] = (attempt, task)

    async def _fetch(self, effect: FetchPiece, link: ParentLink | None, attempt: Try) -> None:
        event = await self._fetched(effect, link, attempt)
        key = (effect.peer_id, effect.number)
        if self._fetches.get(key, (None,))[0] is attempt:
            del self._fetches[key]
        await self._place.tell(event)

    def _settle(self, effect: FetchPiece, attempt: Try) -> None:
        """Record one that ended without a word: stopped, or torn down with the run.

        What was being written by then is stored all the same, and came from this parent.
        """
        if attempt.ended:
            return
        piece = self._place.task.piece(effect.number)
        if (
            piece is not None
            and _is_from(piece, effect.peer_id)
            and not attempt.run.has(piece.number)
        ):
            attempt.ok(piece.length)
        else:
            attempt.stopped(attempt.stop_reason or CancelReason.ENDED)

    async def _where(self, effect: FetchPiece, link: ParentLink) -> ServedAt | None:
        """Where to ask: as the parent says, or for an early piece as it said some time ago."""
        if link.address is None and effect.is_early:
            known = self._place.tools.known.of(link.target)
            if known is not None:
                return known
            await link.told_where.wait()
        return None if link.address is None else ServedAt(*link.address, link.features)

    async def _fetched(
        self, effect: FetchPiece, link: ParentLink | None, attempt: Try
    ) -> DownloadEvent:
        """Fetch it, and record how that went."""
        where = None if link is None else await self._where(effect, link)
        if link is None or where is None:
            return _failed(effect, attempt, FailureReason.NOT_FOUND, "it offered no piece")
        early = Early(effect.length or 0, self._place.learned) if effect.is_early else None
        ahead = self._ahead_of(link.host) if effect.is_early else None
        try:
            brought = None if ahead is None else await ahead.take_piece(effect.timeout_s)
            if brought is not None:
                attempt.was_asked_ahead(brought.asked_at_s)
            piece = await self._place.tools.fetcher.fetch(
                where.ip,
                where.port,
                self._place.task,
                effect.number,
                parent_id=effect.peer_id,
                timeout_s=effect.timeout_s,
                times=attempt.times,
                features=where.features,
                is_patient=effect.is_patient,
                is_exclusive=effect.is_exclusive,
                is_passed_on=effect.is_passed_on,
                is_told=effect.is_told,
                early=early,
                ahead=brought,
            )
        except (StorageError, DiskFullError) as error:
            attempt.cancelled(error.code)
            return storage_failed(error)
        except OSError as error:
            if isinstance(error, TimeoutError):
                return _timed_out(effect, attempt, str(error))
            attempt.cancelled(NO_DESCRIPTOR)  # our fault, not its
            return _not_fetched(effect, FailureReason.REFUSED, str(error))
        except OdonataError as error:
            if link.address is None and isinstance(error, UnavailableError | ProtocolError):
                self._place.tools.known.forget(link.target)
                error = PeerRefusedError(f"it has moved, and will say where to: {error.detail}")
            return _of_error(effect, attempt, error)
        if _is_from(piece, effect.peer_id):
            attempt.ok(piece.length)
        else:  # somebody else's copy came first, and stays
            attempt.cancelled(CancelReason.HEDGED)
        return _stored(effect, attempt, piece)


def _is_from(piece: Piece, peer_id: str) -> bool:
    return piece.traffic_type is TrafficType.REMOTE_PEER and piece.parent_id == peer_id


def _of_error(effect: FetchPiece, attempt: Try, error: OdonataError) -> PieceNotFetched:
    if isinstance(error, PieceGivenError):
        attempt.cancelled(FailureReason.GIVEN)  # as was asked for: nobody is to blame
        event = _not_fetched(effect, FailureReason.GIVEN, str(error))
        return msgspec.structs.replace(event, given=error.given)
    if effect.is_passed_on and _is_broken_off(error, attempt):
        return _failed(effect, attempt, FailureReason.BROKEN_OFF, str(error))
    reasons = (why for kind, why in _REASONS if isinstance(error, kind))
    return _failed(effect, attempt, next(reasons, FailureReason.PROTOCOL), str(error))


def _is_broken_off(error: OdonataError, attempt: Try) -> bool:
    """It had begun, and does not get the piece itself: that breaks off what it passes on."""
    return isinstance(error, UnavailableError) and attempt.times.first_byte_at_s is not None


def _timed_out(effect: FetchPiece, attempt: Try, detail: str) -> PieceNotFetched:
    """Of a piece that was passed on nobody knows whose fault it is."""
    if effect.is_passed_on:
        return _failed(effect, attempt, FailureReason.BROKEN_OFF, detail)
    return _failed(effect, attempt, FailureReason.TIMEOUT, detail)


def _stored(effect: FetchPiece, attempt: Try, piece: Piece) -> PieceStored:
    """With how long its first byte took: to be reached, and to have its turn."""
    sent, first = attempt.times.requested_at_s, attempt.times.first_byte_at_s
    return PieceStored(
        peer_id=effect.peer_id,
        piece=piece,
        began_s=None if first is None else time.monotonic() - first,
        wait_s=None if first is None or sent is None else first - sent,
    )


def _failed(
    effect: FetchPiece, attempt: Try, reason: FailureReason, detail: str
) -> PieceNotFetched:
    attempt.failed(reason)
    return _not_fetched(effect, reason, detail)


def _not_fetched(
    effect: FetchPiece | CancelPiece, reason: FailureReason, detail: str = ""
) -> PieceNotFetched:
    return PieceNotFetched(
        peer_id=effect.peer_id, number=effect.number, reason=reason, detail=detail
    )
