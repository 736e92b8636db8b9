"""The records of the learning loop: what was decided, what came of each piece, how it all ended.

    DecisionRecord (scheduler)  <- decision_id ->  PieceRecord (peer)       DownloadRecord (peer)

The join key needs no field on Dragonfly's wire: the n-th answer with parents that a peer gets on
its stream is decision `<peer id>#<n>`, and both ends count. Values only; writing is `writer`'s,
Parquet is `parquet`'s.

Times (`..._s`) are seconds. `at_s` is on the clock of whoever wrote the record; each file says how
far that is from 1970, and the conversion to Parquet adds it. A record holds ids and numbers, never
a URL, a header or an address that a user typed.
"""

from __future__ import annotations

from typing import Protocol

from odonata.wire.message import Value

SCHEMA_VERSION = 1
"""Of all three records together; raised when a field changes its meaning or goes."""


def decision_id(child_id: str, count: int) -> str:
    """The id of the `count`-th answer with parents (from 1) that peer `child_id` was given."""
    return f"{child_id}#{count}"


def source_decision_id(child_id: str, count: int) -> str:
    """The id of the `count`-th time (from 1) that peer `child_id` was sent to the source.

    No piece record names it.
    """
    return f"{child_id}#source{count}"


class DecisionRecord(Value, frozen=True, kw_only=True, tag="decision"):
    """One scheduling decision with all eligible candidates as they were seen at that moment.

    The n candidates are columns: `peer_ids` and `host_ids` of length n; `scores` and `propensities`
    n little-endian doubles, `slots` n little-endian int32 (place in the answer from 0, -1: not
    chosen), `bad` n bytes (1: left out as bad); `facts` n x len(fact_names) and `features`
    n x len(feature_names) doubles, row by row. Facts are what the scheduler knew, features what the
    ranker saw; `models.features` makes the ones from the others.
    """

    decision_id: str
    """Joins it with what came of it; see `decision_id` and `source_decision_id`."""
    at_s: float
    """When it was made."""
    task_id: str
    """The content, by the digest over its URL and meta data."""
    child_id: str
    """Peer id of who asked."""
    child_host_id: str
    """The host of who asked, as it announced itself."""
    outcome: str
    """"parents", or "source" (then there may be no candidates)."""
    reason: str
    """Why it was made or why it came out so, in words."""
    policy: str
    """The ranker that was asked."""
    ranked_by: str
    """The ranker that ranked: another one if the first could not; "" if none was needed."""
    model_version: str = ""
    """Of the learned ranker's bundle; "" for a ranker without one."""
    fallback: str = ""
    """Why another one ranked; "" if none did."""
    draw_seed: int = 0
    """Of the generator of this decision's chances: ties, sampling, exploration."""
    exploration: float = 0.0
    """The probability with which this decision would have explored."""
    explored: bool = False
    """Whether it did: parents were drawn instead of taken by rank."""
    useful_count: int = 0
    """Peers of the task that were able to serve at all."""
    peer_count: int = 0
    """Peers of the task."""
    feature_schema: str = ""
    """Hash of the features' specs (`models.features.schema_hash`); "" without candidates."""
    fact_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    peer_ids: tuple[str, ...] = ()
    host_ids: tuple[str, ...] = ()
    scores: bytes = b""
    slots: bytes = b""
    propensities: bytes = b""
    """Of being in the answer, given who else was eligible."""
    bad: bytes = b""
    facts: bytes = b""
    features: bytes = b""


class PieceRecord(Value, frozen=True, kw_only=True, tag="piece"):
    """One try to fetch one piece: from a parent, or from the source (`parent_id` empty).

    The three times follow each other from the moment the piece was asked for: `queue_s` until the
    request was on its way, `first_byte_s` until the first byte came, `total_s` until it was stored
    or given up. None: it never came so far, or the writer can't know. A try that timed out or was
    stopped counts: its `total_s` is the least it would have cost.
    """

    at_s: float
    """When it ended."""
    decision_id: str
    """The latest answer that named this parent; "" for the source."""
    task_id: str
    """The content, by the digest over its URL and meta data."""
    child_id: str
    """Peer id of who fetched it."""
    child_host_id: str
    """The host of who fetched it."""
    parent_id: str
    """Peer id of who was to give it; "" for the source."""
    parent_host_id: str
    """The host of who was to give it; "" for the source."""
    traffic: str
    """"remote_peer", "seed_peer" or "back_to_source"."""
    number: int
    """Its number in the task, from 0; -1: unknown."""
    length: int
    """Bytes of the piece; 0 if unknown."""
    total_s: float
    """Until it was stored or given up. 0 also for a failure that somebody else reported: nothing is
    known but that it cost time."""
    queue_s: float | None = None
    """Until the request was on its way."""
    first_byte_s: float | None = None
    """Until the first byte came."""
    concurrency: int = 0
    """Pieces this download had in flight from parents when this one was asked for, itself included;
    0: unknown."""
    result: str
    """"ok", "failed" or "cancelled"."""
    reason: str = ""
    """Why not ok: a `FailureReason` of `peer.core.event`, "late", "hedged", or what the scheduler
    heard. "ahead", ok: it was asked for before the scheduler had answered, so that a part of its
    time was waited for that. "passed_on", ok or not: the parent was being sent the piece itself, so
    that its time is no measure of the parent."""
    written_by: str
    """"peer", or "scheduler" on behalf of a peer that writes no telemetry."""


class DownloadRecord(Value, frozen=True, kw_only=True, tag="download"):
    """One download of one peer, when it ended. Bytes count what was stored, by giver."""

    at_s: float
    """When it ended."""
    started_at_s: float
    """When it began."""
    task_id: str
    """The content, by the digest over its URL and meta data."""
    child_id: str
    """Peer id of the download."""
    child_host_id: str
    """The host that downloaded."""
    is_seed: bool
    """Whether that host is a seed peer."""
    content_length: int
    """-1: never learned."""
    piece_length: int
    """Of all pieces but the last; 0: never learned."""
    from_peers_bytes: int
    """Stored content that came from peers that are no seeds."""
    from_seeds_bytes: int
    """Stored content that came from seed peers."""
    from_source_bytes: int
    """Stored content that came from the source."""
    piece_count: int
    """Pieces that were stored."""
    decision_count: int
    """Answers with parents that it got."""
    first_piece_s: float | None
    """From the start until the first piece was stored; None: none was."""
    result: str
    """"ok", "failed" or "cancelled"."""
    reason: str = ""
    """Why not ok, in words."""


Record = DecisionRecord | PieceRecord | DownloadRecord


class TelemetryStats(Value, frozen=True, kw_only=True):
    """What a recorder did so far."""

    written: int = 0
    """Records that reached a file."""
    dropped: int = 0
    """Records that did not: no room in the queue, none on the disk, or not writable."""
    written_bytes: int = 0
    files: int = 0
    """Parquet files made."""
    removed_files: int = 0
    """Old ones removed to make room."""
    convert_failures: int = 0
    """Conversions to Parquet that failed, were ended, or left a segment as it was."""


class Recorder(Protocol):
    """Where records go. Never waits, never raises: what has no room is dropped and counted."""

    def write(self, record: Record) -> None:
        """Take one record."""
        ...


class NoRecorder:
    """Takes nothing: telemetry is off."""

    def write(self, record: Record) -> None:
        """Forget `record`."""

    def stats(self) -> TelemetryStats:
        """Nothing was done."""
        return TelemetryStats()

    def close(self) -> None:
        """Nothing is open."""


class ListRecorder:
    """Keeps all records in memory, in order: for tests and small simulations."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        """Keep `record`."""
        self.records.append(record)
