"""Images from real registries into real daemons ahead of time, and what a pull gains by it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf.duration_pb2 import Duration
from support.content import MIB, make_content
from support.daemon import PATIENCE_S, daemon
from support.eventually import eventually
from support.guarded_registry import (
    PASSWORD,
    USER,
    Guard,
    GuardedRegistry,
    PushedImage,
    make_certificate,
)

from odonata.image.registry_login import basic
from peer.runtime.daemon import Daemon
from scheduler.core.preheat import seeds_in_turn
from scheduler.runtime.app import SchedulerApp

REPOSITORY, TAG = "lib/rand", "v1"
LAYERS = [make_content(5 * MIB, seed=1), make_content(MIB // 3, seed=2)]
ONCE = 1.0


def request_of(registry: GuardedRegistry, **more: Any) -> scheduler_pb2.PreheatImageRequest:
    given: dict[str, Any] = {"username": USER, "password": PASSWORD, "platform": "linux/amd64"}
    given |= more
    return scheduler_pb2.PreheatImageRequest(url=registry.manifest_url(REPOSITORY, TAG), **given)


async def preheat(app: SchedulerApp, stub: Any, request: scheduler_pb2.PreheatImageRequest) -> None:
    """Preheat, and wait for its end."""
    await stub.PreheatImage(request, timeout=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        await app.preheats.wait()


async def pull(one: Daemon, registry: GuardedRegistry, image: PushedImage, login: str) -> None:
    """Fetch each blob through the daemon's proxy, as a container runtime does."""
    ip, port = one.proxy_address
    async with aiohttp.ClientSession() as session:
        for digest, data in image.contents.items():
            async with session.get(
                registry.blob_url(REPOSITORY, digest),
                proxy=f"http://{ip}:{port}",
                headers={"Authorization": login} if login else {},
            ) as answer:
                if not login:
                    assert answer.status == 401, "what is private is so although it is here"
                    continue
                assert answer.status == 200
                assert await answer.read() == data


async def stat(stub: Any, registry: GuardedRegistry, **more: Any) -> dict[str, dict[str, bool]]:
    """Which host has which blobs, and whether whole."""
    asked = scheduler_pb2.StatImageRequest(
        url=registry.manifest_url(REPOSITORY, TAG),
        username=USER,
        password=PASSWORD,
        platform="linux/amd64",
        **more,
    )
    answer = await stub.StatImage(asked, timeout=PATIENCE_S)
    return {
        peer.hostname: {
            layer.url.rpartition("/")[2]: layer.is_finished for layer in peer.cached_layers
        }
        for peer in answer.peers
    }


async def refusal(stub: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.PreheatImage(request, timeout=PATIENCE_S)
    return caught.value.code(), caught.value.details() or ""


async def hosts_are_known(app: SchedulerApp, count: int) -> None:
    await eventually(lambda: len(app.core.list_hosts()) == count)


@pytest.mark.parametrize("guard", list(Guard))
async def test_a_pull_after_a_preheat_asks_the_registry_for_nothing(
    app: SchedulerApp, stub: Any, seed: Daemon, peer: Daemon, tmp_path: Path, guard: Guard
) -> None:
    await hosts_are_known(app, 2)
    async with GuardedRegistry(tmp_path, guard) as registry:
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        await preheat(app, stub, request_of(registry))
        assert app.preheats.counts.jobs == {("image", "success"): 1}
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)
        assert await stat(stub, registry) == {"host2": dict.fromkeys(image.contents, True)}
        await pull(peer, registry, image, await registry.login(REPOSITORY))
        if guard is not Guard.NONE:
            await pull(peer, registry, image, "")
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)
    if guard is Guard.TOKEN:
        assert registry.tokens.asked[0] == {
            "service": "a registry",
            "scope": f"repository:{REPOSITORY}:pull",
        }


async def test_an_authorization_that_was_brought_is_used_as_it_is(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    await hosts_are_known(app, 1)
    async with GuardedRegistry(tmp_path, Guard.BASIC) as registry:
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        brought = {"authorization": basic(USER, PASSWORD)}
        await preheat(app, stub, request_of(registry, header=brought, username="", password=""))
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)


