"""Manifests as registries send them, and as they should not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError, NotFoundError, OdonataError, SourceError
from odonata.image.manifest import (
    BLOBS_MAX,
    Platform,
    check_digest,
    is_digest,
    own_platform,
    parse_platform,
    read_manifest,
)

AMD = Platform(os="linux", architecture="amd64")


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def read(document: Any, platform: Platform = AMD) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = read_manifest(json.dumps(document).encode(), platform, "manifest v1")
    return found.blobs, found.manifests


def entry(number: int, os: str, architecture: str, variant: str = "") -> dict[str, Any]:
    platform = {"os": os, "architecture": architecture, "variant": variant}
    return {"digest": digest(number), "platform": platform}


def test_blobs_are_the_configuration_and_the_layers_each_once() -> None:
    document = {
        "config": {"digest": digest(1)},
        "layers": [{"digest": digest(2)}, {"digest": digest(3)}, {"digest": digest(2)}],
    }
    assert read(document) == ((digest(1), digest(2), digest(3)), ())


def test_layers_that_registries_do_not_hold_are_left_out() -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    other = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    document = {
        "config": {"digest": digest(1)},
        "layers": [
            {"digest": digest(2), "mediaType": foreign, "urls": ["http://elsewhere.test/"]},
            {"digest": digest(3), "mediaType": other},
            {"digest": digest(4)},
        ],
    }
    assert read(document)[0] == (digest(1), digest(4))


def test_the_old_schema() -> None:
    assert read({"fsLayers": [{"blobSum": digest(1)}, {"blobSum": digest(1)}]})[0] == (digest(1),)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [("linux/amd64", [1]), ("linux/arm", [2, 3]), ("linux/arm/v7", [3]), ("windows/amd64", [4])],
)
def test_of_an_index_what_fits_the_platform(wanted: str, numbers: list[int]) -> None:
    index = {
        "manifests": [
            entry(1, "linux", "amd64"),
            entry(2, "linux", "arm", "v6"),
            entry(3, "linux", "arm", "v7"),
            entry(4, "windows", "amd64"),
            entry(5, "unknown", "unknown"),
        ]
    }
    assert read(index, parse_platform(wanted))[1] == tuple(map(digest, numbers))
    with pytest.raises(NotFoundError) as caught:
        read(index, parse_platform("linux/s390x"))
    assert "manifest v1 has nothing for platform linux/s390x" in caught.value.detail
    assert "linux/amd64, linux/arm/v6" in caught.value.detail


def test_an_entry_without_a_platform_fits_all() -> None:
    assert read({"manifests": [{"digest": digest(1)}]})[1] == (digest(1),)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html>", "is no manifest of an image"),
        (b"[]", "is no manifest of an image"),
        (b'{"layers": [{"digest": 1}]}', "is no manifest of an image"),
        (b"[" * 100_000, "is no manifest of an image"),
        (b"{}", "names neither layers nor manifests"),
        (b'{"layers": [{"digest": "sha256:../../x"}]}', "which is no sha digest"),
        (b'{"layers": [{"digest": "md5:0"}]}', "which is no sha digest"),
    ],
)
def test_what_is_no_manifest(data: bytes, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_manifest(data, AMD, "manifest v1")
    assert said in caught.value.detail


def test_a_manifest_has_a_greatest_number_of_blobs() -> None:
    layers = [{"digest": digest(number)} for number in range(BLOBS_MAX + 1)]
    with pytest.raises(SourceError, match="4097 blobs"):
        read({"layers": layers})


@given(st.binary(max_size=300))
def test_whatever_a_registry_sends_it_is_an_error_of_ours_or_a_manifest(data: bytes) -> None:
    try:
        read_manifest(data, AMD, "manifest")
    except OdonataError as error:
        assert error.detail.startswith("manifest ")  # noqa: PT017  # either way is right


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digests_are_checked(algorithm: str) -> None:
    name = f"{algorithm}:{hashlib.new(algorithm, b'data').hexdigest()}"
    assert is_digest(name)
    check_digest(b"data", name, "manifest")
    with pytest.raises(SourceError, match="does not match its digest"):
        check_digest(b"date", name, "manifest")


def test_tags_are_no_digests() -> None:
    assert not is_digest("v1")
    assert not is_digest("sha256:0")


@pytest.mark.parametrize("text", ["linux", "linux/", "linux/amd64/v8/x", "linux amd64", ""])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(CallerError, match="write it as linux/amd64"):
        parse_platform(text)


def test_the_own_platform_is_written_as_images_write_it() -> None:
    own = own_platform()
    assert parse_platform(str(own)) == own
    assert own.architecture not in ("x86_64", "aarch64")
