"""Hypothesis strategies for the messages of `odonata.wire.message`, as senders may fill them."""

from __future__ import annotations

from hypothesis import strategies as st

from odonata.wire.message import (
    MAX_FAR_SHARE_COUNT,
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    FarShare,
    Finished,
    Host,
    HostType,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    Parent,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    SchedulerAnswer,
    SourceAnswer,
    Started,
    TaskFacts,
    TaskType,
    TrafficType,
)

MIB = 1024 * 1024

text = st.text(max_size=20)
ids = st.text(min_size=1, max_size=80)
lengths = st.integers(0, 2**63 - 1)
numbers = st.integers(0, 2**32 - 1)
headers = st.dictionaries(text, text, max_size=3)
# Quarters of a second come back exactly as they went; other values have a test of their own.
durations_s = st.integers(0, 2**20).map(lambda quarters: quarters / 4)
ports = st.integers(1, 65535)
ranges = st.builds(ByteRange, start=lengths, length=lengths)


hosts = st.builds(
    Host,
    id=ids,
    type=st.sampled_from(HostType),
    hostname=text,
    ip=st.ip_addresses().map(str),
    port=ports,
    download_port=ports,
    idc=text,
    location=text,
    max_tx_bandwidth_bits_per_s=st.integers(0, 2**64 - 1),
    tx_bandwidth_bits_per_s=st.integers(0, 2**64 - 1),
    disable_shared=st.booleans(),
    scheduler_cluster_id=st.integers(0, 2**64 - 1),
)

pieces = st.builds(
    Piece,
    number=numbers,
    offset=lengths,
    length=lengths,
    digest=text,
    parent_id=text,
    traffic_type=st.sampled_from(TrafficType),
    cost_s=durations_s,
    created_at_s=durations_s,
)

urls = st.sampled_from(
    [
        "http://10.0.0.1/a?b=c",
        "https://example.org/v2/library/x/blobs/sha256:00",
        "s3://bucket/key",
        "hf://owner/repo",
        "modelscope://owner/repo",
        "opencsg://owner/repo",
        "file:///a",
    ]
)

downloads = st.builds(
    Download,
    url=urls,
    digest=st.none() | st.sampled_from(["", "sha256:00ff", "md5:AB"]),
    range=st.none() | ranges,
    type=st.sampled_from(TaskType),
    tag=st.none() | text,
    application=st.none() | text,
    revision=st.none() | ids,
    priority=st.integers(0, 6),
    filtered_query_params=st.lists(text, max_size=3).map(tuple),
    request_header=headers,
    piece_length=st.none() | st.integers(4 * MIB, 2**63),
    output_path=st.none() | text,
    timeout_s=st.none() | durations_s,
    disable_back_to_source=st.booleans(),
    need_back_to_source=st.booleans(),
    metadata_only=st.booleans(),
    prefetch=st.booleans(),
    is_prefetch=st.booleans(),
    need_piece_content=st.booleans(),
    force_hard_link=st.booleans(),
    overwrite=st.booleans(),
    content_for_calculating_task_id=st.none() | text,
    enable_task_id_based_blob_digest=st.booleans(),
    always_schedule=st.booleans(),
    concurrent_piece_count=st.none() | numbers,
    actual_piece_length=st.none() | lengths,
    actual_content_length=st.none() | lengths,
    actual_piece_count=st.none() | numbers,
)

# Zero bytes in some pieces is a contradiction, which reads as "unknown": left to a test of its own.
task_facts = st.builds(
    TaskFacts,
    id=ids,
    url=text,
    content_length=st.none() | st.integers(1, 2**63 - 1),
    piece_count=numbers,
) | st.builds(TaskFacts, id=ids, content_length=st.just(0))

parents = st.builds(
    Parent,
    peer_id=ids,
    host=hosts,
    state=text,
    task=task_facts,
    finished_pieces=st.lists(numbers, max_size=5).map(tuple),
)

source_answers = st.builds(
    SourceAnswer,
    message=text,
    status_code=st.none() | st.integers(0, 999),
    header=headers,
)

peer_messages: st.SearchStrategy[PeerMessage] = st.one_of(
    st.builds(Register, download=downloads),
    st.just(Started()),
    st.builds(BackToSourceStarted, description=text),
    st.builds(
        Reschedule, parent_ids=st.lists(ids, min_size=1, max_size=4).map(tuple), description=text
    ),
    st.builds(PieceFinished, piece=pieces),
    st.builds(PieceBackToSourceFinished, piece=pieces),
    st.builds(
        PieceFailed,
        parent_id=ids,
        number=st.none() | numbers,
        temporary=st.booleans(),
        wrong_digest=st.booleans(),
    ),
    st.builds(PieceBackToSourceFailed, number=st.none() | numbers, answer=source_answers),
    st.builds(PieceBackToSourceFailed, number=st.none() | numbers, description=text),
    st.just(Finished()),
    st.just(BackToSourceFinished()),
    st.builds(Failed, description=text),
    st.builds(BackToSourceFailed, description=text),
)

far_shares = st.integers(1, MAX_FAR_SHARE_COUNT).flatmap(
    lambda count: st.builds(FarShare, index=st.integers(0, count - 1), count=st.just(count))
)

answers: st.SearchStrategy[SchedulerAnswer] = st.one_of(
    st.just(EmptyTask()),
    st.just(MetadataOnly()),
    st.builds(NeedBackToSource, description=text),
    st.builds(NormalTask, parents=st.lists(parents, min_size=1, max_size=4).map(tuple)),
    far_shares,
)
