"""The gRPC servers of a real daemon and a real scheduler: noise on the socket, and any message at
any rpc. Nothing crashes (a crash is logged as one), nothing hangs, and all goes on as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from hypothesis import strategies as st
from structlog.testing import LogCapture
from support.content import make_content
from support.daemon import daemon, get, scheduler
from support.eventually import eventually
from support.fuzzing import Campaign, Edit, cut_up, damage, edits, open_descriptors
from support.h2_peer import data, message
from support.message_strategy import HELD_AS, HOSTS, messages
from support.origin import Origin

from odonata.grpc_client import open_channel, target_of
from odonata.grpc_h2 import frame
from odonata.grpc_h2.header import block_of
from odonata.grpc_status import code_of
from odonata.grpc_stub import health_stub, scheduler_stub
from odonata.wire.contact import SERVICE as CONTACT
from peer.doctor.network import is_serving
from peer.runtime.daemon import Daemon
from scheduler.core import invariant

CONTENT = make_content(5_000_000)
PATIENCE_S = 20.0
CALL_S = 0.25
"""Of a client's patience for one call: who waits for a source or a parent, waits in vain here."""
UPLOAD: ServiceDescriptor = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"]
DOWNLOAD: ServiceDescriptor = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonDownload"]
SCHEDULER: ServiceDescriptor = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]

_SOURCE_REFUSED = "source"
_CODE_KEY = "odonata-code"


@contextmanager
def no_crash_logged() -> Generator[None]:
    """Whatever is logged as an error, a crash above all, fails the test."""
    captured = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[captured])
    try:
        yield
    finally:
        structlog.configure(processors=before)
    bad = [one for one in captured.entries if one["log_level"] in ("error", "critical")]
    assert not bad, bad


# --- noise on the socket --------------------------------------------------------------------------

_paths = st.sampled_from(
    [
        "/dfdaemon.v2.DfdaemonUpload/SyncPieces",
        "/dfdaemon.v2.DfdaemonUpload/SyncHost",
        "/dfdaemon.v2.DfdaemonUpload/StatLocalTask",
        "/dfdaemon.v2.DfdaemonUpload/DownloadTask",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/no.Such/Method",
    ]
)
_streams = st.sampled_from([1, 3, 5])


def _opening(stream: int, path: str, *, ends: bool) -> bytes:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")]
    block = block_of([*fields, ("te", "trailers"), ("content-type", "application/grpc")])
    return frame.headers(stream, block, 16_384, ends=ends)


def _request(stream: int, value: Message, ends: bool) -> bytes:
    return data(stream, message(value.SerializeToString()), ends=ends)


def _conversation(parts: list[bytes], changes: list[Edit]) -> bytes:
    return damage(frame.PREFACE + frame.settings_frame({}) + b"".join(parts), changes)


_frames = st.one_of(
    st.builds(_opening, _streams, _paths, ends=st.booleans()),
    st.builds(
        _request, _streams, messages(dfdaemon_pb2.SyncPiecesRequest.DESCRIPTOR), st.booleans()
    ),
    st.builds(
        frame.frame, st.integers(0, 11), st.integers(0, 255), _streams, st.binary(max_size=40)
    ),
    st.builds(frame.window_update, st.integers(0, 5), st.integers(0, 2**31 - 1)),
    st.builds(frame.rst_stream, _streams, st.just(frame.Code.CANCEL)),
)
_conversations = st.builds(_conversation, st.lists(_frames, max_size=6), edits)
_sizes = st.lists(st.integers(1, 60), max_size=3)


