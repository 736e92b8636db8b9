"""What origins of other schemes must not do, and what each of them does not let through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from support.guarded_registry import PASSWORD, USER, Guard, GuardedRegistry
from support.hub_service import TOKEN, HubService, HubStore
from support.source_world import AbsWorld, HubWorld, OssWorld
from support.web_service import WebService

from odonata.errors import CallerError, ForbiddenError, OdonataError, PreconditionError, SourceError
from odonata.wire.origin import Hdfs, ModelHub, ObjectStorage, OriginOptions
from peer.runtime.outgoing_proxy import OutgoingProxy
from peer.runtime.source import Sources, open_sources
from peer.runtime.source_fsspec import CHUNK_BYTES, FsspecSource
from peer.runtime.source_scheme import FsspecPlace

MIB = 1024 * 1024


async def read(sources: Sources | FsspecSource, url: str, options: OriginOptions) -> bytes:
    async with await sources.open(url, {}, options=options) as stream:
        out, buffer = bytearray(), memoryview(bytearray(MIB))
        while count := await stream.read_into(buffer):
            out += buffer[:count]
        return bytes(out)


@pytest.fixture
async def refusing() -> AsyncIterator[WebService]:
    async with WebService(refuses=403) as service:
        yield service


# --- credentials of this host ---


@pytest.mark.parametrize("url", ["s3://bucket/key", "gs://bucket/key"])
async def test_an_endpoint_of_the_caller_s_never_sees_what_this_host_is_known_by(
    url: str, refusing: WebService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-this-host")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    async with open_sources() as sources:
        with pytest.raises(SourceError) as caught:
            await sources.open(
                url,
                {},
                options=OriginOptions(object_storage=ObjectStorage(endpoint=refusing.address)),
            )
    assert caught.value.status_code == 403
    assert refusing.requests
    assert not any("Authorization" in header for _, _, header in refusing.requests)


async def test_a_file_of_credentials_is_read_only_where_it_may_be(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    outside = tmp_path / "key.json"
    outside.write_text("{}")
    (allowed / "link.json").symlink_to(outside)
    place = FsspecPlace(credential_roots=(allowed,))
    async with open_sources(place=place) as sources:
        for path in (outside, allowed / "link.json", allowed / ".." / "key.json"):
            with pytest.raises(ForbiddenError, match="credentialRoots"):
                await sources.open(
                    "gs://bucket/key",
                    {},
                    options=OriginOptions(object_storage=ObjectStorage(credential_path=str(path))),
                )


# --- files of this host ---


async def test_without_folders_no_file_is_given() -> None:
    async with open_sources() as sources:
        with pytest.raises(ForbiddenError, match=r"backend\.fileRoots"):
            await sources.open("file:///etc/hostname", {})
        with pytest.raises(ForbiddenError, match=r"backend\.fileRoots"):
            await sources.list("file:///etc/", {})


async def test_nothing_leads_out_of_the_folders(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-not"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"hush")
    (root / "inside").write_bytes(b"fine")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "good-link").symlink_to(root / "inside")
    os.mkfifo(root / "pipe")
    async with open_sources(place=FsspecPlace(file_roots=(root,))) as sources:
        for path in ("link", "folder/secret", "../root-not/secret", "%2e%2e/root-not/secret",
                     "..%2Froot-not/secret", "pipe", "../root-not/no-such"):  # fmt: skip
            with pytest.raises(SourceError) as caught:
                await sources.open(f"file://{root}/{path}", {})
            assert caught.value.status_code == 403, path
        with pytest.raises(CallerError, match="another host"):
            await sources.open(f"file://elsewhere{root}/inside", {})
        assert await read(sources, f"file://{root}/good-link", OriginOptions()) == b"fine"
        listed = await sources.list(f"file://{root}/", {})
        assert [one.url for one in listed] == [f"file://{root}/inside"]
        with pytest.raises(SourceError):
            await sources.list(f"file://{root}/folder/", {})


# --- what can't be done is said ---


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("abs://container/blob", OriginOptions(), "object_storage.endpoint"),
        ("oss://bucket/key", OriginOptions(), "object_storage.endpoint"),
        (
            "abs://c/b",
            OriginOptions(object_storage=ObjectStorage(endpoint="http://h;AccountKey=x")),
            "semicolon",
        ),
        ("s3:///key", OriginOptions(), "names no bucket"),
        ("s3://bucket/a%0Ab", OriginOptions(), "line break"),
        ("hdfs:///path", OriginOptions(), "name node"),
        ("hf://only-one", OriginOptions(), "OWNER/REPOSITORY"),
        ("hf://datasets/o/r", OriginOptions(), "names a folder"),
        ("oci://registry.test", OriginOptions(), "not the URL of an artifact"),
        ("oci://registry.test/Not-Lower:v1", OriginOptions(), "not the URL of an artifact"),
    ],
)
async def test_a_url_that_can_not_be_asked_for(
    url: str, options: OriginOptions, words: str
) -> None:
    async with open_sources() as sources:
        with pytest.raises(CallerError, match=words):
            await sources.open(url, {}, options=options)


@pytest.mark.parametrize("url", ["abs://c/b", "oss://b/k", "ftp://h.test/f"])
async def test_what_can_not_go_through_the_proxy_does_not_go_past_it(url: str) -> None:
    place = FsspecPlace(proxy=OutgoingProxy(url="http://proxy.test:1"))
    options = OriginOptions(object_storage=ObjectStorage(endpoint="http://h.test"))
    async with open_sources(place=place) as sources:
        with pytest.raises(ForbiddenError, match=r"add h.test to backend.noProxy"):
            await sources.open(url, {}, options=options)


async def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    async with open_sources() as sources:
        with pytest.raises(PreconditionError, match=r'pip install "odonata\[s3\]"'):
            await sources.open("s3://bucket/key", {})


async def test_nobody_there_is_an_error_without_a_status() -> None:
    options = OriginOptions(hdfs=Hdfs(delegation_token="hush"))
    async with open_sources() as sources:
        with pytest.raises(SourceError) as caught:
            await sources.open("hdfs://127.0.0.1:1/f", {}, options=options)
    assert caught.value.status_code is None
    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"


# --- a content of two versions is nobody's ---


@pytest.mark.parametrize("kind", [AbsWorld, OssWorld])
async def test_a_content_that_changes_while_it_is_read_is_not_given(
    kind: type[AbsWorld | OssWorld], tmp_path: Path
) -> None:
    length = CHUNK_BYTES * 2
    async with kind(tmp_path) as world, open_sources() as sources:
        await world.fill({"f": b"a" * length})
        stream = await sources.open(world.url("f"), {}, options=world.options)
        async with stream:
            assert await stream.read_into(memoryview(bytearray(CHUNK_BYTES))) == CHUNK_BYTES
            await world.fill({"f": b"b" * length})
            with pytest.raises(SourceError, match="changed while it was read"):
                await stream.read_into(memoryview(bytearray(CHUNK_BYTES)))


# --- hubs ---


async def test_the_token_of_a_hub_stays_there(tmp_path: Path) -> None:
    async with HubWorld(tmp_path) as world, open_sources() as sources:
        await world.fill({"f": b"content"})
        assert await read(sources, world.url("f"), world.options) == b"content"
        assert all("Authorization" in header for _, _, header in world.service.requests)
        store = world.service.store.requests
        assert store
        assert not any("Authorization" in header for _, _, header in store)


@dataclass
class _Elsewhere(HubService):
    """Its listing goes on at another host."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        link = '<http://127.0.0.2:1/more>; rel="next"'
        return web.json_response([], headers={"Link": link})


