"""Records on their way from the event loop to the thread that writes: bounded, never waited for.

One thread puts, one other takes. Neither holds a lock: a deque's ends are safe to use from two
threads, and each counter has one writer.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from odonata.telemetry.record import DecisionRecord, Record

RECORDS_MAX: Final = 65_536
"""Ten seconds of a stalled disk at 6,000 pieces a second, more than a 10 Gbit/s host fetches."""

BYTES_MAX: Final = 32 * 1024 * 1024
"""What telemetry may cost a process in memory. A decision with 200 candidates takes 100 KB, so it
holds some 300 of those."""

_RECORD_BYTES: Final = 512  # a struct of twenty fields whose strings are mostly shared
_CANDIDATE_BYTES: Final = 24  # two references and a few bytes of columns


def weight(record: Record) -> int:
    """About how many bytes of memory the record holds on to."""
    if not isinstance(record, DecisionRecord):
        return _RECORD_BYTES
    columns = len(record.facts) + len(record.features) + len(record.scores)
    columns += len(record.propensities)
    return _RECORD_BYTES + columns + len(record.peer_ids) * _CANDIDATE_BYTES


class Backlog:
    """A queue of records, bounded by count and by bytes."""

    def __init__(self, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._records: deque[Record] = deque()
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._put_bytes = 0
        self._taken_bytes = 0

    def put(self, record: Record) -> bool:
        """Append `record`; False if there is no room."""
        size = weight(record)
        held = self._put_bytes - self._taken_bytes
        if len(self._records) >= self._records_max or held + size > self._bytes_max:
            return False
        self._put_bytes += size
        self._records.append(record)
        return True

    @property
    def is_half_full(self) -> bool:
        """Whether it should be emptied soon."""
        held = self._put_bytes - self._taken_bytes
        return len(self._records) * 2 >= self._records_max or held * 2 >= self._bytes_max

    def take(self, records_max: int, bytes_max: int) -> list[Record]:
        """The oldest records, until they reach one of the two; none only if there are none."""
        taken: list[Record] = []
        size = 0
        while self._records and len(taken) < records_max and size < bytes_max:
            record = self._records.popleft()
            size += weight(record)
            taken.append(record)
        self._taken_bytes += size
        return taken
