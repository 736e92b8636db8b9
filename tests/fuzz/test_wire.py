"""Every converter between protobuf and our values, under messages of any content and any bytes.

Whatever a message says: a value or one of our errors. And what was taken can be written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from google.protobuf.message import DecodeError, Message
from hypothesis import strategies as st
from support.fuzzing import Campaign, Edit, damage, edits
from support.message_strategy import messages

from odonata.errors import OdonataError
from odonata.wire import contact, dragonfly
from odonata.wire.dragonfly import extension, feature
from odonata.wire.dragonfly.rule import check_request
from odonata.wire.dragonfly.source_detail import source_error_from_details

Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any] | None

CONVERTERS: tuple[tuple[type[Message], Reader, Writer], ...] = (
    (common_pb2.Download, dragonfly.download_from_wire, dragonfly.download_to_wire),
    (common_pb2.Piece, dragonfly.piece_from_wire, dragonfly.piece_to_wire),
    (common_pb2.Range, dragonfly.range_from_wire, dragonfly.range_to_wire),
    (common_pb2.Host, dragonfly.host_from_wire, dragonfly.host_to_wire),
    (common_pb2.Host, dragonfly.check_host, None),
    (scheduler_pb2.AnnouncePeerRequest, dragonfly.request_from_wire, dragonfly.request_to_wire),
    (scheduler_pb2.AnnouncePeerResponse, dragonfly.answer_from_wire, dragonfly.answer_to_wire),
    (
        dfdaemon_pb2.DownloadTaskRequest,
        dragonfly.download_request_from_wire,
        dragonfly.download_request_to_wire,
    ),
    (dfdaemon_pb2.DownloadTaskResponse, dragonfly.progress_from_wire, dragonfly.progress_to_wire),
    (
        dfdaemon_pb2.SyncPiecesRequest,
        dragonfly.wanted_pieces_from_wire,
        dragonfly.wanted_pieces_to_wire,
    ),
    (
        dfdaemon_pb2.SyncPiecesResponse,
        dragonfly.held_piece_from_wire,
        dragonfly.held_piece_to_wire,
    ),
    (
        dfdaemon_pb2.StatLocalTaskResponse,
        dragonfly.local_task_from_wire,
        dragonfly.local_task_to_wire,
    ),
    (scheduler_pb2.DownloadPieceFailedRequest, extension.wrong_digest_in, None),
    (contact.HoldRequest, contact.held_from_wire, None),
)
CHECKED = [
    message
    for module in (scheduler_pb2, dfdaemon_pb2)
    for name, message in sorted(vars(module).items())
    if name.endswith("Request")
]


def _read(kind: type[Message], read: Reader, write: Writer, messages_: Iterable[Message]) -> None:
    for message in messages_:
        value = refusal = None
        try:
            value = read(message)
        except OdonataError as error:
            refusal = error
        if refusal is not None:
            assert refusal.code != "internal", refusal
            assert len(refusal.detail) < 4096, "an error is for people to read"
        elif write is not None:
            again = write(value)
            assert isinstance(again, kind)
            again.SerializeToString()
            read(again)


def _damaged(kind: type[Message], message: Message, changes: list[Edit]) -> list[Message]:
    """The message, and what is left of it after damage, if that is one."""
    try:
        return [message, kind.FromString(damage(message.SerializeToString(), changes))]
    except DecodeError:
        return [message]


def test_converters(campaign: Campaign) -> None:
    def check(drawn: tuple[int, Message], changes: list[Edit]) -> None:
        number, message = drawn
        kind, read, write = CONVERTERS[number]
        _read(kind, read, write, _damaged(kind, message, changes))

    campaign.run(
        check,
        st.one_of(
            [
                st.tuples(st.just(number), messages(kind.DESCRIPTOR))
                for number, (kind, _, _) in enumerate(CONVERTERS)
            ]
        ),
        edits,
        examples=250,
    )


def test_rules_of_requests(campaign: Campaign) -> None:
    def check(message: Message, changes: list[Edit]) -> None:
        _read(type(message), check_request, None, _damaged(type(message), message, changes))

    every = st.one_of([messages(kind.DESCRIPTOR) for kind in CHECKED])
    campaign.run(check, every, edits, examples=80)


def test_status_details_and_metadata(campaign: Campaign) -> None:
    def check(details: bytes, text: str) -> None:
        source_error_from_details(details)
        share = feature.share_in(((feature.SHARE_KEY, text),))
        assert share is None or 0 <= share.index < share.count <= feature.MAX_SHARE_COUNT
        feature.features_in(((feature.FEATURES_KEY, text),))

    texts = st.text(max_size=20) | st.from_regex(r"\A\d{1,4}/\d{1,4}\Z")
    campaign.run(check, st.binary(max_size=100), texts, examples=80)