async def test_a_listing_does_not_go_on_at_another_host() -> None:
    async with _Elsewhere(store=HubStore()) as hub, open_sources() as sources:
        options = OriginOptions(hugging_face=ModelHub(base_url=hub.address, token=TOKEN))
        with pytest.raises(SourceError, match="another host"):
            await sources.list("hf://o/r/", {}, options)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("hf://o/r/a%20b/c", "/o/r/resolve/main/a%20b/c"),
        ("hf://models/o/r@v1%2Fx/f", "/o/r/resolve/v1%2Fx/f"),
        ("hf://spaces/o/r/f", "/spaces/o/r/resolve/main/f"),
    ],
)
async def test_the_address_of_a_file_on_a_hub(url: str, asked: str, refusing: WebService) -> None:
    async with open_sources() as sources:
        with pytest.raises(SourceError):
            await sources.open(
                url, {}, options=OriginOptions(hugging_face=ModelHub(base_url=refusing.address))
            )
        revision = OriginOptions(hugging_face=ModelHub(base_url=refusing.address, revision="v9"))
        with pytest.raises(SourceError):
            await sources.open("hf://o/r/f", {}, options=revision)
    assert [path for _, path, _ in refusing.requests] == [asked, "/o/r/resolve/v9/f"]


# --- registries ---


