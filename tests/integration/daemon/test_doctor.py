"""`odonata doctor` beside real daemons and schedulers, and before nothing at all."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from support.certificates import make_authority, make_signed
from support.daemon import (
    daemon,
    daemon_arguments,
    overrides,
    process,
    run_whole,
    scheduler,
    settings,
)

from odonata.cli import SettingsOptions
from odonata.grpc_server import GrpcServer
from peer.doctor.examination import Surroundings, examine
from peer.doctor.finding import Finding, Level
from peer.doctor.network import check_own_address
from peer.doctor.thread import in_thread


async def found(
    folder: Path,
    number: int = 2,
    *,
    wall_clock: Callable[[], float] = time.time,
    check_timeout_s: float = 10.0,
    config: Path | None = None,
    **more: Any,
) -> dict[str, Finding]:
    """Findings by name, the worst of each name."""
    options = SettingsOptions(config=config, overrides=overrides(folder, number, **more))
    surroundings = Surroundings(environ={}, wall_clock=wall_clock, check_timeout_s=check_timeout_s)
    by_name: dict[str, Finding] = {}
    for finding in await examine(options, surroundings):
        before = by_name.get(finding.check)
        if before is None or before.level is Level.OK:
            by_name[finding.check] = finding
    return by_name


def level(findings: dict[str, Finding], check: str) -> Level:
    return findings[check].level


async def test_a_daemon_with_its_scheduler_is_well(tmp_path: Path) -> None:
    async with scheduler() as app, daemon(tmp_path, 2, scheduler__addrs=[app.address]) as one:
        # The ports are those it really has: held by this very process, as its lock file says.
        ports: dict[str, Any] = {
            "upload__server__port": one.facts.port,
            "storage__server__tcpPort": one.facts.tcp_port,
            "proxy__server__port": one.facts.proxy_port,
        }
        findings = await found(tmp_path, scheduler__addrs=[app.address], **ports)
    bad = {name for name, one in findings.items() if one.level is not Level.OK}
    assert bad <= {"storage.file_system", "storage.space", "limit.open_files"}, "the machine's own"
    assert "the running daemon" in findings["port.upload.server.port"].detail
    assert findings["scheduler.kind"].detail == "Odonata's"
    assert "agree to within" in findings["scheduler.clock"].detail


async def test_a_port_that_somebody_else_holds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        findings = await found(tmp_path, upload__server__port=port)
    finding = findings["port.upload.server.port"]
    assert finding.level is Level.FAILURE
    assert f"(pid {os.getpid()}) listens on 127.0.0.2:{port}" in finding.detail


async def test_an_address_that_is_not_this_machine_s(tmp_path: Path) -> None:
    findings = await found(tmp_path, upload__server__ip="192.0.2.77", upload__server__port=4000)
    finding = findings["port.upload.server.port"]
    assert (finding.level, "192.0.2.77" in finding.detail) == (Level.FAILURE, True)


async def test_without_a_daemon_and_without_a_scheduler_it_is_advice(tmp_path: Path) -> None:
    findings = await found(tmp_path)
    assert level(findings, "socket") is Level.WARNING
    assert level(findings, "scheduler.known") is Level.WARNING
    assert not any(one.level is Level.FAILURE for one in findings.values())


async def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    findings = await found(tmp_path, download__server__socketPath=str(path))
    assert "left over" in findings["socket"].detail
    path.unlink()
    path.write_text("a file")
    findings = await found(tmp_path, download__server__socketPath=str(path))
    assert level(findings, "socket") is Level.FAILURE


async def test_a_socket_whose_daemon_hangs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d.sock"))
        listener.listen()
        findings = await found(tmp_path, download__server__socketPath=str(tmp_path / "d.sock"))
    assert level(findings, "socket") is Level.FAILURE
    assert "does not answer" in findings["socket"].detail


async def test_a_scheduler_without_a_name_and_one_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        findings = await found(tmp_path, scheduler__addrs=["nowhere.invalid:8002", address])
    assert level(findings, "scheduler.dns") is Level.FAILURE
    assert findings["scheduler.dns"].subject == "nowhere.invalid:8002"
    assert level(findings, "scheduler.serving") is Level.FAILURE
    assert findings["scheduler.serving"].subject == address


async def test_a_scheduler_that_does_not_answer_costs_a_bounded_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        findings = await found(tmp_path, scheduler__addrs=[address], check_timeout_s=1.0)
    assert level(findings, "scheduler") is Level.FAILURE
    assert "did not end within 1 s" in findings["scheduler"].detail


class Stock:
    """What a stock scheduler has that matters here: health, and no service of ours."""

    async def AnnounceHost(self, _request: Any, _context: Any) -> Empty:  # noqa: N802
        return Empty()


@pytest.fixture
async def stock() -> AsyncIterator[tuple[GrpcServer, str]]:
    server = GrpcServer()
    server.add_service(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], Stock())
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    yield server, f"127.0.0.1:{port}"
    await server.stop(0)


async def test_a_stock_scheduler_is_known_as_one(
    stock: tuple[GrpcServer, str], tmp_path: Path
) -> None:
    findings = await found(tmp_path, scheduler__addrs=[stock[1]])
    assert level(findings, "scheduler.serving") is Level.OK
    assert findings["scheduler.kind"].detail.startswith("Dragonfly's")
    assert level(findings, "scheduler.clock") is Level.OK


async def test_a_scheduler_that_does_not_serve(
    stock: tuple[GrpcServer, str], tmp_path: Path
) -> None:
    server, address = stock
    await server.set_serving(serving=False)
    findings = await found(tmp_path, scheduler__addrs=[address])
    assert "not serving" in findings["scheduler.serving"].detail


@pytest.mark.parametrize(
    ("wrong_s", "expected"), [(0.5, Level.OK), (10.0, Level.WARNING), (-3600.0, Level.FAILURE)]
)
async def test_a_clock_that_is_wrong(wrong_s: float, expected: Level, tmp_path: Path) -> None:
    async with scheduler() as app:
        findings = await found(
            tmp_path, scheduler__addrs=[app.address], wall_clock=lambda: time.time() + wrong_s
        )
    finding = findings["scheduler.clock"]
    assert finding.level is expected
    if expected is not Level.OK:
        assert ("behind" in finding.detail) is (wrong_s > 0)


async def test_a_manager_that_is_there_or_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as manager:
        address = f"127.0.0.1:{manager.getsockname()[1]}"
        findings = await found(tmp_path, manager__addr=f"http://{address}")
        assert level(findings, "manager") is Level.OK
    assert level(await found(tmp_path, manager__addr=address), "manager") is Level.FAILURE
    assert level(await found(tmp_path, manager__addr="manager"), "manager") is Level.FAILURE


async def test_loopback_is_no_address_to_tell_when_the_scheduler_is_elsewhere(
    tmp_path: Path,
) -> None:
    here = settings(tmp_path, 2)
    assert check_own_address(here, ["192.0.2.9:8002"]).level is Level.FAILURE
    assert check_own_address(here, ["127.0.0.1:8002"]).level is Level.OK
    assert check_own_address(here, []).level is Level.OK
    assert check_own_address(here, ["nowhere.invalid:8002"]).level is Level.OK


async def test_settings_that_can_not_be_read_and_such_without_effect(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("proxy:\n  sever:\n    port: 1\n")
    findings = await found(tmp_path, config=config)
    assert level(findings, "settings") is Level.FAILURE
    assert "limit.open_files" in findings
    config.write_text("dynconfig:\n  file: /nowhere/dynconfig.yaml\n")
    findings = await found(tmp_path, config=config)
    assert level(findings, "settings.dynconfig") is Level.FAILURE


async def test_a_check_that_hangs_holds_up_neither_the_others_nor_the_end() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(never.wait)
    never.set()
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_the_command_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    async with process(*daemon_arguments(tmp_path, 2)) as one:
        given = [f"--set={key}={value}" for key, value in overrides(tmp_path, 2).items()]
        port = one.started["piece_port"]
        given.append(f"--set=storage.server.tcpPort={port}")
        code, out, err = await run_whole("doctor", "--json", *given)
        told = json.loads(out)
        assert (code, err, told["is_well"]) == (0, "", True)
        by_name = {finding["check"]: finding for finding in told["findings"]}
        assert by_name["port.storage.server.tcpPort"]["detail"] == (
            f"the running daemon (pid {one.pid}) listens there"
        )
        assert by_name["socket"]["level"] == "ok"
        code, out, _ = await run_whole(
            "doctor", *given, f"--set=proxy.server.port={port}", "--set=proxy.server.ip=127.0.0.2",
            "--set=storage.dir=/sys/kernel",
        )  # fmt: skip
    assert code == 1
    assert out.startswith("failure  port.")
    assert "storage.folder /sys/kernel" in out
    assert "-> " in out


async def test_certificates_are_looked_at_where_there_are_some(tmp_path: Path) -> None:
    assert not {"storage.certificate", "backend.authorities"} & set(await found(tmp_path))
    authority = make_authority(tmp_path)
    own = make_signed(tmp_path, authority, "127.0.0.2")
    findings = await found(
        tmp_path,
        backend__caCert=str(authority.cert),
        storage__server__tls__caCert=str(authority.cert),
        storage__server__tls__cert=str(own.cert),
        storage__server__tls__key=str(own.key),
    )
    assert level(findings, "storage.certificate") is Level.WARNING, "they are for two days"
    assert level(findings, "backend.authorities") is Level.WARNING
