"""Programs that tests start with uvloop, while gRPC is at work in the same process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import uvloop

PROGRAMS = 30


async def start_programs() -> list[int]:
    processes = [await asyncio.create_subprocess_exec("true") for _ in range(PROGRAMS)]
    return [await process.wait() for process in processes]


def test_no_fork_handler_of_grpc_runs_in_a_child(capfd: pytest.CaptureFixture[str]) -> None:
    """They say so when they leave a child alone, which is nearly always; else they may kill it."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        statuses = uvloop.run(start_programs())
    finally:
        server.stop(None).wait()
    assert statuses == [0] * PROGRAMS
    assert "fork() handlers" not in capfd.readouterr().err
