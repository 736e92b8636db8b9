"""One suite for both gRPC servers, grpcio's and our own, on real sockets with real clients.

Binding, the boundary, forms of methods, health, reflection, flow control, deadlines, stopping.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import dfdaemon_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2

from odonata import errors
from odonata.errors import (
    CapacityError,
    NotFoundError,
    OdonataError,
    SettingsError,
    SourceError,
    UnavailableError,
)
from odonata.grpc_client import open_channel, target_of
from odonata.grpc_h2.server import H2GrpcServer
from odonata.grpc_server import GrpcServer
from odonata.grpc_status import error_of
from odonata.grpc_stub import health_stub, scheduler_stub, upload_stub
from odonata.listen import MAX_UNIX_PATH_BYTES

UPLOAD = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"]
SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]


AnyServer = GrpcServer | H2GrpcServer


@pytest.fixture(params=[GrpcServer, H2GrpcServer], ids=["grpcio", "h2"])
def kind(request: pytest.FixtureRequest) -> type[AnyServer]:
    """The server under test."""
    found: type[AnyServer] = request.param
    return found


class Upload:
    """Answers as it is told."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()

    async def DeleteTask(self, _request: Any, _context: Any) -> Empty:  # noqa: N802  # the rpc's name
        self.act()
        return Empty()

    async def SyncPieces(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802  # the rpc's name
        self.entered.set()
        try:
            yield dfdaemon_pb2.SyncPiecesResponse(number=1)
            self.act()
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@asynccontextmanager
async def serving(
    kind: type[AnyServer], upload: Upload, admit: Callable[[], None] | None = None
) -> AsyncGenerator[tuple[AnyServer, Any]]:
    server = kind()
    server.add_service(UPLOAD, upload, admit=admit, stream_metadata=(("k", "v"),))
    port = server.bind_tcp("127.0.0.1", 0, "upload.server.port")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield server, upload_stub(channel)
    finally:
        await server.stop(0)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def raiser(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


# --- the boundary ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error_kind",
    [
        errors.CallerError,
        errors.SettingsError,
        errors.NotFoundError,
        errors.AlreadyExistsError,
        errors.PreconditionError,
        errors.ForbiddenError,
        errors.ProtocolError,
        errors.DigestMismatchError,
        errors.PeerRefusedError,
        errors.UnavailableError,
        errors.CapacityError,
        errors.DiskFullError,
        errors.StorageError,
    ],
)
async def test_an_error_crosses_the_boundary_as_what_it_is(
    kind: type[AnyServer], error_kind: type[OdonataError]
) -> None:
    async with serving(kind, Upload(raiser(error_kind("wrong, because: fix it")))) as (_, stub):
        caught = await failure(stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest()))
    assert caught.code().name == error_kind.grpc_status
    error = error_of(caught, "daemon 127.0.0.1")
    assert type(error) is error_kind
    assert error.detail == "daemon 127.0.0.1: wrong, because: fix it"


async def test_a_source_error_brings_its_status_and_headers_along(kind: type[AnyServer]) -> None:
    source = SourceError("denied", status_code=401, header={"www-authenticate": 'Bearer realm="r"'})
    async with serving(kind, Upload(raiser(source))) as (_, stub):
        caught = await failure(stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest()))
    assert caught.code() is grpc.StatusCode.INTERNAL
    error = error_of(caught, "daemon")
    assert isinstance(error, SourceError)
    assert (error.detail, error.status_code) == ("denied", 401)
    assert error.header == {"www-authenticate": 'Bearer realm="r"'}


async def test_a_bug_is_internal_without_its_innards_and_the_callers_fault_it_is_not(
    kind: type[AnyServer],
) -> None:
    async with serving(kind, Upload(raiser(KeyError("token-of-somebody")))) as (_, stub):
        caught = await failure(stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest()))
    assert caught.code() is grpc.StatusCode.INTERNAL
    assert "token-of-somebody" not in str(caught.details())
    assert isinstance(error_of(caught, "daemon"), errors.PeerError)


