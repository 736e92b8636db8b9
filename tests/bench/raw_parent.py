"""A parent that holds one content, and nothing else of a daemon: to see a child's own cost by.

    python tests/bench/raw_parent.py FOLDER CONTENT-FILE     # says its port; ends with its stdin

Used by other benchmarks; no benchmark of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import uvloop  # noqa: E402  # after the path
from bench.yardstick import process_cpu_s, say  # noqa: E402

from odonata.digest import piece_digest  # noqa: E402
from odonata.piece import piece_at, piece_count, piece_length_for  # noqa: E402
from odonata.wire.message import Download, Piece  # noqa: E402
from peer.runtime.piece_server import PieceServer  # noqa: E402
from peer.runtime.storage.store import DiskStorage  # noqa: E402

TASK: Final = "b" * 64


async def serve(folder: Path, content_file: Path) -> None:
    """Store the content, say the port, serve until stdin closes."""
    length = await asyncio.to_thread(os.path.getsize, content_file)
    piece_length = piece_length_for(length)
    async with (
        await DiskStorage.open(folder, keep=False) as storage,
        PieceServer(storage) as server,
    ):
        task = await storage.create(TASK, Download(url="http://bench.test/content"))
        await task.learn(length, piece_length, {})
        with content_file.open("rb") as file:
            for number in range(piece_count(length, piece_length)):
                offset, n_bytes = piece_at(number, length, piece_length)
                data = memoryview(file.read(n_bytes))
                piece = Piece(
                    number=number, offset=offset, length=n_bytes, digest=piece_digest(data)
                )
                await task.store(piece, data)
        await task.finish()
        await server.listen("127.0.0.1", 0)
        say({"port": server.port})
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def parent(folder: Path, content_file: Path) -> Generator[tuple[int, Callable[[], float]]]:
    """A peer that holds the content. Yields its port, and a function for its CPU seconds."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(folder), str(content_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        yield port, lambda: process_cpu_s(server.pid)
        server.stdin.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