async def _say(address: tuple[str, int], parts: list[bytes], *, ends: bool) -> None:
    """Say it, and go: by ending our side and reading to the end, or at once."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(*address)
        with suppress(OSError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if ends:
                writer.write_eof()
                while await reader.read(65_536):
                    pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def test_noise_at_the_upload_port(campaign: Campaign, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        living = daemon(tmp_path, 2)
        one = runner.run(living.__aenter__())
        address = (one.facts.ip, one.facts.port)
        before = open_descriptors()

        def check(said: bytes, sizes: list[int], ends: bool) -> None:
            runner.run(_say(address, cut_up(said, sizes), ends=ends))

        with no_crash_logged():
            campaign.run(check, _conversations, _sizes, st.booleans(), examples=50)
            assert runner.run(is_serving(target_of(*address))), "it serves as before"
            runner.run(eventually(lambda: open_descriptors() <= before))
        runner.run(living.__aexit__(None, None, None))


# --- any message at any rpc -----------------------------------------------------------------------


def _calls(*services: ServiceDescriptor) -> st.SearchStrategy[tuple[MethodDescriptor, Any]]:
    methods = [method for service in services for method in service.methods]
    drawn = [
        st.tuples(st.just(method), st.lists(messages(method.input_type), min_size=1, max_size=3))
        for method in methods
    ]
    return st.one_of(drawn)


async def _call(channel: grpc.aio.Channel, method: MethodDescriptor, said: list[Message]) -> None:
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = f"{'stream' if method.client_streaming else 'unary'}_"
    kind += "stream" if method.server_streaming else "unary"
    make: Any = getattr(channel, kind)
    rpc = make(
        path,
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    call = rpc(iter(said) if method.client_streaming else said[0], timeout=CALL_S)
    try:
        if method.server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as failure:
        _is_honest(path, failure)


def _is_honest(path: str, failure: grpc.aio.AioRpcError) -> None:
    """UNKNOWN is nobody's word, and INTERNAL only how Dragonfly tells that a source refused."""
    code = code_of(failure)
    told = dict(failure.trailing_metadata() or ()).get(_CODE_KEY)
    text = f"{path}: {code} {told} {failure.details()}"
    assert code is not grpc.StatusCode.UNKNOWN, text
    assert code is not grpc.StatusCode.INTERNAL or told == _SOURCE_REFUSED, text


async def _bounded(channel: grpc.aio.Channel, call: tuple[MethodDescriptor, Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await _call(channel, *call)


@pytest.mark.parametrize("service", [UPLOAD, DOWNLOAD], ids=lambda service: service.name)
def test_any_message_at_the_daemon(
    service: ServiceDescriptor, campaign: Campaign, tmp_path: Path
) -> None:
    with asyncio.Runner() as runner, no_crash_logged():
        living = daemon(tmp_path, 2)
        one = runner.run(living.__aenter__())
        runner.run(_hold_something(one, tmp_path / "out"))
        target = f"unix:{one.socket_path}"
        if service is UPLOAD:
            target = target_of(one.facts.ip, one.facts.port)
        channel = runner.run(_opened(target))

        def check(call: tuple[MethodDescriptor, Any]) -> None:
            runner.run(_bounded(channel, call))

        campaign.run(check, _calls(service), examples=30)
        assert runner.run(is_serving(target)), "it serves as before"
        runner.run(channel.close())
        runner.run(living.__aexit__(None, None, None))


def test_any_message_at_the_scheduler(campaign: Campaign) -> None:
    with asyncio.Runner() as runner, no_crash_logged():
        living = scheduler()
        app = runner.run(living.__aenter__())
        channel = runner.run(_opened(app.address))
        runner.run(_announce(channel))

        def check(call: tuple[MethodDescriptor, Any]) -> None:
            runner.run(_bounded(channel, call))
            invariant.check(app.core)

        campaign.run(check, _calls(SCHEDULER, CONTACT), examples=120)
        assert runner.run(is_serving(app.address)), "it serves as before"
        runner.run(channel.close())
        runner.run(living.__aexit__(None, None, None))


async def _opened(target: str) -> grpc.aio.Channel:
    channel = open_channel(target)
    await health_stub(channel).Check(health_pb2.HealthCheckRequest())
    return channel


async def _hold_something(one: Daemon, output: Path) -> None:
    """A whole task, under an id that messages name."""
    async with Origin() as origin:
        url = origin.add("/blob", CONTENT)
        await get(one, url, output, content_for_calculating_task_id=HELD_AS)


async def _announce(channel: grpc.aio.Channel) -> None:
    for number, host_id in enumerate(HOSTS, start=1):
        host = common_pb2.Host(
            id=host_id, hostname=host_id, ip="127.0.0.1", port=number, download_port=number
        )
        await scheduler_stub(channel).AnnounceHost(scheduler_pb2.AnnounceHostRequest(host=host))
