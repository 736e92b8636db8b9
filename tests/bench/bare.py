"""Bytes from three processes to one with nothing around them: what no daemon in Python goes below.

    python tests/bench/bare.py CONTENT-FILE OUTPUT     # a line of JSON: wall_s, client, server

The same work on every byte as a child and its parents do: sendfile from the page cache, received
in pieces of 4 MiB by two threads, BLAKE3 over each, written into a fresh file. No scheduler, index,
event loop, gRPC or CRC-32. Used by `datapath.py`; no benchmark of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import socket
import struct
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.yardstick import MIB, cpu_s_of, own_cpu_s, say  # noqa: E402  # after the path

from odonata.digest import strong_digest  # noqa: E402

SENDERS: Final = 3
THREADS: Final = 2
PIECE_BYTES: Final = 4 * MIB
_NUMBER: Final = struct.Struct(">I")


def send(content: Path, says: Connection) -> None:
    """Say the port; then send each piece that is asked for, until the process is ended."""
    fd = os.open(content, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        says.send(server.getsockname()[1])
        while True:
            child, _ = server.accept()
            threading.Thread(target=_answer, args=(child, fd), daemon=True).start()


def _answer(child: socket.socket, fd: int) -> None:
    with child:
        while asked := child.recv(_NUMBER.size, socket.MSG_WAITALL):
            position = _NUMBER.unpack(asked)[0] * PIECE_BYTES
            left = PIECE_BYTES
            while left and (count := os.sendfile(child.fileno(), fd, position, left)):
                position += count
                left -= count


def fetch(port: int, numbers: queue.SimpleQueue[int], length: int, fd: int) -> None:
    """Pieces, one after the other, until none is left."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    with socket.create_connection(("127.0.0.1", port)) as parent:
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            parent.sendall(_NUMBER.pack(number))
            data = buffer[: min(PIECE_BYTES, length - number * PIECE_BYTES)]
            count = parent.recv_into(data, len(data), socket.MSG_WAITALL)
            assert count == len(data), "the sender went away"
            strong_digest(data)
            os.pwrite(fd, data, number * PIECE_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("content", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    length = args.content.stat().st_size
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(-(-length // PIECE_BYTES)):
        numbers.put(number)
    ports: list[int] = []
    senders: list[multiprocessing.Process] = []
    for _ in range(SENDERS):
        hears, says = multiprocessing.Pipe()
        senders.append(multiprocessing.Process(target=send, args=(args.content, says), daemon=True))
        senders[-1].start()
        ports.append(hears.recv())
    pids = [one.pid for one in senders if one.pid is not None]
    server, client, began_s = cpu_s_of(pids), own_cpu_s(), time.perf_counter()
    fd = os.open(args.output, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, length)
    threads = [
        threading.Thread(target=fetch, args=(ports[n % SENDERS], numbers, length, fd))
        for n in range(THREADS)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    wall_s = time.perf_counter() - began_s
    say({"wall_s": wall_s, "client": own_cpu_s() - client, "server": cpu_s_of(pids) - server})
    for sender in senders:
        sender.terminate()


if __name__ == "__main__":
    main()
