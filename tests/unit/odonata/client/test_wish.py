"""What a request says, from keywords and from other filesystems' options."""

from __future__ import annotations

from typing import Any, cast

import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.client import Hdfs, ModelHub, ObjectStorage, Options
from odonata.client.inner_option import authority_of, name_of, options_of, path_of
from odonata.client.wish import features_of, header_of, make_download, part
from odonata.errors import CallerError
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, task_id_of, url_task_id
from odonata.wire.dragonfly import download_to_wire
from odonata.wire.dragonfly.content_file import ContentFile, content_file_in, say_content_file
from odonata.wire.dragonfly.origin import list_request_to_wire
from odonata.wire.message import ByteRange
from odonata.wire.origin import OriginOptions

URL = "https://host/path"


def wire(**options: Any) -> common_pb2.Download:
    return download_to_wire(make_download(URL, cast("Options", options)))


def test_a_bare_request_is_dfgets() -> None:
    download = make_download(URL, {})
    assert task_id_of(download) == url_task_id(URL)
    assert download.filtered_query_params == DEFAULT_FILTERED_QUERY_PARAMS
    assert make_download(URL, {"filtered_query_params": ()}).filtered_query_params == ()


def test_every_option_has_its_field() -> None:
    message = wire(
        header={"A": "b"},
        digest=f"sha256:{'a' * 64}",
        tag="t",
        application="app",
        priority=3,
        piece_length=4 * 1024 * 1024,
        content_for_calculating_task_id="c",
        disable_back_to_source=True,
        timeout_s=2.5,
        object_storage=ObjectStorage(region="r", access_key_secret="s", insecure_skip_verify=True),
        hdfs=Hdfs(delegation_token="d"),
        hugging_face=ModelHub(token="t", revision="v1"),
        certificate_chain=(b"der",),
    )
    assert dict(message.request_header) == {"A": "b"}
    assert (message.tag, message.application, message.priority) == ("t", "app", 3)
    assert (message.piece_length, message.timeout.nanos) == (4 * 1024 * 1024, 500_000_000)
    assert message.content_for_calculating_task_id == "c"
    assert message.disable_back_to_source
    assert message.object_storage == common_pb2.ObjectStorage(
        region="r", access_key_secret="s", insecure_skip_verify=True
    )
    assert message.hdfs.delegation_token == "d"
    assert (message.hugging_face.token, message.hugging_face.revision) == ("t", "v1")
    assert list(message.certificate_chain) == [b"der"]
    assert not message.HasField("model_scope")


def test_a_hubs_revision_counts_in_the_id() -> None:
    one = make_download(URL, {"hugging_face": ModelHub(revision="v1")})
    assert task_id_of(one) == url_task_id(URL, revision="v1")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"digest": "sha256:xyz"}, "64 hex digits"),
        ({"piece_length": 5}, "piece_length"),
        ({"piece_length": -5}, "piece_length"),
        ({"priority": 7}, "priority"),
        ({"colour": "red"}, "colour"),
        ({"no_p2p": True, "disable_back_to_source": True}, "nobody to ask"),
    ],
)
def test_a_wrong_option_is_said_by_name(options: dict[str, Any], word: str) -> None:
    with pytest.raises(CallerError, match=word):
        make_download(URL, cast("Options", options))
    with pytest.raises(CallerError, match="url"):
        make_download("no url", {})


def test_revalidation_is_a_header_whatever_was_said_before() -> None:
    options: Options = {"header": {"cache-control": "max-age=9"}, "revalidate": True}
    assert header_of(options) == {"Cache-Control": "no-cache"}


def test_no_peers_is_told_beside_the_message() -> None:
    assert features_of(make_download(URL, {"no_p2p": True})) == ("no-p2p",)
    assert features_of(make_download(URL, {})) == ()


def test_a_part_is_not_measured_by_the_digest_of_the_whole() -> None:
    whole = make_download(URL, {"digest": f"sha256:{'a' * 64}"})
    assert part(whole, None).digest == whole.digest
    assert part(whole, ByteRange(start=0, length=1)).digest is None


def test_a_listing_is_asked_for_with_the_same_options() -> None:
    options = OriginOptions(object_storage=ObjectStorage(region="r"))
    message = list_request_to_wire("s3://b/", {"A": "b"}, options)
    assert (message.url, message.object_storage.region) == ("s3://b/", "r")


