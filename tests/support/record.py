"""Telemetry records for tests, plain ones. Any that can be: `record_strategy`."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from odonata.telemetry.record import (
    DecisionRecord,
    DownloadRecord,
    PieceRecord,
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
