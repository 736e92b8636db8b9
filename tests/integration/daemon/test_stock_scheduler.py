"""Under a scheduler that is not ours: it wants the length first, and must not be made to wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get
from support.origin import Origin

from odonata.grpc_server import GrpcServer

CONTENT = make_content(9 * MIB)


class StockScheduler:
    """Says what Dragonfly's says to a lone peer, knows no feature of ours, forgets on request."""

    def __init__(self) -> None:
        self.hosts: dict[str, Any] = {}
        self.said: list[str] = []
        self.registered: list[Any] = []
        self.announced = asyncio.Event()
        self.left = asyncio.Event()

    async def AnnounceHost(self, request: Any, _context: Any) -> Empty:  # noqa: N802  # the rpc's name
        self.hosts[request.host.id] = request
        self.announced.set()
        return Empty()

    async def DeleteHost(self, request: Any, _context: Any) -> Empty:  # noqa: N802  # the rpc's name
        del self.hosts[request.host_id]
        self.left.set()
        return Empty()

    async def AnnouncePeer(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[Any], context: Any
    ) -> None:
        async for request in requests:
            kind = request.WhichOneof("request")
            self.said.append(kind)
            if kind == "register_peer_request":
                if request.host_id not in self.hosts:
                    await context.abort(grpc.StatusCode.NOT_FOUND, "peer not found")
                self.registered.append(request.register_peer_request.download)
                answer = scheduler_pb2.AnnouncePeerResponse()
                answer.need_back_to_source_response.SetInParent()
                await context.write(answer)
            if kind == "download_peer_back_to_source_finished_request":
                return  # what the client waits for


@pytest.fixture
async def stock() -> AsyncIterator[tuple[StockScheduler, str]]:
    service, server = StockScheduler(), GrpcServer()
    server.add_service(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], service)
    port = server.bind_tcp("127.0.0.1", 0, "test")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(0)


async def test_it_is_told_the_length_and_hears_the_last_word(
    stock: tuple[StockScheduler, str], tmp_path: Path
) -> None:
    service, address = stock
    async with (
        Origin() as origin,
        daemon(tmp_path, 2, scheduler__addrs=[address], seedPeer__enable=True) as one,
    ):
        await get(one, origin.add("/blob", CONTENT), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == CONTENT
        (download,) = service.registered
        assert download.actual_content_length == len(CONTENT)
        assert (download.actual_piece_length, download.actual_piece_count) == (4 * MIB, 3)
        assert origin.copies("/blob") == 1, "the length was learned by the request that brings it"
        host = service.hosts[one.facts.id].host
        assert (host.type, host.ip, host.port) == (1, "127.0.0.2", one.facts.port)
        assert host.cpu.logical_count > 0
    assert service.left.is_set(), "it said that it leaves"
    assert service.said[0] == "register_peer_request"
    assert service.said.count("download_piece_back_to_source_finished_request") == 3
    assert service.said[-1] == "download_peer_back_to_source_finished_request"


async def test_a_scheduler_that_forgot_the_host_is_told_of_it_and_asked_again(
    stock: tuple[StockScheduler, str], tmp_path: Path
) -> None:
    service, address = stock
    async with Origin() as origin, daemon(tmp_path, 2, scheduler__addrs=[address]) as one:
        service.hosts.clear()
        await get(one, origin.add("/blob", CONTENT), tmp_path / "out")
        assert one.facts.id in service.hosts
        assert service.said.count("register_peer_request") == 2


async def test_a_scheduler_that_comes_later_is_found(tmp_path: Path) -> None:
    service = StockScheduler()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    async with daemon(tmp_path, 2, scheduler__addrs=[f"127.0.0.1:{port}"]):
        later = GrpcServer()
        later.add_service(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], service)
        later.bind_tcp("127.0.0.1", port, "test")
        await later.start()
        async with asyncio.timeout(PATIENCE_S):
            await service.announced.wait()
    await later.stop(0)


async def test_names_and_a_file_of_schedulers_are_understood(
    stock: tuple[StockScheduler, str], tmp_path: Path
) -> None:
    service, address = stock
    port = address.rpartition(":")[2]
    book = tmp_path / "dynconfig.yaml"
    book.write_text(f"scheduler:\n  addr: localhost:{port}\n")
    async with daemon(tmp_path, 2, dynconfig__file=str(book)):
        assert service.announced.is_set()
