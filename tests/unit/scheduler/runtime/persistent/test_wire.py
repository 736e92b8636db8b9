"""Requests about persistent tasks: every rule, and every member of the announce streams."""

from __future__ import annotations

from typing import Any

import pytest
from dragonfly_api import common_pb2, scheduler_pb2

from odonata.errors import CallerError
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Failed,
    Finished,
    PieceBackToSourceFailed,
    PieceFailed,
    Reschedule,
    Started,
)
from scheduler.core.persistent.event import PiecesFinished, Register
from scheduler.core.persistent.state import Kind
from scheduler.runtime.persistent.wire import (
    READERS,
    plain,
    request_from_wire,
    upload_from_wire,
)

MIB = 1024 * 1024
STREAMS: dict[Kind, Any] = {
    Kind.PERSISTENT: scheduler_pb2.AnnouncePersistentPeerRequest,
    Kind.PERSISTENT_CACHE: scheduler_pb2.AnnouncePersistentCachePeerRequest,
}
UPLOADS: dict[Kind, Any] = {
    Kind.PERSISTENT: scheduler_pb2.UploadPersistentTaskStartedRequest,
    Kind.PERSISTENT_CACHE: scheduler_pb2.UploadPersistentCacheTaskStartedRequest,
}
EXPECTED = {
    "register_peer_request": Register,
    "download_peer_started_request": Started,
    "download_peer_back_to_source_started_request": BackToSourceStarted,
    "reschedule_peer_request": Reschedule,
    "download_peer_finished_request": Finished,
    "download_peer_back_to_source_finished_request": BackToSourceFinished,
    "download_peer_failed_request": Failed,
    "download_peer_back_to_source_failed_request": BackToSourceFailed,
    "download_piece_finished_request": PiecesFinished,
    "download_piece_back_to_source_finished_request": PiecesFinished,
    "download_piece_failed_request": PieceFailed,
    "download_piece_back_to_source_failed_request": PieceBackToSourceFailed,
}


def spoken(kind: Kind, member: str) -> Any:
    """A message that breaks no rule."""
    request = STREAMS[kind](host_id="h", task_id="t", peer_id="p")
    part = getattr(request, member)
    part.SetInParent()
    name = plain(member)
    if name == "register_peer_request" and kind is Kind.PERSISTENT:
        part.url = "s3://b/k"
    if name == "reschedule_peer_request":
        part.candidate_parents.add(id="x")
    if name.startswith("download_piece") and name.endswith("finished_request"):
        part.piece.number = 3
    if name == "download_piece_failed_request":
        part.parent_id = "x"
    return request


def upload(kind: Kind, **fields: Any) -> Any:
    """A request to upload that breaks no rule, but for `fields`."""
    own: dict[str, Any] = {"piece_length": 4 * MIB}
    if kind is Kind.PERSISTENT:
        own = {"url": "s3://b/k"}
    said = {
        "host_id": "h",
        "task_id": "t",
        "peer_id": "p",
        "persistent_replica_count": 2,
        "content_length": 5 * MIB,
        "piece_count": 2,
        "ttl": {"seconds": 60},
        **own,
        **fields,
    }
    return UPLOADS[kind](**{name: value for name, value in said.items() if value is not None})


def test_every_member_of_the_streams_has_a_reader() -> None:
    assert set(READERS) == set(EXPECTED)
    for kind, stream in STREAMS.items():
        members = [field.name for field in stream.DESCRIPTOR.oneofs_by_name["request"].fields]
        for member in members:
            read = request_from_wire(spoken(kind, member))
            assert (read.host_id, read.task_id, read.peer_id) == ("h", "t", "p")
            assert isinstance(read.message, EXPECTED[plain(member)]), member


@pytest.mark.parametrize("kind", list(Kind), ids=str)
@pytest.mark.parametrize("field", ["host_id", "task_id", "peer_id"])
def test_ids_are_asked_for(kind: Kind, field: str) -> None:
    member = next(iter(STREAMS[kind].DESCRIPTOR.oneofs_by_name["request"].fields)).name
    request = spoken(kind, member)
    request.ClearField(field)
    with pytest.raises(CallerError, match=f"{field} is empty"):
        request_from_wire(request)
    with pytest.raises(CallerError, match=f"{field} is empty"):
        upload_from_wire(upload(kind, **{field: ""}))


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_a_message_must_say_something(kind: Kind) -> None:
    with pytest.raises(CallerError, match=r"request of an Announce.* is not set"):
        request_from_wire(STREAMS[kind](host_id="h", task_id="t", peer_id="p"))