async def test_a_long_message_still_fits_into_the_trailers(kind: type[AnyServer]) -> None:
    async with serving(kind, Upload(raiser(NotFoundError("x" * 50_000)))) as (_, stub):
        caught = await failure(stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest()))
    assert caught.code() is grpc.StatusCode.NOT_FOUND


async def test_an_error_in_mid_stream_comes_after_the_messages(kind: type[AnyServer]) -> None:
    async with serving(kind, Upload(raiser(NotFoundError("gone")))) as (_, stub):
        call = stub.SyncPieces(dfdaemon_pb2.SyncPiecesRequest())
        assert (await call.read()).number == 1
        caught = await failure(call.read())
    assert caught.code() is grpc.StatusCode.NOT_FOUND


async def test_streams_send_their_initial_metadata_at_once_and_end_when_the_client_goes(
    kind: type[AnyServer],
) -> None:
    upload = Upload()
    async with serving(kind, upload) as (_, stub):
        call = stub.SyncPieces(dfdaemon_pb2.SyncPiecesRequest())
        assert dict(await call.initial_metadata())["k"] == "v"
        await call.read()
        call.cancel()
        await asyncio.wait_for(upload.closed.wait(), 20)


async def test_admission_refuses_before_the_service_sees_the_call(kind: type[AnyServer]) -> None:
    upload = Upload()
    async with serving(kind, upload, raiser(CapacityError("too many"))) as (_, stub):
        call = stub.SyncPieces(dfdaemon_pb2.SyncPiecesRequest())
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not upload.entered.is_set()


async def test_what_a_service_lacks_is_unimplemented_by_name(kind: type[AnyServer]) -> None:
    async with serving(kind, Upload()) as (_, stub):
        caught = await failure(stub.DownloadTask(dfdaemon_pb2.DownloadTaskRequest()).read())
    assert caught.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "dfdaemon.v2.DfdaemonUpload/DownloadTask" in str(caught.details())
    assert isinstance(error_of(caught, "daemon"), errors.ProtocolError)


async def test_messages_may_be_larger_than_grpcs_default_of_4_mib(kind: type[AnyServer]) -> None:
    class Big:
        async def StatTask(self, request: Any, _context: Any) -> Any:  # noqa: N802  # the rpc's name
            from dragonfly_api import common_pb2  # noqa: PLC0415

            return common_pb2.Task(id=request.task_id, url="u" * 6_000_000)

    server = kind()
    server.add_service(SCHEDULER, Big())
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = scheduler_stub(channel)
        task = await stub.StatTask(scheduler_pb2.StatTaskRequest(task_id="t" * 5_000_000))
    await server.stop(0)
    assert len(task.url) == 6_000_000


# --- errors of a client ---------------------------------------------------------------------------


async def test_nobody_there_is_unavailable_and_names_whom() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = upload_stub(channel)
        caught = await failure(stub.StatTask(dfdaemon_pb2.StatTaskRequest()))
    error = error_of(caught, f"daemon 127.0.0.1:{port}")
    assert isinstance(error, UnavailableError)
    assert error.detail.startswith(f"daemon 127.0.0.1:{port}: ")


