"""What one download leaves in the telemetry: a record of every try of a piece, and one of its end.

Who tries tells here how it went; nothing is decided. The clock is given: a daemon's, or that of a
world of virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from odonata.errors import OdonataError
from odonata.telemetry.record import DownloadRecord, PieceRecord, Recorder, decision_id
from odonata.wire.message import Host, Value
from peer.core.effect import CancelReason, FetchPiece
from peer.core.event import FailureReason

SOURCE: Final = "back_to_source"
SEED: Final = "seed_peer"
PEER: Final = "remote_peer"

STOPPED: Final = "stopped"
"""Why a try at the source was cancelled: the run was not needed any more."""

PASSED_ON: Final = "passed_on"
"""Why the time of a try says nothing of its parent, whatever came of it: that was being sent the
piece itself."""

AHEAD: Final = "ahead"
"""Why the time of a try says little of its parent that brought the piece: that was asked before the
scheduler had answered, and a part of the time was waited for the scheduler."""

_OK, _FAILED, _CANCELLED = "ok", "failed", "cancelled"
_WRONG: Final = frozenset(
    {FailureReason.DIGEST, FailureReason.LISTED_DIGEST, FailureReason.PROTOCOL}
)
"""These say something all the same."""


class Fetcher(Value, frozen=True, kw_only=True):
    """Whose download it is, and of what."""

    task_id: str
    peer_id: str
    host_id: str
    is_seed: bool


@dataclass(slots=True)
class FetchTimes:
    """How far a fetch got, and when, on the clock of the records; None: it never came so far."""

    requested_at_s: float | None = None
    """The request is on its way: there was a buffer, and a connection."""
    first_byte_at_s: float | None = None
    """The parent answered: before that, the piece waited in its queue."""
    received: Callable[[], int] = lambda: 0
    """Bytes of the content that have come until now."""


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
    is_passed_on: bool = False
    is_ahead: bool = False
    began_at_s: float
    times: FetchTimes = field(default_factory=FetchTimes)
    ended: bool = False
    stop_reason: str = ""
    """The `CancelReason` for which it is being stopped; it may bring the piece all the same."""

    def ok(self, length: int) -> None:
        """It brought the piece, `length` bytes."""
        self.length = length
        if not self.ended:
            self.run.stored(self)
        self._end(_OK, "")

    def was_asked_ahead(self, at_s: float) -> None:
        """Its question was on its way at this moment already."""
        self.is_ahead, self.began_at_s = True, min(self.began_at_s, at_s)

    def failed(self, reason: str) -> None:
        """Whom it was asked from did not bring it."""
        self._end(_FAILED, reason)

    def cancelled(self, reason: str) -> None:
        """It was stopped, or something of ours went wrong: nobody is to blame."""
        self._end(_CANCELLED, reason)

    def stopped(self, reason: str) -> None:
        """It was stopped for a `CancelReason`; one that nobody answered has failed."""
        self._end(_FAILED if reason == CancelReason.TIMEOUT else _CANCELLED, reason)

    def _end(self, result: str, reason: str) -> None:
        if self.ended:
            return
        self.ended = True
        if self.is_ahead and result == _OK:
            reason = AHEAD
        if self.is_passed_on and reason not in _WRONG:
            # It came, or did not, as it came to the parent: nothing that its choice is judged by.
            result, reason = (_CANCELLED if result == _FAILED else result), PASSED_ON
        self.run.write(self, result, reason)


class RunRecord:
    """Begins with the download; `end` it once nothing of it runs any more. `clock`: seconds."""

    def __init__(self, recorder: Recorder, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self._recorder = recorder
        self._fetcher = fetcher
        self._clock = clock
        self._began_at_s = clock()
        self._settled_at_s: float | None = None
        self._first_piece_s: float | None = None
        self._brought: set[int] = set()
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
            is_passed_on=effect.is_passed_on,
            concurrency=effect.concurrency,
            began_at_s=self._clock(),
        )

    def from_source(self, number: int) -> Try:
        """A piece is asked from the source, or is the next to come from it."""
        return Try(run=self, number=number, began_at_s=self._clock())

    def has(self, number: int) -> bool:
        """A try of this run has brought that piece."""
        return number in self._brought

    def stored(self, one: Try) -> None:
        """A try brought its piece."""
        if self._first_piece_s is None:
            self._first_piece_s = self._clock() - self._began_at_s
        self._brought.add(one.number)
        self._bytes[one.traffic] += one.length

    def write(self, one: Try, result: str, reason: str) -> None:
        """Record a try that has ended."""
        now, fetcher = self._clock(), self._fetcher
        self._recorder.write(
            PieceRecord(
                at_s=now,
                decision_id=decision_id(fetcher.peer_id, one.decision) if one.decision else "",
                task_id=fetcher.task_id,
                child_id=fetcher.peer_id,
                child_host_id=fetcher.host_id,
                parent_id=one.parent_id,
                parent_host_id=one.parent_host_id,
                traffic=one.traffic,
                number=one.number,
                length=one.length,
                total_s=now - one.began_at_s,
                queue_s=_until(one.times.requested_at_s, one, now),
                first_byte_s=_until(one.times.first_byte_at_s, one, now),
                concurrency=one.concurrency,
                result=result,
                reason=reason,
                written_by="peer",
            )
        )

    def settle(self) -> None:
        """Readers know by now how it ended; the scheduler may still have to hear it."""
        if self._settled_at_s is None:
            self._settled_at_s = self._clock()

    def end(
        self,
        error: OdonataError | None,
        *,
        content_length: int | None,
        piece_length: int | None,
        decisions: int,
        cancelled: bool = False,
    ) -> None:
        """Record the whole download. `error` None: everything wanted is held."""
        fetcher = self._fetcher
        self._recorder.write(
            DownloadRecord(
                at_s=self._clock() if self._settled_at_s is None else self._settled_at_s,
                started_at_s=self._began_at_s,
                task_id=fetcher.task_id,
                child_id=fetcher.peer_id,
                child_host_id=fetcher.host_id,
                is_seed=fetcher.is_seed,
                content_length=-1 if content_length is None else content_length,
                piece_length=piece_length or 0,
                from_peers_bytes=self._bytes[PEER],
                from_seeds_bytes=self._bytes[SEED],
                from_source_bytes=self._bytes[SOURCE],
                piece_count=len(self._brought),
                decision_count=decisions,
                first_piece_s=self._first_piece_s,
                result=_OK if error is None else _CANCELLED if cancelled else _FAILED,
                reason="" if error is None else error.code,
            )
        )


def _until(at_s: float | None, one: Try, now: float) -> float | None:
    """From the beginning of a try to a moment of it; None if that has not come, or never does.

    A world of virtual time may know a moment beforehand.
    """
    return None if at_s is None or at_s > now else at_s - one.began_at_s
