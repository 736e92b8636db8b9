"""`odonata scheduler` as a process of its own: start, errors, stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from odonata.grpc_stub import health_stub

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60


def command(*arguments: str) -> list[str]:
    start = "from odonata.cli import root; root(prog_name='odonata')"
    return [sys.executable, "-c", start, "scheduler", "--log-format=json", *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODONATA_")}
    return kept | {"PYTHONPATH": str(ROOT), "ODONATA_TELEMETRY__ENABLE": "false"}


@contextmanager
def running(*arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address it says it listens on."""
    with subprocess.Popen(
        command("--listen-ip=127.0.0.1", "--port=0", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        try:
            line = json.loads(process.stderr.readline())
            assert line["event"] == "scheduler_started", line
            yield process, line["address"]
        finally:
            process.kill()


def health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_stub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status)


def test_it_says_its_address_serves_and_stops_cleanly_on_both_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with running() as (process, address):
            assert health(address) == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(number)
            _, rest = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
        events = [json.loads(line)["event"] for line in rest.splitlines()]
        assert events == ["stop_requested", "scheduler_stopped"]


def test_a_port_in_use_is_one_clear_message_and_an_exit_code() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            command("--listen-ip=127.0.0.1", f"--port={port}"),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "server.port" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_is_not_ours_is_a_wrong_setting() -> None:
    done = subprocess.run(
        command("--listen-ip=192.0.2.1", "--port=0"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "192.0.2.1 is not an address of this machine" in done.stderr


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text("server:\n  port: 1\n  listenIP: 192.0.2.1\n")
    with running(f"--config={file}") as (_, address):
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":1")


def test_help_does_not_import_the_runtime() -> None:
    code = (
        "import sys, scheduler.command\n"
        "heavy = {'grpc', 'uvloop', 'numpy', 'scheduler.runtime.app'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- several workers ------------------------------------------------------------------------------


def events_of(process: subprocess.Popen[str]) -> Generator[dict[str, object]]:
    assert process.stderr is not None
    for line in process.stderr:
        yield json.loads(line)


def until(
    events: Generator[dict[str, object]], name: str, count: int = 1
) -> list[dict[str, object]]:
    """The next events of that name."""
    found: list[dict[str, object]] = []
    while len(found) < count:
        event = next(events)
        if event["event"] == name:
            found.append(event)
    return found


def children_of(pid: int) -> dict[int, int]:
    """Worker number -> process id."""
    found: dict[int, int] = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        number = next(word for word in words if word.startswith("--set=log.worker="))
        found[int(number.rpartition("=")[2])] = int(child)
    return found


def free_ports(count: int) -> int:
    """The first of so many free ports in a row; others may take them, but the system will not."""
    for first in range(21_000, 30_000, 50):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    one = stack.enter_context(socket.socket())
                    one.bind(("127.0.0.1", port))
                    one.listen()
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def test_workers_listen_side_by_side_and_one_that_dies_is_started_again() -> None:
    port = free_ports(2)
    arguments = ("--listen-ip=127.0.0.1", f"--port={port}", "--workers=2")
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            events = events_of(process)
            started = until(events, "scheduler_started", 2)
            at = {event["worker"]: event["address"] for event in started}
            assert at == {1: f"127.0.0.1:{port}", 2: f"127.0.0.1:{port + 1}"}
            for address in at.values():
                assert health(str(address)) == health_pb2.HealthCheckResponse.SERVING
            os.kill(children_of(process.pid)[2], signal.SIGKILL)
            (died,) = until(events, "worker_died")
            assert (died["worker"], died["code"]) == (2, -9)
            (again,) = until(events, "scheduler_started")
            assert (again["worker"], again["address"]) == (2, at[2])
            workers = children_of(process.pid).values()
            process.send_signal(signal.SIGTERM)
            until(events, "scheduler_stopped", 2)
            until(events, "workers_stopped")
            assert process.wait(PATIENCE_S) == 0
            assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        finally:
            process.kill()


def test_workers_end_with_whoever_minds_them() -> None:
    port = free_ports(2)
    arguments = ("--listen-ip=127.0.0.1", f"--port={port}", "--workers=2")
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        events = events_of(process)
        until(events, "scheduler_started", 2)
        process.kill()
        until(events, "scheduler_stopped", 2)


def test_a_worker_that_can_not_start_is_the_end_of_all() -> None:
    port = free_ports(2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        done = subprocess.run(
            command("--listen-ip=127.0.0.1", f"--port={port}", "--workers=2"),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port + 1} on 127.0.0.1 is in use" in done.stderr
    assert "worker 2 could not start" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_workers_than_ports_is_a_wrong_setting() -> None:
    done = subprocess.run(
        command("--port=65535", "--workers=2"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "worker 2 would need port 65536" in done.stderr
