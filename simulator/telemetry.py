"""The records of a simulated download, as the daemon's runtime writes them of a real one.

A record of every try of a piece, whatever came of it, and one of the download's end. Times are
virtual seconds. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from odonata.telemetry.record import DownloadRecord, PieceRecord, Recorder, decision_id
from peer.core.effect import CancelReason

if TYPE_CHECKING:
    from odonata.errors import OdonataError
    from odonata.wire.message import Host
    from peer.core.effect import FetchPiece
    from simulator.world import World

SOURCE: Final = "back_to_source"
SEED: Final = "seed_peer"
PEER: Final = "remote_peer"

OK: Final = "ok"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
STOPPED: Final = "stopped"
"""Why a try at the source was cancelled: the run was not needed any more."""


@dataclass(slots=True, kw_only=True)
class Try:
    """One try to fetch one piece. Moments are virtual seconds; None: it never came so far."""

    number: int
    began_at_s: float
    length: int = 0
    parent_id: str = ""
    parent_host_id: str = ""
    traffic: str = SOURCE
    decision: int = 0
    concurrency: int = 0
    requested_at_s: float | None = None
    first_byte_at_s: float | None = None
    ended: bool = False


class RunRecord:
    """Begins with a download; `end` it once nothing of it runs any more."""

    def __init__(
        self, world: World, recorder: Recorder, host: Host, task_id: str, peer_id: str
    ) -> None:
        self._world = world
        self._recorder = recorder
        self._host = host
        self._task_id = task_id
        self._peer_id = peer_id
        self._began_at_s = world.now
        self._first_piece_s: float | None = None
        self._piece_count = 0
        self._bytes: dict[str, int] = dict.fromkeys((PEER, SEED, SOURCE), 0)
        self._lost = False

    def lose(self) -> None:
        """Its host died: nothing more is written."""
        self._lost = True

    def from_parent(self, effect: FetchPiece, parent: Host) -> Try:
        """A piece is asked from a parent."""
        return Try(
            number=effect.number,
            began_at_s=self._world.now,
            length=effect.length or 0,
            parent_id=effect.peer_id,
            parent_host_id=parent.id,
            traffic=SEED if parent.is_seed else PEER,
            decision=effect.decision,
            concurrency=effect.concurrency,
        )

    def from_source(self, number: int) -> Try:
        """A piece is the next to come from the source."""
        return Try(number=number, began_at_s=self._world.now)

    def stored(self, attempt: Try, length: int) -> None:
        """A try brought its piece."""
        if self._first_piece_s is None:
            self._first_piece_s = self._world.now - self._began_at_s
        self._piece_count += 1
        self._bytes[attempt.traffic] += length
        attempt.length = length
        self.ended(attempt, OK, "")

    def stopped(self, attempt: Try, reason: str) -> None:
        """It was stopped for a `CancelReason`; one that nobody answered has failed."""
        self.ended(attempt, FAILED if reason == CancelReason.TIMEOUT else CANCELLED, reason)

    def ended(self, attempt: Try, result: str, reason: str) -> None:
        """Record a try; its first end counts."""
        if attempt.ended or self._lost:
            return
        attempt.ended = True
        now, began, one = self._world.now, attempt.began_at_s, attempt
        sent, first = one.requested_at_s, one.first_byte_at_s
        self._recorder.write(
            PieceRecord(
                at_s=now,
                decision_id=decision_id(self._peer_id, one.decision) if one.decision else "",
                task_id=self._task_id,
                child_id=self._peer_id,
                child_host_id=self._host.id,
                parent_id=one.parent_id,
                parent_host_id=one.parent_host_id,
                traffic=one.traffic,
                number=one.number,
                length=one.length,
                total_s=now - began,
                queue_s=None if sent is None or sent > now else sent - began,
                first_byte_s=None if first is None or first > now else first - began,
                concurrency=one.concurrency,
                result=result,
                reason=reason,
                written_by="peer",
            )
        )

    def end(
        self,
        error: OdonataError | None,
        *,
        content_length: int | None,
        piece_length: int | None,
        decisions: int,
    ) -> None:
        """Record the whole download. `error` None: everything wanted is held."""
        self._recorder.write(
            DownloadRecord(
                at_s=self._world.now,
                started_at_s=self._began_at_s,
                task_id=self._task_id,
                child_id=self._peer_id,
                child_host_id=self._host.id,
                is_seed=self._host.is_seed,
                content_length=-1 if content_length is None else content_length,
                piece_length=piece_length or 0,
                from_peers_bytes=self._bytes[PEER],
                from_seeds_bytes=self._bytes[SEED],
                from_source_bytes=self._bytes[SOURCE],
                piece_count=self._piece_count,
                decision_count=decisions,
                first_piece_s=self._first_piece_s,
                result=OK if error is None else FAILED,
                reason="" if error is None else error.code,
            )
        )
