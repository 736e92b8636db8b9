"""A real redis-server on a free port of loopback, with nothing on disk. Debian: redis-server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis

PROGRAM = "redis-server"
START_TIMEOUT_S = 20.0
PORT_TRIES = 5  # between finding a free port and taking it, somebody else may


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """Started by entering; `stop` and `start` play a crash and a restart on the same port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """`arguments`: of redis-server's command line, like "--requirepass", "x"."""
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        if shutil.which(PROGRAM) is None:
            pytest.skip(f"{PROGRAM} is missing (on Debian: apt install redis-server)")
        for _ in range(PORT_TRIES):
            self.port = free_port()
            if self.start():
                return self
        raise AssertionError(f"{PROGRAM} does not start: {self.log()}")

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> bool:
        """Start on `port`; False if it ended at once."""
        self._process = subprocess.Popen(self.words())
        end_s = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None:
            if self._listens():
                return True
            assert time.monotonic() < end_s, f"redis-server is not up: {self.log()}"
            time.sleep(0.01)
        return False

    def words(self) -> list[str]:
        """Its command line."""
        return [
            *(PROGRAM, "--bind", "127.0.0.1", *self.port_arguments()),
            *("--dir", str(self._folder), "--save", "", "--appendonly", "no"),
            *("--logfile", str(self._folder / "redis.log"), *self._arguments),
        ]

    def port_arguments(self) -> tuple[str, ...]:
        """The part of it that says where it listens."""
        return ("--port", str(self.port))

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it. All that it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, **options: Any) -> Any:
        """A plain client, for looks behind the scheduler's back. It ships with half its types."""
        return Redis(host="127.0.0.1", port=self.port, protocol=2, **options)

    def log(self) -> str:
        """What it wrote."""
        path = self._folder / "redis.log"
        return path.read_text() if path.exists() else ""
