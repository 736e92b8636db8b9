"""What peers say of persistent tasks, read by our scheduler's own reader, and its answers back."""

from __future__ import annotations

from typing import Any

import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2

from odonata.errors import CallerError, ProtocolError
from odonata.wire import message as m
from odonata.wire.dragonfly import DownloadProgress, PeerRequest, PieceArrived, TaskStarted
from odonata.wire.dragonfly import persistent as codec
from odonata.wire.dragonfly.rule import check_request
from odonata.wire.message import TaskType
from scheduler.core.persistent.event import PiecesFinished
from scheduler.core.persistent.event import Register as Registered
from scheduler.runtime.persistent.wire import request_from_wire

CACHE, STORED = TaskType.PERSISTENT_CACHE, TaskType.PERSISTENT
PIECE = m.Piece(number=3, offset=12, length=4, digest="crc32:1", parent_id="p")
STORAGE = common_pb2.ObjectStorage(
    region="eu", endpoint="http://s3", access_key_id="AK", access_key_secret="SECRET",
    session_token="TOKEN", security_token="TOKEN", insecure_skip_verify=True,
)  # fmt: skip
SHARED: list[tuple[m.PeerMessage, object]] = [
    (m.Started(), m.Started()),
    (m.Finished(), m.Finished()),
    (m.Failed(description="why"), m.Failed(description="why")),
    (m.PieceFinished(piece=PIECE), PiecesFinished(numbers=(3,))),
    (m.PieceFailed(parent_id="p", number=3), m.PieceFailed(parent_id="p", number=3)),
    (
        m.Reschedule(parent_ids=("p", "q"), description="why"),
        m.Reschedule(parent_ids=("p", "q"), description="why"),
    ),
]
OF_SOURCE: list[tuple[m.PeerMessage, object]] = [
    (m.BackToSourceStarted(description="why"), m.BackToSourceStarted(description="why")),
    (m.BackToSourceFinished(), m.BackToSourceFinished()),
    (m.BackToSourceFailed(description="why"), m.BackToSourceFailed(description="why")),
    (m.PieceBackToSourceFinished(piece=PIECE), PiecesFinished(numbers=(3,))),
    (m.PieceBackToSourceFailed(number=3), m.PieceBackToSourceFailed(number=3)),
    (
        m.PieceBackToSourceFailed(answer=m.SourceAnswer(message="no", status_code=403)),
        m.PieceBackToSourceFailed(answer=m.SourceAnswer(message="no", status_code=403)),
    ),
]


def written(kind: TaskType, message: m.PeerMessage, peers: dict[str, Any] | None = None) -> Any:
    request = PeerRequest(host_id="h", task_id="t", peer_id="me", message=message)
    return codec.persistent_request_to_wire(kind, request, peers or {})


@pytest.mark.parametrize(
    ("kind", "message", "read"),
    [(kind, *pair) for kind in (CACHE, STORED) for pair in SHARED]
    + [(STORED, *pair) for pair in OF_SOURCE],
)
def test_each_message_is_read_as_it_was_meant(
    kind: TaskType, message: m.PeerMessage, read: object
) -> None:
    request = request_from_wire(written(kind, message))
    assert (request.host_id, request.task_id, request.peer_id) == ("h", "t", "me")
    assert request.message == read


def test_every_member_of_the_streams_is_written() -> None:
    """A message that the API gains must be looked at: this compares with its descriptors."""
    registers = {
        CACHE: m.Register(download=download(CACHE)),
        STORED: m.Register(download=download()),
    }
    for kind, more in ((CACHE, []), (STORED, OF_SOURCE)):
        messages = [registers[kind], *(message for message, _ in SHARED + more)]
        members = {written(kind, message).WhichOneof("request") for message in messages}
        descriptor = written(kind, m.Started()).DESCRIPTOR.oneofs_by_name["request"]
        assert members == {field.name for field in descriptor.fields}


def download(kind: TaskType = STORED) -> m.Download:
    extra = common_pb2.Download(object_storage=STORAGE).SerializeToString()
    return m.Download(
        type=kind,
        url="s3://b/k" if kind is STORED else "",
        tag="t",
        application="a",
        output_path="/out",
        concurrent_piece_count=4,
        actual_content_length=9,
        actual_piece_length=8 * 1024 * 1024,
        actual_piece_count=1,
        tenure=m.Tenure(persistent=True, ttl_s=60, created_at_s=1),
        extra=extra if kind is STORED else b"",
    )


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_a_register_says_what_is_known(kind: TaskType) -> None:
    wire = written(kind, m.Register(download=download(kind)))
    assert request_from_wire(wire).message == Registered(persistent=True, concurrent_piece_count=4)
    part = getattr(wire, wire.WhichOneof("request"))
    assert (part.piece_count, part.output_path) == (1, "/out")
    if kind is CACHE:
        assert (part.tag, part.application, part.piece_length) == ("t", "a", 8 * 1024 * 1024)
    else:
        assert part.url == "s3://b/k"


