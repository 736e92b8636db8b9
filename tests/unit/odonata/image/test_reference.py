"""Names of images: what they say, and what is none."""

from __future__ import annotations

import pytest

from odonata.errors import CallerError
from odonata.image.reference import parse_image_reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("name", "registry", "repository", "reference"),
    [
        ("reg.test/lib/image:v1", "https://reg.test", "lib/image", "v1"),
        ("reg.test:5000/image", "https://reg.test:5000", "image", "latest"),
        ("http://localhost:5000/a/b/c:1.0_x-y", "http://localhost:5000", "a/b/c", "1.0_x-y"),
        ("registry:5000/a:v", "https://registry:5000", "a", "v"),
        ("docker.io/library/alpine:3", "https://registry-1.docker.io", "library/alpine", "3"),
        (f"reg.test/a@{DIGEST}", "https://reg.test", "a", DIGEST),
        (f"reg.test/a:tag@{DIGEST}", "https://reg.test", "a", DIGEST),
        ("[::1]:5000/a:v", "https://[::1]:5000", "a", "v"),
    ],
)
def test_a_name_taken_apart(name: str, registry: str, repository: str, reference: str) -> None:
    found = parse_image_reference(name)
    assert (found.registry, found.repository, found.reference) == (registry, repository, reference)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "alpine",
        "library/alpine",  # no registry: not looked for at Docker Hub
        "reg.test",
        "reg.test/",
        "reg.test/Upper:v1",
        "reg.test/a:",
        "reg.test/a@sha256:abc",
        "reg.test/a b",
        "user@reg.test/a",
        "ftp://reg.test/a",
        "reg.test/../a",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(CallerError, match="REGISTRY/REPOSITORY:TAG"):
        parse_image_reference(name)
