"""What one download leaves in the telemetry: a record of every try of a piece, and one of its end.

Who tries tells here how it went; nothing is decided. Times of a try are on `time.monotonic`, which
has the same zero as the event loop's clock and a finer grain than uvloop's milliseconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from odonata.errors import OdonataError
from odonata.telemetry.record import DownloadRecord, PieceRecord, Recorder, decision_id
from odonata.wire.message import Host
from peer.core.effect import CancelReason, FetchPiece
from peer.runtime.host_info import HostFacts
from peer.runtime.port import FetchTimes, StoredTask

SOURCE: Final = "back_to_source"
SEED: Final = "seed_peer"
PEER: Final = "remote_peer"

_OK, _FAILED, _CANCELLED = "ok", "failed", "cancelled"


@dataclass(slots=True, kw_only=True)
class Try:
    """One try to fetch one piece, from a parent or from the source. The first end counts."""

    run: RunRecord
    number: int
    length: int = 0
    """Bytes; 0: unknown."""
    parent_id: str = ""
    parent_host_id: str = ""
    traffic: str = SOURCE
    decision: int = 0
    concurrency: int = 0
    began_at_s: float = field(default_factory=time.monotonic)
    times: FetchTimes = field(default_factory=FetchTimes)
    ended: bool = False

    def ok(self, length: int) -> None:
        """It brought the piece, `length` bytes."""
        self.length = length
        if not self.ended:
            self.run.stored(self)
        self._end(_OK, "")

    def failed(self, reason: str) -> None:
        """Whom it was asked from did not bring it."""
        self._end(_FAILED, reason)

    def cancelled(self, reason: str) -> None:
        """It was stopped, or something of ours went wrong: nobody is to blame."""
        self._end(_CANCELLED, reason)

    def _end(self, result: str, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.run.write(self, result, reason)


class RunRecord:
    """Begins with the download; `end` it once nothing of it runs any more."""

    def __init__(
        self, recorder: Recorder, facts: HostFacts, task: StoredTask, peer_id: str
    ) -> None:
        self._recorder = recorder
        self._facts = facts
        self._task = task
        self._peer_id = peer_id
        self._began_at_s = time.monotonic()
        self._settled_at_s: float | None = None
        self._first_piece_s: float | None = None
        self._piece_count = 0
        self._bytes: dict[str, int] = dict.fromkeys((PEER, SEED, SOURCE), 0)

    def from_parent(self, effect: FetchPiece, host: Host | None) -> Try:
        """A piece is asked from a parent on `host`."""
        return Try(
            run=self,
            number=effect.number,
            length=effect.length or 0,
            parent_id=effect.peer_id,
            parent_host_id="" if host is None else host.id,
            traffic=SEED if host is not None and host.is_seed else PEER,
            decision=effect.decision,
            concurrency=effect.concurrency,
        )

    def from_source(self, number: int) -> Try:
        """A piece is asked from the source, or is the next to come from it."""
        return Try(run=self, number=number)

    def stored(self, one: Try) -> None:
        """A try brought its piece."""
        if self._first_piece_s is None:
            self._first_piece_s = time.monotonic() - self._began_at_s
        self._piece_count += 1
        self._bytes[one.traffic] += one.length

    def write(self, one: Try, result: str, reason: str) -> None:
        """Record a try that has ended."""
        now, times, began = time.monotonic(), one.times, one.began_at_s
        sent, first = times.requested_at_s, times.first_byte_at_s
        self._recorder.write(
            PieceRecord(
                at_s=now,
                decision_id=decision_id(self._peer_id, one.decision) if one.decision else "",
                task_id=self._task.task_id,
                child_id=self._peer_id,
                child_host_id=self._facts.id,
                parent_id=one.parent_id,
                parent_host_id=one.parent_host_id,
                traffic=one.traffic,
                number=one.number,
                length=one.length,
                total_s=now - began,
                queue_s=None if sent is None else sent - began,
                first_byte_s=None if first is None else first - began,
                concurrency=one.concurrency,
                result=result,
                reason=reason,
                written_by="peer",
            )
        )

    def settle(self) -> None:
        """Readers know by now how it ended; the scheduler may still have to hear it."""
        if self._settled_at_s is None:
            self._settled_at_s = time.monotonic()

    def end(self, error: OdonataError | None, *, cancelled: bool, decisions: int) -> None:
        """Record the whole download. `error` None: everything wanted is held."""
        result = _OK if error is None else _CANCELLED if cancelled else _FAILED
        length = self._task.content_length
        self._recorder.write(
            DownloadRecord(
                at_s=self._settled_at_s or time.monotonic(),
                started_at_s=self._began_at_s,
                task_id=self._task.task_id,
                child_id=self._peer_id,
                child_host_id=self._facts.id,
                is_seed=self._facts.is_seed,
                content_length=-1 if length is None else length,
                piece_length=self._task.piece_length or 0,
                from_peers_bytes=self._bytes[PEER],
                from_seeds_bytes=self._bytes[SEED],
                from_source_bytes=self._bytes[SOURCE],
                piece_count=self._piece_count,
                decision_count=decisions,
                first_piece_s=self._first_piece_s,
                result=result,
                reason="" if error is None else error.code,
            )
        )


def end_try(one: Try, reason: str) -> None:
    """A try was stopped for a `CancelReason`; one that nobody answered has failed."""
    if reason == CancelReason.TIMEOUT:
        one.failed(reason)
    else:
        one.cancelled(reason)