def test_no_secret_is_told_to_a_scheduler() -> None:
    wire = written(STORED, m.Register(download=download()))
    storage = wire.register_persistent_peer_request.object_storage
    assert (storage.region, storage.endpoint, storage.insecure_skip_verify) == (
        "eu", "http://s3", True,
    )  # fmt: skip
    for secret in (b"AK", b"SECRET", b"TOKEN"):
        assert secret not in wire.SerializeToString()


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_a_reschedule_names_parents_in_full(kind: TaskType) -> None:
    """Dragonfly's scheduler refuses bare ids; what it named goes back as it came."""
    peer_type = common_pb2.PersistentCachePeer if kind is CACHE else common_pb2.PersistentPeer
    peer = peer_type(id="p", state="Running", persistent=True)
    peer.host.id = "h1"
    wire = written(kind, m.Reschedule(parent_ids=("p", "q")), {"p": peer})
    part = getattr(wire, wire.WhichOneof("request"))
    assert list(part.candidate_parents) == [peer, peer_type(id="q")]


def answered(kind: TaskType) -> tuple[Any, Any]:
    """An answer with a parent, and the parent in it."""
    if kind is CACHE:
        response = scheduler_pb2.AnnouncePersistentCachePeerResponse()
        part = response.normal_persistent_cache_task_response
        return response, part.candidate_cache_parents.add(id="p", state="Running")
    stored = scheduler_pb2.AnnouncePersistentPeerResponse()
    named = stored.normal_persistent_task_response.candidate_parents
    return stored, named.add(id="p", state="Running")


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_answers_are_read(kind: TaskType) -> None:
    response, peer = answered(kind)
    peer.host.id, peer.host.ip, peer.host.port = "h1", "10.0.0.1", 4000
    peer.task.id, peer.task.content_length, peer.task.piece_count = "t", 9, 1
    answer, peers = codec.persistent_answer_from_wire(kind, response)
    assert isinstance(answer, m.NormalTask)
    [parent] = answer.parents
    assert (parent.peer_id, parent.host.ip, parent.host.port) == ("p", "10.0.0.1", 4000)
    assert parent.task == m.TaskFacts(id="t", content_length=9, piece_count=1)
    assert peers == [peer]


def test_empty_and_back_to_source_are_read() -> None:
    stored = scheduler_pb2.AnnouncePersistentPeerResponse()
    stored.need_back_to_source_response.description = "why"
    assert codec.persistent_answer_from_wire(STORED, stored) == (
        m.NeedBackToSource(description="why"), [],
    )  # fmt: skip
    cached = scheduler_pb2.AnnouncePersistentCachePeerResponse()
    cached.empty_persistent_cache_task_response.SetInParent()
    assert codec.persistent_answer_from_wire(CACHE, cached) == (m.EmptyTask(), [])


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_answers_that_say_nothing_are_refused(kind: TaskType) -> None:
    name = f"Announce{codec.WORDS[kind][0]}PeerResponse"
    with pytest.raises(ProtocolError):
        codec.persistent_answer_from_wire(kind, getattr(scheduler_pb2, name)())
    response, _ = answered(kind)
    getattr(response, response.WhichOneof("response")).Clear()
    with pytest.raises(ProtocolError, match="without a single parent"):
        codec.persistent_answer_from_wire(kind, response)


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_what_a_daemon_holds_goes_there_and_back(kind: TaskType) -> None:
    copy = codec.LocalCopy(
        task_id="t", persistent=True, ttl_s=60.0, piece_length=4, content_length=9,
        created_at_s=5.0, updated_at_s=6.0, finished_at_s=7.0,
    )  # fmt: skip
    assert codec.local_copy_from_wire(codec.local_copy_to_wire(kind, copy)) == copy
    unknown = codec.LocalCopy(task_id="t", persistent=False, ttl_s=60.0)
    assert codec.local_copy_from_wire(codec.local_copy_to_wire(kind, unknown)) == unknown


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_progress_goes_there_and_back(kind: TaskType) -> None:
    for step, read in (
        (TaskStarted(content_length=0), 0),
        (TaskStarted(content_length=9), 9),
        (PieceArrived(piece=PIECE, content=b"1234"), PieceArrived(piece=PIECE, content=b"1234")),
    ):
        progress = DownloadProgress(host_id="h", task_id="t", peer_id="p", step=step)
        wire = codec.persistent_progress_to_wire(kind, progress)
        assert (wire.host_id, wire.task_id, wire.peer_id) == ("h", "t", "p")
        assert codec.persistent_step_from_wire(kind, wire) == read
    empty = codec.dfdaemon_message(kind, "Download{}TaskResponse")
    with pytest.raises(ProtocolError):
        codec.persistent_step_from_wire(kind, empty)


@pytest.mark.parametrize("ttl_s", [59.9, 7 * 86400 + 1])
def test_a_time_to_live_has_bounds(ttl_s: float) -> None:
    request = dfdaemon_pb2.UploadPersistentTaskRequest()
    with pytest.raises(CallerError, match="ttl is not set"):
        codec.require_ttl_s(request)
    request.ttl.FromNanoseconds(int(ttl_s * 1e9))
    with pytest.raises(CallerError, match="1 minute to 7 days"):
        codec.require_ttl_s(request)
    request.ttl.FromSeconds(60)
    assert codec.require_ttl_s(request) == 60


@pytest.mark.parametrize("kind", [CACHE, STORED])
def test_what_is_written_obeys_the_rules_of_the_api(kind: TaskType) -> None:
    _, peer = answered(kind)
    for message in (m.Register(download=download(kind)), *(message for message, _ in SHARED)):
        check_request(written(kind, message, {"p": peer, "q": peer}))
