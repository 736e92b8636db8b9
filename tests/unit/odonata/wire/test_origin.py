"""What is told of an origin comes out of both messages that carry it as it went in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly.download import download_from_wire, download_to_wire
from odonata.wire.dragonfly.origin import (
    lay_origin_options,
    list_request_to_wire,
    listing_from_wire,
    listing_to_wire,
    origin_in,
    origin_of_download,
)
from odonata.wire.origin import (
    NO_OPTIONS,
    Entry,
    Hdfs,
    Listing,
    ModelHub,
    ObjectStorage,
    OriginOptions,
)

SAID: dict[str, Any] = {
    "object_storage": common_pb2.ObjectStorage(
        region="r",
        endpoint="e",
        access_key_id="i",
        access_key_secret="s",
        session_token="t",
        credential_path="p",
        predefined_acl="a",
        security_token="u",
        insecure_skip_verify=True,
    ),
    "hdfs": common_pb2.HDFS(delegation_token="d"),
    "certificate_chain": [b"one", b"two"],
}
OPTIONS = OriginOptions(
    object_storage=ObjectStorage(
        region="r",
        endpoint="e",
        access_key_id="i",
        access_key_secret="s",
        session_token="t",
        security_token="u",
        credential_path="p",
        predefined_acl="a",
        insecure_skip_verify=True,
    ),
    hdfs=Hdfs(delegation_token="d"),
    certificate_chain=(b"one", b"two"),
)


def test_every_field_is_read_from_a_download_and_written_to_one() -> None:
    message = common_pb2.Download(url="s3://b/k", **SAID)
    download = download_from_wire(message)
    assert origin_of_download(download) == OPTIONS
    assert origin_of_download(download_from_wire(download_to_wire(download))) == OPTIONS
    written = common_pb2.Download(url="s3://b/k")
    lay_origin_options(written, OPTIONS)
    assert written == message


def test_every_field_is_read_from_a_request_to_list_and_written_to_one() -> None:
    request = dfdaemon_pb2.ListTaskEntriesRequest(url="s3://b/", **SAID)
    assert origin_in(request) == OPTIONS
    assert list_request_to_wire("s3://b/", {}, OPTIONS) == request


@pytest.mark.parametrize("hub", ["hugging_face", "model_scope", "open_csg"])
def test_a_hub_s_fields_are_read(hub: str) -> None:
    message = common_pb2.Download(url="hf://o/r/f")
    said = getattr(message, hub)
    said.token, said.revision, said.base_url = "t", "v1", "https://hub.test"
    options = origin_of_download(download_from_wire(message))
    told = ModelHub(token="t", revision="v1", base_url="https://hub.test")
    assert getattr(options, hub) == told
    assert options.hub == told
    assert msgspec.structs.replace(options, **{hub: None}) == NO_OPTIONS


def test_the_revision_of_a_download_is_its_hub_s() -> None:
    said = common_pb2.HuggingFace(token="t", revision="v1")
    download = download_from_wire(common_pb2.Download(url="hf://o/r/f", hugging_face=said))
    moved = msgspec.structs.replace(download, revision="v2")
    assert origin_of_download(moved).hub == ModelHub(token="t", revision="v2")


def test_what_says_nothing_leaves_everything_open() -> None:
    download = download_from_wire(common_pb2.Download(url="http://h/f"))
    nothing = origin_of_download(download)
    assert nothing == NO_OPTIONS
    assert origin_in(dfdaemon_pb2.ListTaskEntriesRequest(url="s3://b/")) == NO_OPTIONS
    assert (nothing.storage, nothing.web_hdfs, nothing.hub) == (ObjectStorage(), Hdfs(), ModelHub())


def test_nothing_that_is_told_is_shown() -> None:
    hub = ModelHub(token="hush")
    options = msgspec.structs.replace(OPTIONS, hugging_face=hub)
    shown = f"{options!r} {options} {options.storage!r} {options.web_hdfs!r} {hub!r}"
    assert shown == (
        "OriginOptions(...) OriginOptions(...) ObjectStorage(...) Hdfs(...) ModelHub(...)"
    )


def test_what_an_origin_lists_comes_back() -> None:
    found = (
        Entry(url="s3://b/f/", is_dir=True),
        Entry(url="s3://b/f/a", content_length=3),
        Entry(url="s3://b/f/b", content_length=4),
    )
    told = listing_from_wire(listing_to_wire(found))
    assert told == Listing(content_length=7, entries=found)


def test_a_length_that_no_content_has_is_not_known() -> None:
    answer = dfdaemon_pb2.ListTaskEntriesResponse(
        content_length=2**64 - 1, entries=[dfdaemon_pb2.Entry(url="u", content_length=2**63)]
    )
    assert listing_from_wire(answer) == Listing(entries=(Entry(url="u"),))
