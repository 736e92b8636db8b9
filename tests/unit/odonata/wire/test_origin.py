"""What a request says of its origin comes out of both messages that carry it."""

from __future__ import annotations

from typing import Any

import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly.download import download_from_wire, download_to_wire
from odonata.wire.dragonfly.origin import origin_in, origin_of_download
from peer.runtime.port import SourceOptions

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
OPTIONS = SourceOptions(
    region="r",
    endpoint="e",
    access_key_id="i",
    access_key_secret="s",
    session_token="t",
    security_token="u",
    credential_path="p",
    predefined_acl="a",
    insecure_skip_verify=True,
    delegation_token="d",
    certificate_chain=(b"one", b"two"),
)


def test_every_field_is_read_from_a_download() -> None:
    download = download_from_wire(common_pb2.Download(url="s3://b/k", **SAID))
    assert SourceOptions(**origin_of_download(download)) == OPTIONS
    again = download_from_wire(download_to_wire(download))
    assert origin_of_download(again) == origin_of_download(download)


def test_every_field_is_read_from_a_request_to_list() -> None:
    request = dfdaemon_pb2.ListTaskEntriesRequest(url="s3://b/", **SAID)
    assert SourceOptions(**origin_in(request)) == OPTIONS


@pytest.mark.parametrize("hub", ["hugging_face", "model_scope", "open_csg"])
def test_a_hub_s_fields_are_read(hub: str) -> None:
    message = common_pb2.Download(url="hf://o/r/f")
    said = getattr(message, hub)
    said.token, said.revision, said.base_url = "t", "v1", "https://hub.test"
    options = SourceOptions(**origin_of_download(download_from_wire(message)))
    assert options == SourceOptions(token="t", revision="v1", base_url="https://hub.test")


def test_what_says_nothing_leaves_everything_open() -> None:
    download = download_from_wire(common_pb2.Download(url="http://h/f"))
    assert origin_of_download(download) == {}
    assert origin_in(dfdaemon_pb2.ListTaskEntriesRequest(url="s3://b/")) == {}
