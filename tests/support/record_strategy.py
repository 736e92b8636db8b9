"""Any telemetry records that hypothesis can think of."""

from __future__ import annotations

from hypothesis import strategies as st
from support.record import doubles, slots

from odonata.telemetry.record import DecisionRecord, DownloadRecord, PieceRecord, Record

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
