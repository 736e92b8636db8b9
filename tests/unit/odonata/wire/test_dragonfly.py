"""The mapping to Dragonfly's API v2: there and back, presence kept, and every rule of the API."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from hypothesis import given
from hypothesis import strategies as st
from support import wire_strategy as wire

from odonata.errors import CallerError, ProtocolError, SourceError
from odonata.wire import dragonfly
from odonata.wire.dragonfly import announce, source_detail
from odonata.wire.dragonfly.parent import UNKNOWN_CONTENT_LENGTH
from odonata.wire.message import (
    Download,
    EmptyTask,
    Host,
    HostType,
    NormalTask,
    Parent,
    PeerMessage,
    Piece,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    SchedulerAnswer,
    TaskFacts,
    TrafficType,
)


def without_memory(value: Host) -> Host:
    return msgspec.structs.replace(value, announcement=b"")


def forget(parent: Parent) -> Parent:
    return msgspec.structs.replace(parent, host=without_memory(parent.host))


# --- there and back -------------------------------------------------------------------------------


@given(wire.hosts)
def test_a_host_comes_back_as_it_went(host: Host) -> None:
    back = dragonfly.host_from_wire(dragonfly.host_to_wire(host))
    assert without_memory(back) == host


@given(wire.downloads)
def test_a_download_comes_back_as_it_went(download: Download) -> None:
    sent = common_pb2.Download.FromString(dragonfly.download_to_wire(download).SerializeToString())
    back = dragonfly.download_from_wire(sent)
    assert msgspec.structs.replace(back, extra=b"") == download


@given(wire.downloads, wire.downloads)
def test_the_fields_of_a_download_win_over_the_message_it_came_in(
    first: Download, second: Download
) -> None:
    arrived = dragonfly.download_to_wire(first).SerializeToString()
    laid = msgspec.structs.replace(second, extra=arrived)
    back = dragonfly.download_from_wire(dragonfly.download_to_wire(laid))
    assert msgspec.structs.replace(back, extra=b"") == second


@given(wire.pieces)
def test_a_piece_comes_back_as_it_went(piece: Piece) -> None:
    assert dragonfly.piece_from_wire(dragonfly.piece_to_wire(piece)) == piece


@given(wire.parents)
def test_a_parent_comes_back_as_it_went(parent: Parent) -> None:
    assert forget(dragonfly.parent_from_wire(dragonfly.parent_to_wire(parent))) == parent


@given(wire.ids, wire.ids, wire.ids, wire.peer_messages)
def test_a_peer_message_comes_back_as_it_went(
    host_id: str, task_id: str, peer_id: str, message: PeerMessage
) -> None:
    request = dragonfly.PeerRequest(
        host_id=host_id, task_id=task_id, peer_id=peer_id, message=message
    )
    sent = dragonfly.request_to_wire(request).SerializeToString()
    back = dragonfly.request_from_wire(scheduler_pb2.AnnouncePeerRequest.FromString(sent))
    if isinstance(back.message, Register):
        download = msgspec.structs.replace(back.message.download, extra=b"")
        back = msgspec.structs.replace(back, message=Register(download=download))
    assert back == request


@given(wire.answers)
def test_a_scheduler_answer_comes_back_as_it_went(answer: SchedulerAnswer) -> None:
    sent = dragonfly.answer_to_wire(answer).SerializeToString()
    back = dragonfly.answer_from_wire(scheduler_pb2.AnnouncePeerResponse.FromString(sent))
    if isinstance(back, NormalTask):
        back = NormalTask(parents=tuple(forget(parent) for parent in back.parents))
    assert back == answer


@given(
    wire.ids,
    st.builds(
        dragonfly.TaskStarted,
        content_length=wire.lengths,
        range=st.none() | wire.ranges,
        response_header=wire.headers,
        pieces=st.lists(wire.pieces, max_size=3).map(tuple),
        is_finished=st.booleans(),
    )
    | st.builds(
        dragonfly.PieceArrived,
        piece=wire.pieces,
        content=st.none() | st.binary(max_size=9),
        others=st.lists(
            st.builds(
                Piece,
                number=st.integers(0, 2**32 - 1),
                offset=st.integers(0, 2**62),
                length=st.integers(0, 2**62),
                traffic_type=st.sampled_from(TrafficType),
            ),
            max_size=3,
        ).map(tuple),
    ),
)
def test_download_progress_comes_back_as_it_went(
    name: str, step: dragonfly.TaskStarted | dragonfly.PieceArrived
) -> None:
    progress = dragonfly.DownloadProgress(host_id=name, task_id=name, peer_id=name, step=step)
    assert dragonfly.progress_from_wire(dragonfly.progress_to_wire(progress)) == progress


@given(
    st.builds(
        dragonfly.HeldPiece,
        number=wire.numbers,
        offset=wire.lengths,
        length=wire.lengths,
        ip=wire.text,
        tcp_port=st.none() | wire.ports,
        quic_port=st.none() | wire.ports,
    )
)
def test_a_held_piece_comes_back_as_it_went(held: dragonfly.HeldPiece) -> None:
    assert dragonfly.held_piece_from_wire(dragonfly.held_piece_to_wire(held)) == held


@given(wire.ids, st.lists(wire.numbers, max_size=5))
def test_wanted_pieces_come_back_as_they_went(name: str, numbers: list[int]) -> None:
    wanted = dragonfly.WantedPieces(host_id=name, task_id=name, numbers=tuple(numbers))
    assert dragonfly.wanted_pieces_from_wire(dragonfly.wanted_pieces_to_wire(wanted)) == wanted


@given(
    st.builds(
        dragonfly.LocalTask,
        task_id=wire.text,
        piece_length=st.none() | wire.lengths,
        content_length=st.none() | wire.lengths,
        response_header=wire.headers,
        uploading_count=wire.lengths,
        uploaded_count=wire.lengths,
        created_at_s=wire.durations_s,
        updated_at_s=wire.durations_s,
        prefetched_at_s=st.none() | wire.durations_s,
        failed_at_s=st.none() | wire.durations_s,
        finished_at_s=st.none() | wire.durations_s,
    )
)
def test_a_local_task_comes_back_as_it_went(task: dragonfly.LocalTask) -> None:
    assert dragonfly.local_task_from_wire(dragonfly.local_task_to_wire(task)) == task


def test_what_a_daemon_adds_to_a_local_task_is_skipped_by_others_and_may_be_nonsense() -> None:
    wire_form = dragonfly.local_task_to_wire(
        dragonfly.LocalTask(task_id="t", url="http://x.test/é", held_count=0)
    )
    assert wire_form.task_id == "t"
    told = dragonfly.local_task_from_wire(wire_form)
    assert (told.url, told.held_count) == ("http://x.test/é", 0)
    stock = dragonfly.local_task_from_wire(dfdaemon_pb2.StatLocalTaskResponse(task_id="t"))
    assert (stock.url, stock.held_count) == ("", None)
    noise = wire_form.SerializeToString().replace("é".encode(), b"\xff\xff")
    hostile = dragonfly.local_task_from_wire(dfdaemon_pb2.StatLocalTaskResponse.FromString(noise))
    assert (hostile.task_id, isinstance(hostile.url, str)) == ("t", True)


@given(st.floats(-1e9, 4e9))
def test_a_duration_comes_back_to_the_nanosecond(value_s: float) -> None:
    message = dragonfly.duration_to_wire(value_s)
    message.ToNanoseconds()  # raises unless seconds and nanos agree, as protobuf asks
    assert math.isclose(dragonfly.duration_from_wire(message), value_s, rel_tol=1e-15, abs_tol=1e-9)


@given(st.floats(-1e9, 4e9))
def test_a_timestamp_comes_back_to_the_nanosecond(value_s: float) -> None:
    message = dragonfly.timestamp_to_wire(value_s)
    assert 0 <= message.nanos < 1_000_000_000
    assert math.isclose(
        dragonfly.timestamp_from_wire(message), value_s, rel_tol=1e-15, abs_tol=1e-9
    )


@pytest.mark.parametrize("value_s", [2.0**63, -(2.0**63), 1e300, float("inf"), float("-inf")])
def test_times_that_no_calendar_has_are_written_as_the_nearest_ones(value_s: float) -> None:
    """A peer may say them of a piece; whoever repeats that to others must not fail for it."""
    dragonfly.duration_to_wire(value_s).ToNanoseconds()
    dragonfly.timestamp_to_wire(value_s).ToJsonString()  # raises outside of the years 1 to 9999
    piece = Piece(number=0, offset=0, length=1, cost_s=value_s, created_at_s=value_s)
    dragonfly.piece_to_wire(piece).SerializeToString()


# --- what is kept ---------------------------------------------------------------------------------


def test_every_kind_of_request_and_answer_has_a_reader() -> None:
    oneof = scheduler_pb2.AnnouncePeerRequest.DESCRIPTOR.oneofs_by_name["request"]
    assert {field.name for field in oneof.fields} == set(announce.READERS)
    answers = scheduler_pb2.AnnouncePeerResponse.DESCRIPTOR.oneofs_by_name["response"]
    for field in answers.fields:
        response = scheduler_pb2.AnnouncePeerResponse()
        member = getattr(response, field.name)
        member.SetInParent()
        if field.name == "normal_task_response":
            member.candidate_parents.add(id="p")
        dragonfly.answer_from_wire(response)


def test_the_mapping_looks_at_every_field_of_a_download() -> None:
    """A field that a newer API adds is kept in `extra`; this list says which ones are only kept."""
    only_kept = {
        "certificate_chain",
        "object_storage",
        "hdfs",
        "remote_ip",
        "hugging_face",
        "model_scope",
        "open_csg",
    }
    renamed = {"timeout": "timeout_s", "scheduling_policy": "always_schedule"}
    names = {renamed.get(f.name, f.name) for f in common_pb2.Download.DESCRIPTOR.fields}
    mapped = {field.name for field in msgspec.structs.fields(Download)}
    ours = {"extra", "revision", "source_share", "no_p2p", "tenure"}
    assert names - only_kept == mapped - ours


def test_what_a_download_has_a_field_for_is_not_kept_twice() -> None:
    sent = common_pb2.Download(
        url="http://x/y",
        request_header={"authorization": "Bearer secret"},
        filtered_query_params=["sig"],
        tag="t",
        need_back_to_source=True,
        range=common_pb2.Range(start=1, length=2),
    )
    assert dragonfly.download_from_wire(sent).extra == b""
    assert sent.request_header["authorization"] == "Bearer secret", "the message stays as it is"
    sent.remote_ip = "10.0.0.1"
    alone = common_pb2.Download(remote_ip="10.0.0.1").SerializeToString()
    assert dragonfly.download_from_wire(sent).extra == alone


def test_credentials_and_unknown_fields_survive_to_the_seed() -> None:
    sent = common_pb2.Download(url="s3://b/k", certificate_chain=[b"c"], output_path="/x")
    sent.object_storage.access_key_secret = "k"
    raw = sent.SerializeToString() + bytes([0xBA, 0x3E, 0x01, 0x61])  # field 999, "a"
    download = dragonfly.download_from_wire(common_pb2.Download.FromString(raw))
    for_seed = msgspec.structs.replace(download, need_back_to_source=True, output_path=None)
    out = dragonfly.download_to_wire(for_seed)
    assert out.object_storage.access_key_secret == "k"
    assert list(out.certificate_chain) == [b"c"]
    assert out.need_back_to_source
    assert not out.HasField("output_path")
    assert out.SerializeToString().endswith(bytes([0xBA, 0x3E, 0x01, 0x61]))


def test_unset_and_zero_stay_apart() -> None:
    unset = dragonfly.download_from_wire(common_pb2.Download(url="http://a/b"))
    assert unset.actual_content_length is None
    zero = dragonfly.download_from_wire(
        common_pb2.Download(url="http://a/b", actual_content_length=0)
    )
    assert zero.actual_content_length == 0
    assert not dragonfly.download_to_wire(unset).HasField("actual_content_length")
    assert dragonfly.download_to_wire(zero).HasField("actual_content_length")


def test_a_host_is_repeated_with_all_it_said_of_itself() -> None:
    said = common_pb2.Host(id="h", hostname="n", ip="10.0.0.1", port=4000, os="linux", type=7)
    said.cpu.logical_count = 8
    said.network.max_rx_bandwidth = 5
    said.network.tx_bandwidth = 9
    host = dragonfly.host_from_wire(said)
    assert host.type is HostType.NORMAL
    assert dragonfly.host_to_wire(host) == said
    busier = msgspec.structs.replace(host, tx_bandwidth_bits_per_s=11)
    again = dragonfly.host_to_wire(busier)
    assert (again.network.tx_bandwidth, again.network.max_rx_bandwidth) == (11, 5)
    assert again.cpu.logical_count == 8


def test_a_host_that_said_nothing_of_its_network_stays_silent() -> None:
    said = common_pb2.Host(id="h", hostname="n", ip="10.0.0.1", port=4000)
    assert not dragonfly.host_to_wire(dragonfly.host_from_wire(said)).HasField("network")


def test_a_parent_is_a_full_peer_as_dragonfly_writes_it() -> None:
    parent = Parent(
        peer_id="p",
        host=Host(id="h", hostname="n", ip="10.0.0.1", port=4000),
        state="Running",
        task=TaskFacts(id="t", url="http://a/b", content_length=9, piece_count=1),
        finished_pieces=(0,),
    )
    peer = dragonfly.parent_to_wire(parent)
    assert (peer.id, peer.state, peer.host.ip, peer.host.port) == ("p", "Running", "10.0.0.1", 4000)
    assert (peer.task.content_length, peer.task.piece_count) == (9, 1)
    assert [piece.number for piece in peer.pieces] == [0]
    for required in ("cost", "task", "host", "created_at", "updated_at"):
        assert peer.HasField(required), required


@pytest.mark.parametrize(
    ("length", "pieces", "known"),
    [(UNKNOWN_CONTENT_LENGTH, 0, None), (2**63, 3, None), (0, 3, None), (0, 0, 0), (7, 0, 7)],
)
def test_an_unknown_content_length_is_dragonflys_minus_one(
    length: int, pieces: int, known: int | None
) -> None:
    assert dragonfly.content_length_from_wire(length, pieces) == known
    assert dragonfly.content_length_to_wire(None) == UNKNOWN_CONTENT_LENGTH


def test_a_parent_without_a_task_tells_nothing_of_the_content() -> None:
    parent = dragonfly.parent_from_wire(common_pb2.Peer(id="p"))
    assert parent.task.content_length is None


def test_a_reschedule_names_known_parents_in_full_for_dragonflys_scheduler() -> None:
    parent = dragonfly.parent_from_wire(
        common_pb2.Peer(id="p", state="Running", pieces=[common_pb2.Piece(number=1)])
    )
    request = dragonfly.PeerRequest(
        host_id="h", task_id="t", peer_id="c", message=Reschedule(parent_ids=("p", "q"))
    )
    sent = dragonfly.request_to_wire(request, {"p": parent}).reschedule_peer_request
    first, second = sent.candidate_parents
    assert (first.id, first.state, first.HasField("host"), len(first.pieces)) == (
        "p",
        "Running",
        True,
        0,
    )
    assert second.id == "q"


def test_traffic_that_was_not_said_follows_from_the_message() -> None:
    request = scheduler_pb2.AnnouncePeerRequest(host_id="h", task_id="t", peer_id="p")
    request.download_piece_back_to_source_finished_request.piece.number = 3
    message = dragonfly.request_from_wire(request).message
    assert not isinstance(message, PieceFinished)
    assert "BACK_TO_SOURCE" in repr(message)
    piece = dragonfly.piece_from_wire(common_pb2.Piece(number=1))
    assert piece.traffic_type is TrafficType.REMOTE_PEER


# --- the rules of the API -------------------------------------------------------------------------


def request_of(**member: object) -> scheduler_pb2.AnnouncePeerRequest:
    return scheduler_pb2.AnnouncePeerRequest(host_id="h", task_id="t", peer_id="p", **member)  # type: ignore[arg-type]  # one of the oneof's members


def register(**fields: object) -> scheduler_pb2.AnnouncePeerRequest:
    download = common_pb2.Download(**{"url": "http://a/b", **fields})  # type: ignore[arg-type]  # fields under test
    return request_of(register_peer_request=scheduler_pb2.RegisterPeerRequest(download=download))


@pytest.mark.parametrize("field", ["host_id", "task_id", "peer_id"])
@pytest.mark.parametrize("value", ["", "x" * 1025])
def test_ids_must_be_set_and_of_reasonable_length(field: str, value: str) -> None:
    request = request_of(download_peer_started_request={})
    setattr(request, field, value)
    with pytest.raises(CallerError, match=field):
        dragonfly.request_from_wire(request)


def test_the_oneof_must_be_set() -> None:
    with pytest.raises(CallerError, match="request of an AnnouncePeerRequest"):
        dragonfly.request_from_wire(request_of())


@pytest.mark.parametrize(
    "request_message",
    [
        request_of(register_peer_request={}),
        request_of(download_piece_finished_request={}),
        request_of(download_piece_back_to_source_finished_request={}),
        request_of(download_piece_failed_request={}),
        request_of(reschedule_peer_request={}),
        request_of(reschedule_peer_request={"candidate_parents": [{"id": ""}]}),
    ],
    ids=lambda request: str(request.WhichOneof("request")),
)
def test_a_member_without_its_required_part_is_refused(
    request_message: scheduler_pb2.AnnouncePeerRequest,
) -> None:
    kind = request_message.WhichOneof("request")
    assert kind is not None
    with pytest.raises(CallerError, match=kind):
        dragonfly.request_from_wire(request_message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": ""}, r"download\.url '' is not an absolute URI"),
        ({"url": "a/b"}, r"download\.url 'a/b'"),
        ({"url": "http://a/b c"}, r"download\.url"),
        ({"url": "http://a/\n"}, r"download\.url"),
        ({"piece_length": 4 * wire.MIB - 1}, r"piece_length 4194303 .* 4194304"),
        ({"piece_length": 0}, r"piece_length 0 "),
        ({"digest": "sha256"}, r"digest 'sha256' is not a digest"),
        ({"type": 9}, r"type 9 is unknown"),
        ({"priority": 7}, r"priority 7 is unknown"),
        ({"timeout": dragonfly.duration_to_wire(-1.5)}, r"timeout -1\.5 s is not from 0"),
    ],
)
def test_a_download_is_held_to_the_rules(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        dragonfly.request_from_wire(register(**fields))


def test_a_refused_url_does_not_show_its_credentials() -> None:
    with pytest.raises(CallerError) as caught:
        dragonfly.request_from_wire(register(url="http://user:secret@host/a b?sig=secret"))
    assert "secret" not in caught.value.detail
    assert "//host/a b" in caught.value.detail


def test_a_piece_length_of_4_mib_is_allowed() -> None:
    request = dragonfly.request_from_wire(register(piece_length=4 * wire.MIB))
    assert isinstance(request.message, Register)


def test_piece_number_zero_is_a_number() -> None:
    failed = request_of(download_piece_failed_request={"parent_id": "q", "piece_number": 0})
    assert dragonfly.request_from_wire(failed).message == PieceFailed(
        parent_id="q", number=0, temporary=False
    )


@pytest.mark.parametrize(
    "response",
    [
        scheduler_pb2.AnnouncePeerResponse(),
        scheduler_pb2.AnnouncePeerResponse(normal_task_response={}),
    ],
)
def test_an_answer_that_says_nothing_is_the_schedulers_fault(
    response: scheduler_pb2.AnnouncePeerResponse,
) -> None:
    with pytest.raises(ProtocolError):
        dragonfly.answer_from_wire(response)
    assert dragonfly.answer_to_wire(EmptyTask()).WhichOneof("response") == "empty_task_response"


def test_progress_that_says_nothing_is_the_daemons_fault() -> None:
    with pytest.raises(ProtocolError):
        dragonfly.progress_from_wire(dfdaemon_pb2.DownloadTaskResponse(host_id="h"))


def test_a_download_request_without_download_is_refused() -> None:
    with pytest.raises(CallerError, match="download of a DownloadTaskRequest is not set"):
        dragonfly.download_request_from_wire(dfdaemon_pb2.DownloadTaskRequest())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, r"host\.id is empty"),
        ({"hostname": ""}, r"host\.hostname is empty"),
        ({"ip": "seed.local"}, r"host\.ip 'seed\.local' is not an IP address: set host\.ip"),
        ({"ip": "[::1]"}, r"host\.ip"),
        ({"ip": "0.0.0.0"}, r"host\.ip '0\.0\.0\.0' is the wildcard"),
        ({"port": 0}, r"host\.port 0"),
        ({"port": 65536}, r"host\.port 65536"),
    ],
)
def test_a_host_must_be_reachable_as_announced(change: dict[str, object], message: str) -> None:
    host = Host(id="h", hostname="n", ip="10.0.0.1", port=4000)
    assert dragonfly.check_host(host) == host
    with pytest.raises(CallerError, match=message):
        dragonfly.check_host(msgspec.structs.replace(host, **change))


# --- what a source said ---------------------------------------------------------------------------


def test_a_source_error_is_the_json_of_a_backend_as_rust_daemons_write_it() -> None:
    """dfdaemon.md §13: the details are the JSON itself, not a google.rpc.Status."""
    error = SourceError("not here", status_code=404, header={"server": "x"})
    details = dragonfly.source_error_to_details(error)
    assert json.loads(details) == {
        "message": "not here",
        "header": {"server": "x"},
        "status_code": 404,
    }


def test_a_source_error_without_status_has_a_null() -> None:
    details = dragonfly.source_error_to_details(SourceError("refused"))
    assert json.loads(details)["status_code"] is None


@given(wire.text, st.none() | st.integers(100, 599), wire.headers)
def test_a_source_error_comes_back_as_it_went(
    message: str, status_code: int | None, header: dict[str, str]
) -> None:
    error = SourceError(message, status_code=status_code, header=header)
    back = dragonfly.source_error_from_details(dragonfly.source_error_to_details(error))
    assert back is not None
    assert (back.detail, back.status_code, back.header) == (message, status_code, header)


@given(st.text(max_size=3000), st.dictionaries(wire.ids, st.text(max_size=3000), max_size=5))
def test_details_always_fit_into_trailers(message: str, header: dict[str, str]) -> None:
    error = SourceError(message, status_code=500, header=header)
    details = dragonfly.source_error_to_details(error)
    assert len(details) <= source_detail.MAX_DETAILS_BYTES
    back = dragonfly.source_error_from_details(details)
    assert back is not None
    assert back.status_code == 500


@given(st.binary(max_size=40))
def test_foreign_details_are_not_a_source_error(details: bytes) -> None:
    error = dragonfly.source_error_from_details(details)
    assert error is None or details.lstrip().startswith(b"{")


@pytest.mark.parametrize("seconds", [-315_576_000_001, 315_576_000_001, 2**63 - 1])
def test_a_timeout_that_no_clock_holds_is_refused(seconds: int) -> None:
    """It would come back out as a Duration that protobuf can't write, on its way to a seed."""
    message = common_pb2.Download(url="http://o/x")
    message.timeout.seconds = seconds
    with pytest.raises(CallerError, match=r"download\.timeout"):
        dragonfly.download_from_wire(message)


@pytest.mark.parametrize("field", ["actual_content_length", "actual_piece_length"])
def test_a_length_that_no_content_has_reads_as_unknown(field: str) -> None:
    """Dragonfly's scheduler writes -1 for a length it does not know; a peer may repeat that."""
    message = common_pb2.Download(url="http://o/x")
    setattr(message, field, UNKNOWN_CONTENT_LENGTH)
    download = dragonfly.download_from_wire(message)
    assert getattr(download, field) is None
    assert not dragonfly.download_to_wire(download).HasField(field)