@pytest.mark.parametrize("kind", list(Kind), ids=str)
@pytest.mark.parametrize(
    ("member", "field", "message"),
    [
        ("reschedule_{}_peer_request", "candidate_parents", "is empty: name at least one parent"),
        ("download_piece_finished_request", "piece", "is not set: name the piece"),
        ("download_piece_failed_request", "parent_id", "is empty"),
    ],
)
def test_parts_are_asked_for(kind: Kind, member: str, field: str, message: str) -> None:
    name = member.format(str(kind).replace("-", "_"))
    request = spoken(kind, name)
    getattr(request, name).ClearField(field)
    with pytest.raises(CallerError, match=f"{name}.{field} {message}"):
        request_from_wire(request)


def test_a_register_is_checked_by_its_kind() -> None:
    stored = spoken(Kind.PERSISTENT, "register_persistent_peer_request")
    stored.register_persistent_peer_request.url = "no url"
    with pytest.raises(CallerError, match="url 'no url' is not an absolute URI"):
        request_from_wire(stored)
    cached = spoken(Kind.PERSISTENT_CACHE, "register_persistent_cache_peer_request")
    cached.register_persistent_cache_peer_request.piece_length = 5
    with pytest.raises(CallerError, match="piece_length 5 is too small"):
        request_from_wire(cached)
    cached.register_persistent_cache_peer_request.piece_length = 0
    read = request_from_wire(cached).message
    assert read == Register(concurrent_piece_count=8), "Dragonfly's default"


BOTH: list[tuple[dict[str, Any], str]] = [
    ({"persistent_replica_count": 0}, "persistent_replica_count 0 is too small"),
    ({"ttl": None}, "ttl is not set"),
    ({"ttl": {"seconds": 59}}, "ttl 59 s is out of bounds"),
    ({"ttl": {"seconds": 604801}}, "ttl 604801 s is out of bounds"),
    ({"ttl": {"seconds": -1}}, "ttl -1 s is out of bounds"),
    ({"piece_count": 0}, "piece_count 0 can't hold content_length"),
    ({"piece_count": 2**21}, "piece_count 2097152 is too large"),
]


@pytest.mark.parametrize("kind", list(Kind), ids=str)
@pytest.mark.parametrize(("fields", "message"), BOTH)
def test_an_upload_is_checked(kind: Kind, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        upload_from_wire(upload(kind, **fields))


def test_an_upload_is_checked_by_its_kind() -> None:
    with pytest.raises(CallerError, match="url '' is not an absolute URI"):
        upload_from_wire(upload(Kind.PERSISTENT, url=""))
    with pytest.raises(CallerError, match="piece_length 1 is too small"):
        upload_from_wire(upload(Kind.PERSISTENT_CACHE, piece_length=1))


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_the_bounds_of_an_upload_are_within_it(kind: Kind) -> None:
    for ttl_s in (60, 7 * 24 * 3600):
        assert upload_from_wire(upload(kind, ttl={"seconds": ttl_s})).task.ttl_s == ttl_s
    empty = upload_from_wire(upload(kind, content_length=0, piece_count=0)).task
    assert (empty.content_length, empty.piece_count) == (0, 0)


def test_no_secret_of_the_object_storage_is_kept() -> None:
    storage = common_pb2.ObjectStorage(
        region="r",
        endpoint="https://e",
        access_key_id="AK",
        access_key_secret="SK",
        session_token="ST",
        security_token="SE",
        credential_path="/etc/key.json",
        insecure_skip_verify=True,
    )
    task = upload_from_wire(upload(Kind.PERSISTENT, object_storage=storage)).task
    kept = common_pb2.ObjectStorage.FromString(task.storage)
    assert kept == common_pb2.ObjectStorage(
        region="r", endpoint="https://e", credential_path="/etc/key.json", insecure_skip_verify=True
    )