async def test_a_proxy_in_the_environment_is_not_the_way_to_a_peer(
    kind: type[AnyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with serving(kind, Upload()) as (_, stub):
        assert await stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest()) == Empty()


@pytest.mark.parametrize(
    ("host", "target"),
    [("10.0.0.1", "10.0.0.1:1"), ("::1", "[::1]:1"), ("seed.local", "seed.local:1")],
)
def test_ipv6_targets_have_brackets(host: str, target: str) -> None:
    assert target_of(host, 1) == target


# --- binding --------------------------------------------------------------------------------------


async def test_two_servers_never_share_a_port(kind: type[AnyServer]) -> None:
    one, two = kind(), kind()
    port = one.bind_tcp("127.0.0.1", 0, "server.port")
    await one.start()
    with pytest.raises(UnavailableError, match=rf"port {port} on 127\.0\.0\.1 .*server\.port"):
        two.bind_tcp("127.0.0.1", port, "server.port")
    await one.stop(0)
    assert two.bind_tcp("127.0.0.1", port, "server.port") == port
    await two.stop(0)


async def test_an_address_of_another_machine_is_a_wrong_setting(kind: type[AnyServer]) -> None:
    with pytest.raises(SettingsError, match="not an address of this machine"):
        kind().bind_tcp("192.0.2.1", 0, "server.port")


async def serve_on(kind: type[AnyServer], path: Path, **options: Any) -> AnyServer:
    server = kind()
    server.bind_unix(path, "download.server.socketPath", **options)
    await server.start()
    return server


async def health_at(path: Path) -> int:
    async with open_channel(f"unix:{path}") as channel:
        answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def test_a_unix_socket_is_made_with_its_folder_and_mode_and_goes_with_the_server(
    kind: type[AnyServer], tmp_path: Path
) -> None:
    path = tmp_path / "run" / "odonata.sock"
    server = await serve_on(kind, path, mode=0o600)
    assert await health_at(path) == health_pb2.HealthCheckResponse.SERVING
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.stop(0)
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced(kind: type[AnyServer], tmp_path: Path) -> None:
    path = tmp_path / "odonata.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    server = await serve_on(kind, path)
    assert await health_at(path) == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_socket_that_somebody_listens_on_is_left_alone(
    kind: type[AnyServer], tmp_path: Path
) -> None:
    path = tmp_path / "odonata.sock"
    server = await serve_on(kind, path)
    with pytest.raises(UnavailableError, match=r"another process listens on .*socketPath"):
        await serve_on(kind, path)
    assert await health_at(path) == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_file_that_is_no_socket_is_left_alone(
    kind: type[AnyServer], tmp_path: Path
) -> None:
    path = tmp_path / "precious.txt"
    path.write_text("mine")
    with pytest.raises(SettingsError, match="is not a socket: move it away"):
        await serve_on(kind, path)
    assert path.read_text() == "mine"


async def test_a_path_too_long_says_how_long_it_may_be(
    kind: type[AnyServer], tmp_path: Path
) -> None:
    path = tmp_path / ("x" * MAX_UNIX_PATH_BYTES)
    with pytest.raises(SettingsError, match=f"allows {MAX_UNIX_PATH_BYTES}"):
        await serve_on(kind, path)


async def test_the_longest_path_allowed_works(kind: type[AnyServer], tmp_path: Path) -> None:
    room = MAX_UNIX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1
    path = tmp_path / ("x" * room)
    server = await serve_on(kind, path)
    assert await health_at(path) == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_folder_that_can_not_be_made_is_named(
    kind: type[AnyServer], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"folder .*file.* can't be made"):
        await serve_on(kind, tmp_path / "file" / "odonata.sock")


async def test_a_folder_that_is_not_writable_is_named(
    kind: type[AnyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_asked: object) -> bool:
        return False

    # Root may write everywhere, so the system's answer is given here for it.
    monkeypatch.setattr(os, "access", nowhere)
    with pytest.raises(SettingsError, match=r"is not writable .*socketPath"):
        await serve_on(kind, tmp_path / "odonata.sock")


# --- stopping -------------------------------------------------------------------------------------


async def test_calls_that_outlast_the_grace_are_cut(kind: type[AnyServer]) -> None:
    upload = Upload()
    async with serving(kind, upload) as (server, stub):
        call = stub.SyncPieces(dfdaemon_pb2.SyncPiecesRequest())
        await call.read()
        await server.stop(0.1)
        assert upload.closed.is_set()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "shuts down" in await call.details()


async def test_health_can_say_not_serving(kind: type[AnyServer]) -> None:
    server = kind()
    server.add_service(UPLOAD, Upload())
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = health_stub(channel)
        await server.set_serving(serving=False)
        for name in ("", "dfdaemon.v2.DfdaemonUpload"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.stop(0)
