"""The rules of Dragonfly's API, row by row, and over whole requests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.wire.dragonfly.rule import (
    MAX_PIECE_LENGTH_BYTES,
    PREHEAT_SCOPES,
    RULES,
    check_request,
)

MIB = 1024 * 1024
URL = "http://origin.test/file"
IDS = {"host_id": "h", "task_id": "t", "peer_id": "p"}


def message_class(name: str) -> Any:
    return getattr(scheduler_pb2, name)


# What a good request needs, by field.
NEEDED: dict[str, Any] = {
    **IDS,
    "url": URL,
    "parent_id": "p2",
    "persistent_replica_count": 2,
    "host": common_pb2.Host(id="h"),
    "piece": common_pb2.Piece(length=1),
    "candidate_parents": [{"id": "p2"}],
}


def good(name: str) -> Any:
    """A request of that name that breaks no rule."""
    descriptor = scheduler_pb2.DESCRIPTOR.message_types_by_name[name]
    given = {key: NEEDED[key] for key in descriptor.fields_by_name if key in NEEDED}
    if name in ("RegisterPersistentCachePeerRequest", "UploadPersistentCacheTaskStartedRequest"):
        given["piece_length"] = 4 * MIB  # has no presence there
    request = message_class(name)(**given)
    if "request" in descriptor.oneofs_by_name:
        members = descriptor.oneofs_by_name["request"].fields
        plain = next(one.name for one in members if one.name.endswith("peer_started_request"))
        getattr(request, plain).SetInParent()
    return request


def breach(request: Message) -> str:
    with pytest.raises(CallerError) as caught:
        check_request(request)
    return caught.value.detail


NAMES = sorted(name.rpartition(".")[2] for name in RULES)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_request_passes(name: str) -> None:
    check_request(good(name))


@pytest.mark.parametrize("name", NAMES)
def test_each_row_of_the_table_names_a_field_of_the_api(name: str) -> None:
    descriptor = scheduler_pb2.DESCRIPTOR.message_types_by_name[name]
    for rule in RULES[f"scheduler.v2.{name}"]:
        assert rule.field in {*descriptor.fields_by_name, *descriptor.oneofs_by_name}


# Field, value (None: cleared), and what the error must say. Applied to every request that has a
# rule for the field.
BREACHES: list[tuple[str, Any, str]] = [
    ("host_id", "", "host_id is empty"),
    ("host_id", "x" * 1025, "host_id 'xxx"),
    ("task_id", "", "task_id is empty"),
    ("peer_id", "", "peer_id is empty"),
    ("parent_id", "", "parent_id is empty"),
    ("url", "", "url '' is not an absolute URI"),
    ("url", "no/scheme", "url 'no/scheme' is not an absolute URI"),
    ("piece_length", 4 * MIB - 1, "piece_length 4194303 is too small"),
    ("scope", "some_peers", "scope 'some_peers' is unknown: use single_seed_peer"),
    ("ips", ["registry.test"], "ips 'registry.test' is not an IP address"),
    ("ips", ["127.0.0.1"] * 101, "ips has 101 addresses"),
    ("percentage", 0, "percentage 0 is not from 1 to 100"),
    ("percentage", 101, "percentage 101 is not from 1 to 100"),
    ("count", 0, "count 0 is not from 1 to 200"),
    ("count", 201, "count 201 is not from 1 to 200"),
    ("concurrent_task_count", 0, "concurrent_task_count 0 is not from 1 to 100"),
    ("concurrent_task_count", 101, "concurrent_task_count 101 is not from 1 to 100"),
    ("concurrent_peer_count", -1, "concurrent_peer_count -1 is not from 1 to 1000"),
    ("concurrent_peer_count", 1001, "concurrent_peer_count 1001 is not from 1 to 1000"),
    ("concurrent_layer_count", 101, "concurrent_layer_count 101 is not from 1 to 100"),
    ("timeout", Duration(seconds=-1), "timeout -1 s is not from 0 to"),
    ("interval", Duration(seconds=-1), "interval -1 s is not from 0 to"),
    ("ttl", Duration(seconds=-1), "ttl -1 s is not from 0 to"),
    ("priority", 7, "priority 7 is unknown: use 0 to 6"),
    ("type", 2, "type 2 is unknown: use 0 (normal) or 1 (super)"),
    ("persistent_replica_count", 0, "persistent_replica_count 0 is too small"),
    ("description", "", "description is set, but empty"),
    ("candidate_parents", None, "candidate_parents is empty"),
    ("host", None, "host of an AnnounceHostRequest is not set"),
    ("piece", None, "piece of a DownloadPiece"),
    ("request", None, "is not set, or of a kind this version does not know"),
]


def broken(name: str, field: str, value: Any) -> Any:
    request = good(name)
    if value is None:
        request.ClearField(field)
    elif isinstance(value, list):
        getattr(request, field).extend(value)
    elif isinstance(value, Message):
        getattr(request, field).CopyFrom(value)
    else:
        setattr(request, field, value)
    return request


@pytest.mark.parametrize(("field", "value", "said"), BREACHES)
def test_a_breach_is_told_with_field_value_and_fix(field: str, value: Any, said: str) -> None:
    seen = 0
    for name in NAMES:
        if any(rule.field == field for rule in RULES[f"scheduler.v2.{name}"]):
            seen += 1
            assert said in breach(broken(name, field, value))
    assert seen, "no request has such a field"


def test_every_row_is_broken_by_some_test() -> None:
    tested = {field for field, _, _ in BREACHES}
    ruled = {rule.field for rules in RULES.values() for rule in rules}
    assert ruled == tested


def test_a_breach_inside_is_told_with_its_path() -> None:
    request = good("AnnouncePersistentPeerRequest")
    request.register_persistent_peer_request.url = "nothing"
    assert breach(request).startswith("register_persistent_peer_request.url 'nothing' is not")
    request = good("AnnouncePersistentCachePeerRequest")
    request.download_piece_failed_request.temporary = True
    assert breach(request).startswith("download_piece_failed_request.parent_id is empty")


def test_unset_is_allowed_where_nothing_is_required() -> None:
    request = scheduler_pb2.PreheatImageRequest(url=URL, scope="", piece_length=0)
    check_request(request)
    check_request(scheduler_pb2.ListHostsRequest())


def test_a_url_is_shown_without_its_secrets() -> None:
    said = breach(scheduler_pb2.StatFileRequest(url="http://u:pass@host/a b?token=abc"))
    assert "'http://host/a b' is not an absolute URI" in said


def test_a_piece_length_that_is_asked_for_has_a_greatest_value() -> None:
    request = scheduler_pb2.PreheatFileRequest(url=URL, piece_length=MAX_PIECE_LENGTH_BYTES + 1)
    assert "piece_length 67108865 is too large" in breach(request)


@given(
    piece_length=st.one_of(st.just(0), st.integers(4 * MIB, MAX_PIECE_LENGTH_BYTES)),
    scope=st.sampled_from(("", *PREHEAT_SCOPES)),
    ips=st.lists(
        st.ip_addresses().map(str).filter(lambda ip: ip not in ("::", "0.0.0.0")), max_size=100
    ),
    percentage=st.integers(1, 100),
    count=st.integers(1, 200),
    tasks=st.integers(1, 100),
    peers=st.integers(1, 1000),
    seconds=st.integers(0, 100_000),
    priority=st.integers(0, 6),
)
def test_all_that_is_within_the_bounds_passes(
    piece_length: int,
    scope: str,
    ips: list[str],
    percentage: int,
    count: int,
    tasks: int,
    peers: int,
    seconds: int,
    priority: int,
) -> None:
    check_request(
        scheduler_pb2.PreheatFileRequest(
            url=URL,
            piece_length=piece_length,
            scope=scope,
            ips=ips,
            percentage=percentage,
            count=count,
            concurrent_task_count=tasks,
            concurrent_peer_count=peers,
            timeout=Duration(seconds=seconds),
            priority=common_pb2.Priority.Name(priority),
        )
    )


@given(data=st.binary(max_size=200), name=st.sampled_from(NAMES))
def test_whatever_comes_it_is_taken_or_refused_never_a_crash(data: bytes, name: str) -> None:
    request = message_class(name)()
    with suppress(DecodeError):  # not a message at all: gRPC's business
        request.ParseFromString(data)
    with suppress(CallerError):
        check_request(request)
