"""Redis that is not there, or goes away in the middle: clear answers, and standard tasks go on."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest
from dragonfly_api import scheduler_pb2 as api
from google.protobuf.message_factory import GetMessageClass
from support.eventually import eventually_is
from support.persistent_client import (
    PersistentClient,
    connected,
    host_message,
    redis_scheduler,
)
from support.redis_server import RedisServer, free_port
from support.scheduler_client import connected as standard_client
from support.scheduler_client import host, settings

from odonata.wire.message import NeedBackToSource
from scheduler.core.persistent.state import Kind
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.persistent import redis_gate

TASK = "a" * 64
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def register_standard(address: str, name: str) -> None:
    """A host announces itself and downloads a standard task."""
    async with standard_client(address) as client:
        await client.announce(host(name, "127.0.0.2"))
        peer = client.peer(name, f"{name}-peer", task_id=name * 16)
        await peer.register()
        assert isinstance(await peer.answer(), NeedBackToSource)
        await peer.call.done_writing()
        await peer.end()


def filled(message: Any) -> Any:
    """A request that breaks no rule of ids."""
    for field in message.DESCRIPTOR.fields:
        if field.name in {"host_id", "task_id", "peer_id"}:
            setattr(message, field.name, "x")
    return message


async def test_without_redis_every_rpc_says_so() -> None:
    async with (
        SchedulerApp(settings()) as app,
        connected(app.address, Kind.PERSISTENT) as client,
        connected(app.address, Kind.PERSISTENT_CACHE) as cache_client,
    ):
        service = api.DESCRIPTOR.services_by_name["Scheduler"]
        names = [m for m in service.methods if "Persistent" in m.name]
        assert len(names) == 16
        for method in names:
            rpc = getattr(client.stub, method.name)
            if method.client_streaming:
                call = rpc()
                code, details = await call.code(), await call.details()
            elif "Started" in method.name:
                uploader = cache_client if "Cache" in method.name else client
                fields = uploader.upload_fields(TASK)
                request = GetMessageClass(method.input_type)(host_id="x", peer_id="x", **fields)
                code, details = await refusal(rpc(request))
            else:
                code, details = await refusal(rpc(filled(GetMessageClass(method.input_type)())))
            assert code is grpc.StatusCode.FAILED_PRECONDITION, method.name
            assert details.startswith("redis is not enabled"), method.name
            assert "database.redis.addrs" in details


async def test_redis_that_is_down_from_the_start_stops_nobody(kind: Kind) -> None:
    async with (
        redis_scheduler(f"127.0.0.1:{free_port()}") as app,
        connected(app.address, kind) as client,
    ):
        await register_standard(app.address, "h")
        code, details = await refusal(client.stat_task(TASK))
        assert code is UNAVAILABLE
        assert "standard tasks go on" in details


async def test_redis_that_hangs_is_unavailable_in_time() -> None:
    kind = Kind.PERSISTENT_CACHE
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with redis_scheduler(address) as app, connected(app.address, kind) as client:
            async with asyncio.timeout(redis_gate.OPERATION_TIMEOUT_S + 1):
                assert (await refusal(client.stat_task(TASK)))[0] is UNAVAILABLE
            await register_standard(app.address, "h")


async def test_redis_killed_in_the_middle_and_back_empty(
    redis: RedisServer, client: PersistentClient, app: SchedulerApp
) -> None:
    await client.announce(host_message("one"))
    await client.upload("one", "one-peer", TASK)
    await client.announce(host_message("two"))
    peer = client.peer("two", "two-peer", TASK)
    await peer.register()
    assert await peer.parents() == ["one-peer"]

    redis.stop()
    assert (await refusal(client.stat_task(TASK)))[0] is UNAVAILABLE
    await peer.started()
    assert (await peer.end())[0] is UNAVAILABLE
    await register_standard(app.address, "h")
    await client.announce(host_message("three"))

    assert redis.start()

    async def upload() -> str:
        # Host "three" announced itself while Redis was down: it is known once Redis is back.
        try:
            return str((await client.upload("three", "three-peer", "b" * 64)).state)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)

    await eventually_is(upload, "Succeeded")
    code, _ = await refusal(client.stat_task(TASK))
    assert code is grpc.StatusCode.NOT_FOUND, "what that Redis held is gone with it"


async def test_a_scheduler_killed_outright_leaves_the_state_to_the_next(
    redis: RedisServer, kind: Kind
) -> None:
    start = "from odonata.cli import root; root(prog_name='odonata')"
    words = [sys.executable, "-c", start, "scheduler", "--log-format=json"]
    words += ["--listen-ip=127.0.0.1", "--port=0"]
    said: list[Any] = []
    for number in range(2):
        process = await asyncio.create_subprocess_exec(
            *words,
            stderr=subprocess.PIPE,
            env={
                "ODONATA_TELEMETRY__ENABLE": "false",
                "ODONATA_MODEL__ENABLE": "false",
                "ODONATA_DATABASE__REDIS__ADDRS": redis.address,
            },
        )
        assert process.stderr is not None
        try:
            line = await process.stderr.readline()
            assert b"scheduler_started" in line, line + await process.stderr.read()
            address = line.decode().partition('"address":"')[2].partition('"')[0]
            async with connected(address, kind) as client:
                if number == 0:
                    await client.announce(host_message("one"))
                    await client.upload("one", "one-peer", TASK)
                said.append(await client.stat_task(TASK))
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    assert said[0] == said[1]
