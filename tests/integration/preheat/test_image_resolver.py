"""The resolver against registries that no real program would be: wrong, hostile, or just odd."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.guarded_registry import make_certificate
from support.origin import Manners, Origin

from odonata.errors import CallerError, ForbiddenError, NotFoundError, OdonataError, SourceError
from odonata.image.manifest import Platform
from odonata.image.reader import DEPTH_MAX, MANIFEST_BYTES_MAX, MANIFESTS_MAX
from odonata.image.reference import parse_image_url
from scheduler.runtime.image_resolver import ImageQuery, ResolvedImage, resolve_image

AMD = Platform(os="linux", architecture="amd64")
PLACE = "/v2/lib/x/manifests/"
BLOB = f"sha256:{1:064x}"
IMAGE: dict[str, Any] = {"config": {"digest": BLOB}, "layers": []}


def put(origin: Origin, document: Any, reference: str = "", **manners: Any) -> str:
    """Serve a manifest by its digest, or as `reference`; returns what it is called."""
    data = json.dumps(document).encode()
    reference = reference or f"sha256:{hashlib.sha256(data).hexdigest()}"
    origin.add(f"{PLACE}{reference}", data, Manners(**manners))
    return reference


async def resolve(origin: Origin, reference: str = "v1", **query: Any) -> ResolvedImage:
    return await resolve_image(
        ImageQuery(url=origin.url(f"{PLACE}{reference}"), platform=AMD, **query), 10.0
    )


async def error_of(
    kind: type[OdonataError], origin: Origin, reference: str = "v1", **query: Any
) -> str:
    with pytest.raises(kind) as caught:
        await resolve(origin, reference, **query)
    assert type(caught.value) is kind
    return caught.value.detail


async def test_blobs_and_header() -> None:
    async with Origin() as origin:
        put(origin, IMAGE, "v1")
        found = await resolve(origin, header={"x-key": "1"})
        assert found.urls == (origin.url(f"/v2/lib/x/blobs/{BLOB}"),)
        assert found.header == {"x-key": "1"}
        assert [seen.header.get("x-key") for seen in origin.requests] == ["1", "1"]


async def test_an_index_in_an_index_and_not_deeper_than_is_allowed() -> None:
    async with Origin() as origin:
        inner = put(origin, IMAGE)
        for _ in range(DEPTH_MAX - 1):
            inner = put(origin, {"manifests": [{"digest": inner}]})
        assert (await resolve(origin, inner)).urls
        deeper = put(origin, {"manifests": [{"digest": inner}]})
        assert "is one too many" in await error_of(SourceError, origin, deeper)


async def test_an_index_may_not_lead_to_any_number_of_manifests() -> None:
    async with Origin() as origin:
        inner = [put(origin, {**IMAGE, "n": number}) for number in range(MANIFESTS_MAX)]
        put(origin, {"manifests": [{"digest": one} for one in inner]}, "v1")
        assert "is one too many" in await error_of(SourceError, origin)


async def test_a_manifest_that_is_not_what_its_digest_says() -> None:
    async with Origin() as origin:
        name = f"sha256:{7:064x}"
        put(origin, IMAGE, name)
        assert "does not match its digest" in await error_of(SourceError, origin, name)


async def test_a_manifest_has_a_greatest_size() -> None:
    async with Origin() as origin:
        origin.add(f"{PLACE}v1", bytes(MANIFEST_BYTES_MAX + 1))
        assert "is larger than 4194304 bytes" in await error_of(SourceError, origin)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, NotFoundError, "there is no manifest v1"),
        (403, ForbiddenError, "wants user and password"),
        (500, SourceError, "answers 500"),
        (429, SourceError, "answers 429"),
    ],
)
async def test_what_a_registry_answers(status: int, kind: type[OdonataError], said: str) -> None:
    async with Origin() as origin:
        put(origin, IMAGE, "v1", status=status)
        assert said in await error_of(kind, origin)


@pytest.mark.parametrize(
    ("challenge", "kind", "said"),
    [
        ("Digest realm=x", SourceError, "of a kind that is not known here (digest)"),
        ("", SourceError, "of a kind that is not known here (none)"),
        ("Basic realm=x", ForbiddenError, "set username and password"),
        ("Bearer realm=nowhere", SourceError, "no URL"),
        ('Bearer realm="http://169.254.169.254/latest"', ForbiddenError, "link-local"),
    ],
)
async def test_log_ins_that_can_not_be_done(
    challenge: str, kind: type[OdonataError], said: str
) -> None:
    async with Origin() as origin:
        header = {"WWW-Authenticate": challenge} if challenge else {}
        origin.add("/v2/", manners=Manners(status=401, header=header))
        assert said in await error_of(kind, origin)


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_token_server_that_gives_none(status: int) -> None:
    async with Origin() as origin:
        header = {"WWW-Authenticate": f'Bearer realm="{origin.url("/token")}"'}
        origin.add("/v2/", manners=Manners(status=401, header=header))
        origin.add("/token", manners=Manners(status=status))
        kind = SourceError if status == 500 else ForbiddenError
        said = await error_of(kind, origin, username="u", password="p4ss")
        assert "token server" in said
        assert "p4ss" not in said


async def test_a_redirect_to_another_origin_takes_no_credentials_along() -> None:
    async with Origin() as origin, Origin() as other:
        put(other, IMAGE, "v1")
        header = {"Authorization": "Bearer secret", "x-key": "secret"}
        origin.add(
            f"{PLACE}v1", manners=Manners(redirect_to=other.url(f"{PLACE}v1"), redirect_status=307)
        )
        assert (await resolve(origin, header=header)).urls[0].startswith(origin.url("/v2/"))
        (seen,) = other.requests
        assert not _secrets_in(seen.header)
        assert _secrets_in(origin.requests[0].header)


async def test_redirects_end() -> None:
    async with Origin() as origin:
        origin.add(f"{PLACE}v1", manners=Manners(redirect_to=origin.url(f"{PLACE}v1")))
        assert "probably a loop" in await error_of(SourceError, origin)


async def test_a_redirect_to_a_forbidden_address_ends_there() -> None:
    async with Origin() as origin:
        origin.add(f"{PLACE}v1", manners=Manners(redirect_to="http://[fe80::1]/x"))
        assert "link-local" in await error_of(ForbiddenError, origin)


async def test_a_registry_that_says_nothing_is_left_in_time() -> None:
    async with Origin() as origin:
        origin.add(f"{PLACE}v1", b"xx", Manners(gate=asyncio.Event()))
        with pytest.raises(SourceError, match=r"did not answer within 0\.3 s"):
            await resolve_image(ImageQuery(url=origin.url(f"{PLACE}v1"), platform=AMD), 0.3)


async def test_a_der_certificate_is_as_good_as_pem(tmp_path: Path) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"
    await make_certificate(certificate, key, "registry")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    async with Origin(tls=server) as origin:
        put(origin, IMAGE, "v1")
        assert (await resolve(origin, certificate_chain=(der,))).urls
        assert (await resolve(origin, certificate_chain=(certificate.read_bytes(),))).urls
        assert (await resolve(origin, insecure_skip_verify=True)).urls
        assert "not trusted" in await error_of(SourceError, origin)


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.test/lib/x:v1",
        "https://registry.test/v2/lib/x/blobs/sha256:0",
        "https://user:pass@registry.test/v2/lib/x/manifests/v1",
        "https://registry.test/v2/lib/x/manifests/v1?ns=y",
        "https://registry.test/v2/lib/../x/manifests/v1",
        "ftp://registry.test/v2/lib/x/manifests/v1",
        "https:///v2/lib/x/manifests/v1",
    ],
)
def test_urls_that_name_no_manifest(url: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse_image_url(url)
    assert "pass" not in caught.value.detail


def test_a_url_is_taken_apart() -> None:
    image = parse_image_url("http://10.0.0.1:5000/v2/a/b-c/d/manifests/sha256:00")
    assert image.blob("sha256:1") == "http://10.0.0.1:5000/v2/a/b-c/d/blobs/sha256:1"
    assert image.manifest("v2") == "http://10.0.0.1:5000/v2/a/b-c/d/manifests/v2"


def _secrets_in(header: Mapping[str, str]) -> bool:
    return any("secret" in value for value in header.values())
