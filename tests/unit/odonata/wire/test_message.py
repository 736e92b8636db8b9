"""Messages: values that can't change, and unions that come back as what they were."""

from __future__ import annotations

import msgspec
import pytest

from odonata.wire.message import (
    Download,
    EmptyTask,
    Host,
    HostType,
    MetadataOnly,
    PeerMessage,
    Piece,
    PieceFinished,
    Register,
    SchedulerAnswer,
    Started,
)


def test_a_message_can_not_be_changed_and_equals_its_twin() -> None:
    piece = Piece(number=1, offset=4, length=4)
    with pytest.raises(AttributeError, match="immutable"):
        piece.number = 2  # type: ignore[misc]  # that it is refused is the point
    assert piece == Piece(number=1, offset=4, length=4)
    assert hash(piece) == hash(Piece(number=1, offset=4, length=4))


def test_headers_of_two_downloads_are_not_shared() -> None:
    one, other = Download(url="http://a.test"), Download(url="http://b.test")
    assert one.request_header is not other.request_header


def test_only_super_hosts_are_seeds() -> None:
    host = Host(id="h", hostname="h", ip="10.0.0.1", port=4000)
    assert not host.is_seed
    assert msgspec.structs.replace(host, type=HostType.SUPER).is_seed


@pytest.mark.parametrize(
    "message",
    [
        Register(download=Download(url="http://a.test", extra=b"\0\1")),
        Started(),
        PieceFinished(piece=Piece(number=1, offset=4, length=4, digest="crc32:1")),
    ],
)
def test_a_recorded_message_comes_back_as_its_own_kind(message: PeerMessage) -> None:
    back = msgspec.json.decode(msgspec.json.encode(message), type=PeerMessage)
    assert back == message
    assert type(back) is type(message)


def test_messages_without_fields_differ_by_kind() -> None:
    answers: list[SchedulerAnswer] = [EmptyTask(), MetadataOnly()]
    assert answers[0] != answers[1]
