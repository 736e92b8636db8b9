"""The codec under arbitrary bytes, damaged conversations, and every way to cut them into reads.

Whatever comes: no exception, memory within the limits, whole frames out, and each call over at most
once.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.h2_peer import Pair, data, message, opening

from odonata.grpc_h2 import frame
from odonata.grpc_h2.frame import Code
from odonata.grpc_h2.limits import H2Limits

LIMITS = H2Limits(
    max_streams=8,
    stream_window_bytes=65_535,
    connection_window_bytes=262_144,
    max_message_bytes=50_000,
    max_inflated_bytes=20_000,
    max_partial_bytes=100_000,
    max_header_block_bytes=20_000,
    max_header_list_bytes=4_000,
    control_burst=1_000,
    reset_burst=100,
)

PREAMBLE = frame.PREFACE + frame.settings_frame({})

_ids = st.integers(0, 12)
_flags = st.integers(0, 255)
_payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 300).map(lambda n: message(bytes(n))),
    st.integers(0, 2**32 - 1).map(frame.U32.pack),
)
_frames = st.one_of(
    st.builds(frame.frame, st.integers(0, 11), _flags, _ids, _payloads),
    st.builds(opening, st.sampled_from([1, 3, 5, 7, 9]), flags=st.sampled_from([4, 5, 0, 12, 36])),
    st.builds(data, st.sampled_from([1, 3, 5]), _payloads, ends=st.booleans()),
    st.builds(frame.window_update, _ids, st.integers(0, 2**31 - 1)),
    st.builds(frame.rst_stream, st.sampled_from([1, 3, 5]), st.just(Code.CANCEL)),
    st.builds(
        frame.settings_frame,
        st.dictionaries(
            st.integers(0, 9),
            st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 100)),
            max_size=2,
        ),
    ),
)


def cut(said: bytes, sizes: list[int]) -> list[bytes]:
    """`said` in reads of these sizes, over and over."""
    reads: list[bytes] = []
    at, turn = 0, 0
    while at < len(said):
        size = sizes[turn % len(sizes)]
        reads.append(said[at : at + size])
        at += size
        turn += 1
    return reads


def hold_to_the_rules(pair: Pair, reads: list[bytes]) -> None:
    """Hand over the reads; the client answers nothing."""
    for read in reads:
        pair.say(read)
        pair.heard()  # asserts that frames are whole
        server = pair.server
        assert len(server.streams) <= LIMITS.max_streams
        parts = [len(s.reader.part or b"") for s in server.streams.values()]
        assert sum(parts) <= LIMITS.max_partial_bytes
        buffered = server.buffered()
        assert buffered.unfinished_messages == sum(parts)
        assert buffered.frame <= frame.DEFAULT_FRAME_BYTES + frame.HEAD_BYTES
        assert buffered.header_block <= LIMITS.max_header_block_bytes
        assert not any(s.inbox for s in server.streams.values())
        if server.is_over:
            assert not server.streams
    pair.server.lost()
    assert not pair.server.streams
    assert pair.server.buffered()[2:] == (0, 0, 0)
    for call in pair.calls:
        assert call.ended <= 1
        assert call.resets <= 1
        assert call.ended + call.resets + len(call.faults) >= 1 or call.stream.closed


@settings(max_examples=150, deadline=None)
@given(said=st.binary(max_size=2000), greets=st.booleans())
def test_arbitrary_bytes(said: bytes, greets: bool) -> None:
    pair = Pair(LIMITS, echoes=True, greets=greets)
    hold_to_the_rules(pair, [said])


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(_frames, max_size=40),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_frames_in_any_order_cut_anywhere(frames: list[bytes], sizes: list[int]) -> None:
    pair = Pair(LIMITS, echoes=True, greets=False)
    hold_to_the_rules(pair, cut(PREAMBLE + b"".join(frames), sizes))


def conversation() -> bytes:
    """Three calls of several messages each, with everything a client may send."""
    return PREAMBLE + b"".join(
        [
            opening(1, ("grpc-timeout", "10S"), ("x-bin", "AAE=")),
            data(1, message(b"one") + message(b"two")[:4]),
            opening(3),
            data(1, message(b"two")[4:]),
            frame.frame(frame.PING, 0, 0, b"12345678"),
            data(3, message(bytes(3000))),
            frame.window_update(0, 70_000),
            data(1, message(b"three"), ends=True),
            opening(5),
            frame.rst_stream(5, Code.CANCEL),
            data(3, b"", ends=True),
        ]
    )


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    dropped=st.integers(0, 4000),
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=4),
)
def test_damaged_conversations(
    changes: list[tuple[int, int]], dropped: int, sizes: list[int]
) -> None:
    said = bytearray(conversation())
    for at, value in changes:
        said[at % len(said)] = value
    if changes:
        del said[dropped % len(said) :][:1]
    hold_to_the_rules(Pair(LIMITS, echoes=True, greets=False), cut(bytes(said), sizes))


@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_a_conversation_means_the_same_however_it_is_cut(sizes: list[int]) -> None:
    pair = Pair(LIMITS, echoes=True, greets=False)
    for read in cut(conversation(), sizes):
        pair.say(read)
    assert [call.messages for call in pair.calls] == [
        [b"one", b"two", b"three"],
        [bytes(3000)],
        [],
    ]
    assert [(call.ended, call.resets) for call in pair.calls] == [(1, 0), (1, 0), (0, 1)]
    kinds = [one.kind for one in pair.heard() if one.kind in (frame.DATA, frame.HEADERS)]
    assert kinds.count(frame.DATA) == 4
    assert kinds.count(frame.HEADERS) == 4
    assert pair.server.fault is None