@pytest.mark.parametrize("guard", [Guard.NONE, Guard.BASIC, Guard.TOKEN])
async def test_the_ways_to_name_what_is_in_a_registry(guard: Guard, tmp_path: Path) -> None:
    options = OriginOptions(
        object_storage=ObjectStorage(access_key_id=USER, access_key_secret=PASSWORD)
    )
    async with GuardedRegistry(tmp_path, guard) as registry, open_sources() as sources:
        pushed = await registry.add("lib/one", "latest", [b"the only layer"])
        base = f"oci://127.0.0.1:{registry.port}/lib"
        digest = next(key for key, data in pushed.contents.items() if data == b"the only layer")
        for name in ("", ":latest", f"@{digest}"):
            assert await read(sources, f"{base}/one{name}", options) == b"the only layer"
        two = await registry.add("lib/two", "v1", [b"first", b"second"], titles=["a/first"])
        assert await read(sources, f"{base}/two:v1/a/first", options) == b"first"
        by_digest = f"{base}/two@{two.digest}/a/first"
        assert await read(sources, by_digest, options) == b"first"
        listed = await sources.list(f"{base}/two:v1", {}, options)
        assert [one.content_length for one in listed] == [5, 6]
        assert [await read(sources, one.url, options) for one in listed] == [b"first", b"second"]
        with pytest.raises(CallerError, match=r"2 layers, not one.*a/first"):
            await sources.open(f"{base}/two:v1", {}, options=options)
        await registry.add_index("lib/two", "all", {"amd64": two})
        with pytest.raises(CallerError, match="index of several manifests"):
            await sources.open(f"{base}/two:all", {}, options=options)
        if guard is Guard.TOKEN:
            assert len(registry.tokens.asked) == 2  # one for each repository, then kept


async def test_a_bearer_token_of_the_request_does_not_go_to_who_gives_tokens(
    tmp_path: Path,
) -> None:
    async with GuardedRegistry(tmp_path, Guard.TOKEN) as registry, open_sources() as sources:
        registry.tokens.is_open = True
        await registry.add("lib/one", "v1", [b"x"])
        url = f"oci://127.0.0.1:{registry.port}/lib/one:v1"
        async with await sources.open(url, {"authorization": "Bearer old"}) as stream:
            assert stream.content_length == 1


async def test_many_streams_share_a_few_threads(tmp_path: Path) -> None:
    """More blocking calls than there are threads: all come to their end."""
    async with OssWorld(tmp_path) as world, open_sources() as sources:
        await world.fill({f"f{n}": bytes([n]) * 1000 for n in range(50)})
        found = await asyncio.gather(
            *(read(sources, world.url(f"f{n}"), world.options) for n in range(50))
        )
        assert found == [bytes([n]) * 1000 for n in range(50)]


async def test_a_closed_source_refuses_no_next_one(tmp_path: Path) -> None:
    async with OssWorld(tmp_path) as world:
        await world.fill({"f": b"x"})
        source = FsspecSource(FsspecPlace())
        for _ in range(2):
            assert await read(source, world.url("f"), world.options) == b"x"
            await source.close()
        with pytest.raises(OdonataError):
            await read(source, world.url("none"), world.options)
        await source.close()
