"""Telemetry records for tests: plain ones, and any that hypothesis can think of."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from odonata.telemetry.record import (
    DecisionRecord,
    DownloadRecord,
    PieceRecord,
    Record,
    decision_id,
)

HASH = "0123456789abcdef" * 4


def doubles(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def slots(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def decision(
    number: int = 1,
    candidates: int = 3,
    fact_names: tuple[str, ...] = ("child_count", "is_seed"),
    feature_names: tuple[str, ...] = ("children",),
) -> DecisionRecord:
    """A decision with `candidates` candidates, whose facts count up."""
    width, depth = len(fact_names), len(feature_names)
    return DecisionRecord(
        decision_id=decision_id("child", number),
        at_s=float(number),
        task_id=HASH,
        child_id="child",
        child_host_id="host-child",
        outcome="parents",
        reason="",
        policy="rule",
        ranked_by="rule",
        fact_names=fact_names,
        feature_names=feature_names,
        peer_ids=tuple(f"peer{i}" for i in range(candidates)),
        host_ids=tuple(f"host{i}" for i in range(candidates)),
        scores=doubles([i / 10 for i in range(candidates)]),
        slots=slots([i if i < 2 else -1 for i in range(candidates)]),
        propensities=doubles([1.0] * candidates),
        bad=bytes(i % 2 for i in range(candidates)),
        facts=doubles([float(i) for i in range(candidates * width)]),
        features=doubles([float(-i) for i in range(candidates * depth)]),
    )


def piece(number: int = 0) -> PieceRecord:
    return PieceRecord(
        at_s=float(number),
        decision_id=decision_id("child", 1),
        task_id=HASH,
        child_id="child",
        child_host_id="host-child",
        parent_id="peer0",
        parent_host_id="host0",
        traffic="remote_peer",
        number=number,
        length=4 << 20,
        total_s=0.5,
        queue_s=0.1,
        concurrency=4,
        result="ok",
        written_by="peer",
    )


def download(number: int = 0) -> DownloadRecord:
    return DownloadRecord(
        at_s=10.0 + number,
        started_at_s=float(number),
        task_id=HASH,
        child_id=f"child{number}",
        child_host_id="host-child",
        is_seed=False,
        content_length=-1,
        piece_length=4 << 20,
        from_peers_bytes=1,
        from_seeds_bytes=2,
        from_source_bytes=3,
        piece_count=4,
        decision_count=1,
        first_piece_s=None,
        result="ok",
    )


_TEXT = st.text(max_size=12)
_DOUBLE = st.floats()  # infinities and NaN, too
_MOMENT = st.floats(-1e9, 1e9)
_INT = st.integers(-(2**63), 2**63 - 1)
_NAMES = st.lists(st.text(alphabet="abcxyz", min_size=1, max_size=5), max_size=3, unique=True)


@st.composite
def decisions(draw: st.DrawFn) -> DecisionRecord:
    count = draw(st.integers(0, 4))
    fact_names, feature_names = draw(_NAMES), draw(_NAMES)

    def some(width: int) -> bytes:
        size = count * width
        return doubles(draw(st.lists(_DOUBLE, min_size=size, max_size=size)))

    chosen = draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=count, max_size=count))
    ids = st.lists(_TEXT, min_size=count, max_size=count).map(tuple)
    return DecisionRecord(
        decision_id=draw(_TEXT),
        at_s=draw(_MOMENT),
        task_id=draw(_TEXT),
        child_id=draw(_TEXT),
        child_host_id=draw(_TEXT),
        outcome=draw(st.sampled_from(["parents", "source"])),
        reason=draw(_TEXT),
        policy=draw(_TEXT),
        ranked_by=draw(_TEXT),
        draw_seed=draw(st.integers(0, 2**64 - 1)),
        exploration=draw(_DOUBLE),
        explored=draw(st.booleans()),
        useful_count=draw(_INT),
        fact_names=tuple(fact_names),
        feature_names=tuple(feature_names),
        peer_ids=draw(ids),
        host_ids=draw(ids),
        scores=some(1),
        slots=slots(chosen),
        propensities=some(1),
        bad=bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))),
        facts=some(len(fact_names)),
        features=some(len(feature_names)),
    )


pieces: st.SearchStrategy[PieceRecord] = st.builds(
    PieceRecord,
    at_s=_MOMENT,
    decision_id=_TEXT,
    task_id=_TEXT,
    child_id=_TEXT,
    child_host_id=_TEXT,
    parent_id=_TEXT,
    parent_host_id=_TEXT,
    traffic=_TEXT,
    number=_INT,
    length=_INT,
    total_s=_DOUBLE,
    queue_s=st.none() | _DOUBLE,
    first_byte_s=st.none() | _DOUBLE,
    concurrency=_INT,
    result=_TEXT,
    reason=_TEXT,
    written_by=_TEXT,
)

downloads: st.SearchStrategy[DownloadRecord] = st.builds(
    DownloadRecord,
    at_s=_MOMENT,
    started_at_s=_MOMENT,
    task_id=_TEXT,
    child_id=_TEXT,
    child_host_id=_TEXT,
    is_seed=st.booleans(),
    content_length=_INT,
    piece_length=_INT,
    from_peers_bytes=_INT,
    from_seeds_bytes=_INT,
    from_source_bytes=_INT,
    piece_count=_INT,
    decision_count=_INT,
    first_piece_s=st.none() | _DOUBLE,
    result=_TEXT,
    reason=_TEXT,
)

records: st.SearchStrategy[Record] = st.one_of(decisions(), pieces, downloads)