@pytest.mark.parametrize("guard", [Guard.BASIC, Guard.TOKEN])
async def test_wrong_credentials_are_the_callers_answer(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path, guard: Guard
) -> None:
    await hosts_are_known(app, 1)
    async with GuardedRegistry(tmp_path, guard) as registry:
        await registry.add(REPOSITORY, TAG, LAYERS)
        code, details = await refusal(stub, request_of(registry, password="wrong"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "refuses user 'alice': check username and password" in details
        assert "wrong" not in details
        code, details = await refusal(stub, request_of(registry, username="", password=""))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "set username and password" in details
        code, details = await refusal(
            stub, request_of(registry, header={"Authorization": "Bearer x"})
        )
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "refuses the Authorization header" in details
    assert app.preheats.counts.jobs == {}


async def test_anonymous_tokens(app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path) -> None:
    await hosts_are_known(app, 1)
    async with GuardedRegistry(tmp_path, Guard.TOKEN) as registry:
        registry.tokens.is_open = True
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        await preheat(app, stub, request_of(registry, username="", password=""))
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)


async def test_a_missing_layer_makes_the_job_a_failure_and_spoils_no_other_layer(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    await hosts_are_known(app, 1)
    async with GuardedRegistry(tmp_path, Guard.BASIC) as registry:
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        registry.lose(image.blobs[1])
        await preheat(app, stub, request_of(registry))
        assert app.preheats.counts.jobs == {("image", "failure"): 1}
        assert app.preheats.counts.fetches == {"success": 2, "failure": 1}
        held = (await stat(stub, registry))["host2"]
        assert held == {image.blobs[0]: True, image.blobs[2]: True}


async def test_all_peers_have_it_for_one_copy_from_the_registry(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(GuardedRegistry(tmp_path, Guard.BASIC))
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        for number in (3, 4, 5):
            await stack.enter_async_context(
                daemon(tmp_path, number, scheduler__addrs=[app.address])
            )
        await hosts_are_known(app, 4)
        await preheat(app, stub, request_of(registry, scope="all_peers"))
        assert app.preheats.counts.jobs == {("image", "success"): 1}
        assert app.preheats.counts.fetches == {"success": 4 * len(image.contents)}
        whole = dict.fromkeys(image.contents, True)
        assert await stat(stub, registry) == {f"host{n}": whole for n in (2, 3, 4, 5)}
        assert await stat(stub, registry, scope="all_seed_peers") == {"host2": whole}
        assert await stat(stub, registry, scope="single_seed_peer") == {"host2": whole}
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)


async def test_a_part_of_the_peers_by_address_and_by_count(
    app: SchedulerApp, stub: Any, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(GuardedRegistry(tmp_path, Guard.NONE))
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        for number in (3, 4, 5):
            await stack.enter_async_context(
                daemon(tmp_path, number, scheduler__addrs=[app.address])
            )
        await hosts_are_known(app, 3)
        await preheat(
            app, stub, request_of(registry, scope="all_peers", ips=["127.0.0.4"], count=3)
        )
        assert set(await stat(stub, registry)) == {"host4"}
        await preheat(app, stub, request_of(registry, scope="all_peers", count=2))
        assert len(await stat(stub, registry)) in (2, 3)
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)


async def test_a_preheat_and_pulls_at_the_same_time_cost_one_copy(
    app: SchedulerApp, stub: Any, seed: Daemon, peer: Daemon, tmp_path: Path
) -> None:
    await hosts_are_known(app, 2)
    async with GuardedRegistry(tmp_path, Guard.BASIC) as registry:
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(preheat(app, stub, request_of(registry)))
            tasks.create_task(preheat(app, stub, request_of(registry)))
            tasks.create_task(pull(peer, registry, image, basic(USER, PASSWORD)))
        assert await registry.copies(image) == dict.fromkeys(image.contents, ONCE)
        assert app.preheats.counts.jobs == {("image", "success"): 2}


async def test_a_dead_seed_is_passed_over_for_the_next_on_the_ring(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    async with GuardedRegistry(tmp_path, Guard.NONE) as registry:
        image = await registry.add(REPOSITORY, TAG, [make_content(MIB, seed=n) for n in range(6)])
        async with AsyncExitStack() as stack:
            for number in (3, 4):
                await stack.enter_async_context(
                    daemon(tmp_path, number, seedPeer__enable=True, scheduler__addrs=[app.address])
                )
            await hosts_are_known(app, 3)
            gone = [one.host for one in app.core.list_hosts() if one.host.hostname != "host2"]
            known = [one.host for one in app.core.list_hosts()]
        # Back in the list, as if they had died without a word.
        for host in gone:
            app.core.state.announce(host, 300.0, app.executor.now)
        await preheat(app, stub, request_of(registry))
        assert app.preheats.counts.jobs == {("image", "success"): 1}
        assert await stat(stub, registry) == {"host2": dict.fromkeys(image.contents, True)}
        # Addresses differ with each run, so does whom the ring names ahead of the living one.
        turns = [
            [host.hostname for host in seeds_in_turn(task_id, known)]
            for task_id in app.core.state.tasks
        ]
        asked = {name for turn in turns for name in turn[: turn.index("host2")]}
        assert asked == {
            host.hostname for host in gone if app.core.state.hosts[host.id].is_unreachable
        }


async def test_of_an_index_the_wanted_platform_is_taken(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    await hosts_are_known(app, 1)
    async with GuardedRegistry(tmp_path, Guard.NONE) as registry:
        arm = await registry.add(REPOSITORY, "arm", [make_content(1000, seed=3)], "arm64")
        amd = await registry.add(REPOSITORY, "amd", [make_content(1000, seed=4)], "amd64")
        await registry.add_index(REPOSITORY, TAG, {"arm64": arm, "amd64": amd})
        await preheat(app, stub, request_of(registry, platform="linux/arm64"))
        assert await registry.copies(arm) == dict.fromkeys(arm.contents, ONCE)
        assert await registry.copies(amd) == dict.fromkeys(amd.contents, 0.0)
        code, details = await refusal(stub, request_of(registry, platform="linux/s390x"))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "it offers linux/amd64, linux/arm64" in details


async def test_certificates_are_verified_unless_the_request_says_otherwise(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    await hosts_are_known(app, 1)
    certificate, key = tmp_path / "registry.crt", tmp_path / "registry.key"
    await make_certificate(certificate, key, "registry")
    async with GuardedRegistry(tmp_path, Guard.BASIC, tls=(certificate, key)) as registry:
        await registry.add(REPOSITORY, TAG, LAYERS)
        code, details = await refusal(stub, request_of(registry))
        assert code is grpc.StatusCode.INTERNAL
        assert "certificate is not trusted: pass its authority in certificate_chain" in details
        chain = [certificate.read_bytes()]
        for more in ({"certificate_chain": chain}, {"insecure_skip_verify": True}):
            # The daemon does not trust it all the same: what is asked here is the scheduler.
            await preheat(app, stub, request_of(registry, **more))
        assert app.preheats.counts.jobs.total() == 2
        code, details = await refusal(stub, request_of(registry, certificate_chain=[b"no"]))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "certificate_chain[0] is no certificate" in details


async def test_who_can_not_be_served_is_told_so_at_once(
    app: SchedulerApp, stub: Any, tmp_path: Path
) -> None:
    async with GuardedRegistry(tmp_path, Guard.NONE) as registry:
        await registry.add(REPOSITORY, TAG, LAYERS)
        code, details = await refusal(stub, request_of(registry))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "no seed peer" in details
        missing = request_of(registry)
        missing.url = registry.manifest_url(REPOSITORY, "v2")
        code, details = await refusal(stub, missing)
        assert code is grpc.StatusCode.NOT_FOUND
        assert "there is no manifest v2 of" in details
    code, details = await refusal(stub, request_of(registry))
    assert code is grpc.StatusCode.INTERNAL
    assert "can't connect" in details
    nowhere = request_of(registry)
    nowhere.url = "http://169.254.169.254/v2/lib/x/manifests/v1"
    code, details = await refusal(stub, nowhere)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "no registry is asked there" in details
    nowhere.url = "http://127.0.0.1/lib/x:v1"
    code, details = await refusal(stub, nowhere)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "REGISTRY/v2/REPOSITORY/manifests/TAG" in details


async def test_hosts_that_do_not_answer_hold_nothing(
    app: SchedulerApp, stub: Any, seed: Daemon, tmp_path: Path
) -> None:
    async with GuardedRegistry(tmp_path, Guard.NONE) as registry:
        image = await registry.add(REPOSITORY, TAG, LAYERS)
        async with daemon(tmp_path, 3, scheduler__addrs=[app.address]):
            await hosts_are_known(app, 2)
            (gone,) = [one.host for one in app.core.list_hosts() if not one.host.is_seed]
        app.core.state.announce(gone, 300.0, app.executor.now)
        await preheat(app, stub, request_of(registry))
        whole = dict.fromkeys(image.contents, True)
        assert await stat(stub, registry, timeout=Duration(seconds=20)) == {"host2": whole}
