"""Ids against the vectors of Dragonfly's own tests, and the rules that no vector shows."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.ids import (
    DEFAULT_FILTERED_QUERY_PARAMS,
    TASK_ID_LENGTH,
    blob_digest_task_id,
    content_task_id,
    host_id,
    normalize_url,
    peer_id,
    persistent_cache_task_id,
    persistent_task_id,
    piece_id,
    task_id_of,
    url_task_id,
)
from odonata.wire.message import Download

URL = "https://example.com"
HEX = "b2c366cce7e68013d5441c6326d5a3e1b12aeb5ed58564d0fd3fa089bc29cb6e"
BLOB_URL = f"http://localhost:5000/v2/library/ubuntu/blobs/sha256:{HEX}"


# dragonflyoss/client, dragonfly-client-util/src/id_generator: should_generate_task_id.
@pytest.mark.parametrize(
    ("tag", "application", "revision", "piece_length", "expected"),
    [
        (
            "foo",
            "bar",
            "v1.0",
            1024,
            "5844f27a257287e9b734256bb25603d8005422ced8c0377f15063ec11963b25f",
        ),
        (
            "foo",
            "bar",
            None,
            None,
            "06408fbf247ddaca478f8cb9565fe5591c28efd0994b8fea80a6a87d3203c5ca",
        ),
        (
            "foo",
            None,
            None,
            None,
            "3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a",
        ),
        (
            None,
            "bar",
            None,
            None,
            "c9f9261b7305c24371244f9f149f5d4589ed601348fdf22d7f6f4b10658fdba2",
        ),
        (
            None,
            None,
            None,
            1024,
            "9f7c9aafbc6f30f8f41a96ca77eeae80c5b60964b3034b0ee43ccf7b2f9e52b8",
        ),
        (
            None,
            None,
            "v1.0",
            None,
            "b171331534b80e0bf91da38ebbfcdbf4d177898f4b9beac44f14733e3f004d4e",
        ),
        (
            None,
            None,
            None,
            None,
            "457b4328cde278e422c9e243f7bfd1e97f511fec43a80f535cf6b0ef6b086776",
        ),
    ],
)
def test_url_task_ids_are_those_of_dragonfly(
    tag: str | None,
    application: str | None,
    revision: str | None,
    piece_length: int | None,
    expected: str,
) -> None:
    found = url_task_id(
        URL, tag=tag, application=application, revision=revision, piece_length=piece_length
    )
    assert found == expected


def test_filtered_parameters_do_not_count() -> None:
    # Same source: foo and bar filtered leave the id of the bare URL.
    found = url_task_id(f"{URL}?foo=foo&bar=bar", filtered_query_params=["foo", "bar"])
    assert found == url_task_id(URL)


def test_the_order_of_kept_parameters_counts() -> None:
    # Same source, with an empty filter.
    assert url_task_id(f"{URL}/file.txt?b=2&a=1") == (
        "980ee327518ccc5a7c30703e1a2232e8ba9047b39431f940636c85b6146f8b9a"
    )
    assert url_task_id(f"{URL}/file.txt?a=1&b=2") != url_task_id(f"{URL}/file.txt?b=2&a=1")


def test_empty_parts_count_as_absent() -> None:
    # dfget always sends tag and application, empty if the user gave none.
    assert url_task_id(URL, tag="", application="") == url_task_id(URL)


# Expected texts computed with Rust's url crate 2.5.8 (parse, filter `ns`, extend_pairs, to_string,
# trim), which is what Dragonfly's client 1.5.1 does.
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("HTTP://Example.COM:80/a/./b/../c?b=2&a=1#f", "http://example.com/a/c?b=2&a=1#f"),
        ("https://example.com?ns=docker.io", "https://example.com"),
        ("https://example.com/?NS=docker.io", "https://example.com/?NS=docker.io"),
        ("https://example.com/?x=a b&y=%7e~*&z", "https://example.com/?x=a+b&y=%7E%7E*&z="),
        ("https://example.com/#/", "https://example.com/#"),
        ("https://u:p@ss@example.com/ä?q=ö", "https://u:p%40ss@example.com/%C3%A4?q=%C3%B6"),
        ("s3://Bucket/key with space?versionId=1", "s3://Bucket/key%20with%20space?versionId=1"),
        ("https://example.com/a?", "https://example.com/a"),
        ("https://example.com/a?&&", "https://example.com/a"),
        ("https://example.com/a?x=%ff&y=+%2B", "https://example.com/a?x=%EF%BF%BD&y=+%2B"),
        ("hf://owner/repo/file", "hf://owner/repo/file"),
    ],
)
def test_urls_are_written_as_rust_writes_them(url: str, expected: str) -> None:
    assert normalize_url(url, ["ns"]) == expected


@given(
    st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4),
    st.sets(st.sampled_from(["ns", "Expires", "x"])),
)
def test_normalizing_twice_changes_nothing(
    pairs: list[tuple[str, str]], filtered: set[str]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs).replace("#", "")
    once = normalize_url(f"https://example.com/a?{query}", filtered)
    assert normalize_url(once, filtered) == once


def test_a_presigned_url_keeps_its_id_when_it_is_signed_again() -> None:
    ids = {
        url_task_id(
            f"https://s3.test/b/o?X-Amz-Date={date}&X-Amz-Signature={date}&versionId=3",
            filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS,
        )
        for date in ("20260101T000000Z", "20260102T000000Z")
    }
    assert len(ids) == 1


def test_the_default_filter_is_dragonflys() -> None:
    # dfdaemon's default: 8 for S3, 6 for GCS, 4 for OSS, 3 more for OBS, 8 for COS, `ns`.
    assert len(DEFAULT_FILTERED_QUERY_PARAMS) == len(set(DEFAULT_FILTERED_QUERY_PARAMS)) == 30


def test_a_relative_url_is_refused() -> None:
    with pytest.raises(CallerError, match="no scheme"):
        url_task_id("example.com/file")


def test_content_ids() -> None:
    # Same source.
    assert content_task_id("This is a test file") == (
        "e2d0fe1585a63ec6009c8016ff8dda8b17719a637405a4e23c0ff81339148249"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (BLOB_URL, HEX),
        (f"{BLOB_URL}?ns=docker.io", HEX),
        (f"https://r.test/v2/a/b/blobs/sha512:{'0f' * 64}", "0f" * 64),
        ("https://r.test/v2/a/blobs/sha256:abc", None),
        ("https://r.test/v2/a/blobs/md5:8a04994a666b4e4b20a2fd9e5a44f44c", None),
        ("https://r.test/v2/a/manifests/latest", None),
        ("https://example.com/file.txt", None),
    ],
)
def test_blob_ids_are_the_digest_itself(url: str, expected: str | None) -> None:
    assert blob_digest_task_id(url) == expected


def test_persistent_ids() -> None:
    # Same source: should_generate_persistent_task_id.
    found = persistent_task_id(
        "my-object-key", region="us-west-1", endpoint="https://s3.us-west-1.amazonaws.com"
    )
    assert found == "b51f4f44921bb585277a5cbac13e7f6e2858238e98546f3ee6bfeb56369979c0"


@pytest.mark.parametrize(
    ("tag", "application", "piece_length", "expected"),
    [
        ("tag1", "app1", 1024, "7160a071a9acea5ac341e770c14d0211c38a4b15b3bbe2c5f848a706fd47419e"),
        (None, "app1", None, "0d0f8536f51227fda07141308f5ae8149b561b51b61c6517125f25dfa27acf5b"),
        ("tag1", None, None, "a98b76813681e30cf83733fe055792b86393bba6f18e3d89fd8c18253922d992"),
        (None, None, 1024, "e894374a39e39cfa78c409cac02f2cdbb5605a24f5ff55c7bc2b624877556c03"),
    ],
)
def test_persistent_cache_ids(
    tag: str | None, application: str | None, piece_length: int | None, expected: str
) -> None:
    # Same source: should_generate_persistent_cache_task_id.
    for content in (b"This is a test file", [b"This is", b"", b" a test file"]):
        found = persistent_cache_task_id(
            content, tag=tag, application=application, piece_length=piece_length
        )
        assert found == expected


def test_given_content_wins_over_the_digest_and_the_digest_over_the_url() -> None:
    by_url = Download(url=BLOB_URL, tag="t")
    by_digest = Download(url=BLOB_URL, tag="t", enable_task_id_based_blob_digest=True)
    by_content = Download(
        url=BLOB_URL,
        tag="t",
        enable_task_id_based_blob_digest=True,
        content_for_calculating_task_id="c",
    )
    assert task_id_of(by_url) == url_task_id(BLOB_URL, tag="t")
    assert task_id_of(by_digest) == HEX
    assert task_id_of(by_content) == hashlib.sha256(b"c").hexdigest()


def test_every_part_of_a_download_reaches_its_id() -> None:
    full = Download(
        url=f"{URL}?ns=docker.io",
        tag="foo",
        application="bar",
        revision="v1.0",
        piece_length=1024,
        filtered_query_params=("ns",),
    )
    assert task_id_of(full).startswith("5844f27a257287e9")


def test_digests_that_fit_no_piece_request_go_by_url() -> None:
    url = f"https://r.test/v2/a/b/blobs/sha512:{'0f' * 64}"
    found = task_id_of(Download(url=url, enable_task_id_based_blob_digest=True))
    assert found == url_task_id(url)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_task_ids_always_fit_a_piece_request(tag: str) -> None:
    found = task_id_of(Download(url=URL, tag=tag))
    assert re.fullmatch(r"[0-9a-f]+", found)
    assert len(found) == TASK_ID_LENGTH


def test_hosts_peers_and_pieces() -> None:
    # Same source: should_generate_host_id, should_generate_peer_id.
    assert host_id("127.0.0.1", "localhost") == "127.0.0.1-localhost"
    assert host_id("127.0.0.1", "localhost", is_seed=True) == "127.0.0.1-localhost-seed"
    uuid = "2f3c2f0e-2d1e-4a52-9f4e-0c8f6d3f9a11"
    assert peer_id("127.0.0.1", "localhost", uuid) == f"127.0.0.1-localhost-{uuid}"
    assert peer_id("10.0.0.1", "s", uuid, is_seed=True) == f"10.0.0.1-s-{uuid}-seed"
    assert piece_id("a" * 64, 7) == "a" * 64 + "-7"