def test_a_daemons_file_is_said_and_read_and_strangers_skip_it() -> None:
    message = dfdaemon_pb2.DownloadTaskStartedResponse(content_length=5)
    assert content_file_in(message) is None
    told = ContentFile(path="/ä", device=2**40, inode=7)
    say_content_file(message, told)
    again = dfdaemon_pb2.DownloadTaskStartedResponse.FromString(message.SerializeToString())
    assert content_file_in(again) == told
    assert again.content_length == 5


@pytest.mark.parametrize(
    ("protocol", "told", "field", "wanted"),
    [
        (
            "s3",
            {"key": "k", "secret": "s", "token": "t", "endpoint_url": "e", "anon": False},
            "object_storage",
            ObjectStorage(
                access_key_id="k", access_key_secret="s", session_token="t", endpoint="e"
            ),
        ),
        (
            "s3",
            {"client_kwargs": {"endpoint_url": "e", "region_name": "r", "verify": False}},
            "object_storage",
            ObjectStorage(endpoint="e", region="r", insecure_skip_verify=True),
        ),
        ("gs", {"token": "/creds"}, "object_storage", ObjectStorage(credential_path="/creds")),
        (
            "abfs",
            {"account_name": "n", "account_key": "k"},
            "object_storage",
            ObjectStorage(access_key_id="n", access_key_secret="k"),
        ),
        ("https", {"headers": {"A": "b"}}, "header", {"A": "b"}),
        ("hf", {"token": "t", "revision": "v"}, "hugging_face", ModelHub(token="t", revision="v")),
        ("webhdfs", {"host": "h", "token": "t"}, "hdfs", Hdfs(delegation_token="t")),
        ("s3", {}, "object_storage", ObjectStorage()),
    ],
)
def test_options_of_other_filesystems_are_understood(
    protocol: str, told: dict[str, Any], field: str, wanted: object
) -> None:
    assert dict(options_of(protocol, told))[field] == wanted


@pytest.mark.parametrize(
    ("protocol", "told", "word"),
    [
        ("s3", {"profile": "me"}, "'profile' of s3"),
        ("s3", {"key": 5}, "no text"),
        ("https", {"auth": "x"}, "'auth' of https"),
        ("ftp", {"tls": True}, "no option at all"),
    ],
)
def test_an_option_that_the_daemon_can_not_be_told_is_refused(
    protocol: str, told: dict[str, Any], word: str
) -> None:
    with pytest.raises(CallerError, match=word):
        options_of(protocol, told)


def test_the_host_of_a_url_comes_back_from_options() -> None:
    told = {"host": "h", "port": 21, "username": "a b", "password": "x@y"}
    assert authority_of("ftp", told) == "a%20b:x%40y@h:21"
    assert authority_of("webhdfs", {"host": "h"}) == "h"
    assert authority_of("s3", told) == ""


@pytest.mark.parametrize(
    ("protocol", "name", "path"),
    [
        ("s3", "bucket/a b/100%?#", "bucket/a%20b/100%25%3F%23"),
        ("ftp", "/d/€", "/d/%E2%82%AC"),
        ("https", "https://host.test/a%20b?c=d", "https://host.test/a%20b?c=d"),
        ("hf", "org/repo/a b@1", "org/repo/a%20b%401"),
        ("hf", "org/repo@v1/a b", "org/repo@v1/a%20b"),
        ("hf", "datasets/org/repo@refs%2Fpr%2F1/x%", "datasets/org/repo@refs%2Fpr%2F1/x%25"),
        ("hf", "org", "org"),
    ],
)
def test_names_of_other_filesystems_become_those_of_urls_and_back(
    protocol: str, name: str, path: str
) -> None:
    assert path_of(protocol, name) == path
    assert name_of(protocol, path) == name


def test_revisions_of_the_hub_itself_may_be_written_plain() -> None:
    assert path_of("hf", "org/repo@refs/pr/1/a b") == "org/repo@refs%2Fpr%2F1/a%20b"
    assert path_of("hf", "org/repo@refs/convert/parquet/x") == "org/repo@refs%2Fconvert%2Fparquet/x"
