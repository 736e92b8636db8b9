"""Models of a hub through the swarm: by fsspec, and by Hugging Face's own library and the proxy."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from support.certificates import make_authority, make_signed
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, environment
from support.hub_service import SIGNED, TOKEN, HubService, HubStore
from support.server_front import ServerFront

from odonata.client import AsyncClient, ModelHub
from odonata.client.filesystem import OdonataFileSystem, register
from peer.runtime.daemon import Daemon

# These ship no types, or not enough.
fsspec: Any = importlib.import_module("fsspec")
safe_open: Any = importlib.import_module("safetensors").safe_open
load_file: Any = importlib.import_module("safetensors.numpy").load_file

Array = np.ndarray[Any, np.dtype[Any]]
TENSORS: dict[str, Array] = {
    "weight": np.arange(3 * MIB // 4, dtype=np.float32).reshape(1024, -1),
    "bias": np.ones(7, dtype=np.float16),
}
MODEL = save(TENSORS)
REPOSITORY = "models/org/repo/main"
DOWNLOAD = """
import sys
from huggingface_hub import hf_hub_download
print(hf_hub_download("org/repo", "model.safetensors", cache_dir=sys.argv[1]))
"""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


@pytest.fixture
async def hub() -> AsyncIterator[HubService]:
    async with HubStore() as store, HubService(store=store) as service:
        service.contents |= {
            f"{REPOSITORY}/model.safetensors": MODEL,
            f"{REPOSITORY}/parts/a b.bin": make_content(5),
            "models/org/repo/v2/model.safetensors": b"another revision",
            "datasets/org/data/main/train.csv": b"number\n1\n2\n",
        }
        yield service


def told(hub: HubService, one: Daemon) -> dict[str, Any]:
    """The storage options of a chained URL."""
    return {
        "hf": {"endpoint": hub.address, "token": TOKEN},
        "odonata": {"endpoint": str(one.socket_path)},
    }


def assert_same(loaded: dict[str, Any]) -> None:
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert np.array_equal(loaded[name], tensor)


async def used(work: Callable[[], Any]) -> Any:
    """What blocks, beside the daemon that it asks."""
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.to_thread(work)


async def test_safetensors_opens_what_the_daemon_wrote(
    one: Daemon, hub: HubService, tmp_path: Path
) -> None:
    url, path = "hf://org/repo/model.safetensors", tmp_path / "model.safetensors"
    who = ModelHub(token=TOKEN, base_url=hub.address)
    async with AsyncClient(one.socket_path) as client:
        await client.download(url, path, hugging_face=who)
        assert_same(load(await client.read(url, hugging_face=who)))
    with safe_open(path, framework="np") as model:
        assert_same({name: model.get_tensor(name) for name in TENSORS})
    assert len(hub.requests) == 1


async def test_a_chained_url_reads_a_model_once_from_the_hub(one: Daemon, hub: HubService) -> None:
    def read() -> bytes:
        OdonataFileSystem.clear_instance_cache()
        with fsspec.open("odonata::hf://org/repo/model.safetensors", **told(hub, one)) as file:
            return bytes(file.read())

    assert_same(load(await used(read)))
    asked = len(hub.requests), len(hub.store.requests)
    assert await used(read) == MODEL
    assert (len(hub.requests), len(hub.store.requests)) == asked


async def test_repositories_are_walked_and_named_as_hugging_face_does(
    one: Daemon, hub: HubService
) -> None:
    def use() -> None:
        fs, path = fsspec.url_to_fs("odonata::hf://org/repo", **told(hub, one))
        names = ["org/repo/model.safetensors", "org/repo/parts/a b.bin"]
        assert fs.find(path) == names
        assert fs.cat_file(names[1]) == make_content(5)
        assert fs.cat_file("org/repo@v2/model.safetensors") == b"another revision"
        assert not fs.exists("org/repo/none")
        with fsspec.open("odonata::hf://datasets/org/data/train.csv", **told(hub, one)) as file:
            assert file.read() == b"number\n1\n2\n"

    await used(use)


RULES = [{"regex": "/model\\.safetensors$", "filteredQueryParams": sorted(SIGNED)}]


async def test_hugging_faces_own_library_downloads_by_the_proxy(
    hub: HubService, tmp_path: Path
) -> None:
    async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
        ip, port = one.proxy_address
        variables = {"HF_ENDPOINT": hub.address, "HTTP_PROXY": f"http://{ip}:{port}"}
        for number in range(2):  # two hosts' caches, or one that was cleared
            await _download(tmp_path / f"cache{number}", variables)
        await _assert_held(one, hub.store.address)
    assert [method for method, _, _ in hub.store.requests if method == "GET"] == ["GET"]


async def test_hugging_faces_own_library_downloads_by_the_proxy_that_opens_its_tls(
    hub: HubService, tmp_path: Path
) -> None:
    """The library trusts the proxy's authority alone: nothing passes unopened."""
    web, own = make_authority(tmp_path, "web"), make_authority(tmp_path, "proxy")
    signed = make_signed(tmp_path, web, "127.0.0.1")
    with ServerFront(hub.port, signed) as front, ServerFront(hub.store.port, signed) as store:
        hub.store_url = f"https://127.0.0.1:{store.port}"
        settings = {
            "proxy__rules": RULES,
            "proxy__server__caCert": own.cert,
            "proxy__server__caKey": own.key,
            "proxy__interceptHosts": [{"regex": "^127", "cert": web.cert}],
            "backend__caCert": web.cert,
        }
        async with daemon(tmp_path, 2, **settings) as one:
            ip, port = one.proxy_address
            variables = {
                "HF_ENDPOINT": f"https://127.0.0.1:{front.port}",
                "HTTPS_PROXY": f"http://{ip}:{port}",
                "SSL_CERT_FILE": str(own.cert),
            }
            for number in range(2):
                await _download(tmp_path / f"cache{number}", variables)
            await _assert_held(one, hub.store_url)
    assert [method for method, _, _ in hub.store.requests if method == "GET"] == ["GET"]


async def _assert_held(one: Daemon, store: str) -> None:
    """The daemon has the model, and nothing else."""
    async with AsyncClient(one.socket_path) as client:
        (task,) = await client.tasks()
    assert task.content_length == len(MODEL)
    assert task.url.startswith(f"{store}/{REPOSITORY}/model.safetensors")


async def _download(cache: Path, variables: dict[str, str]) -> None:
    """The model, by `hf_hub_download` of a process of its own."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DOWNLOAD, str(cache)),
        env=environment()
        | {"HF_TOKEN": TOKEN, "HF_HOME": str(cache), "NO_PROXY": "", "no_proxy": ""}
        | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, said = await child.communicate()
    assert child.returncode == 0, said.decode()
    assert_same(load_file(out.decode().strip()))
