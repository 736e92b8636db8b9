"""Bytes off a connection by a thread that may wait for them, over loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from peer.runtime.piece_wire import RECEIVE_WAKE_BYTES, PlainWire

LENGTH = RECEIVE_WAKE_BYTES + 12_345
CONTENT = bytes(range(256)) * (LENGTH // 256 + 1)
PATIENCE_S = 20.0
MOMENT_S = 0.01


@pytest.fixture
def both() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The ends of a connection: who sends, and who receives."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = socket.create_connection(server.getsockname())
        sender, _ = server.accept()
    receiver.setblocking(False)
    with sender, receiver:
        yield sender, receiver


async def test_a_thread_takes_what_comes_while_it_waits(
    both: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = both
    wire, data = PlainWire(receiver), memoryview(bytearray(LENGTH))
    taking = asyncio.get_running_loop().run_in_executor(None, wire.take, data, PATIENCE_S)
    await asyncio.to_thread(sender.sendall, CONTENT[: LENGTH // 3])
    await asyncio.to_thread(sender.sendall, CONTENT[LENGTH // 3 : LENGTH])
    assert await taking == LENGTH
    assert data == CONTENT[:LENGTH]


async def test_its_patience_ends_and_the_loop_goes_on(
    both: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = both
    wire, data = PlainWire(receiver), memoryview(bytearray(LENGTH))
    sender.sendall(CONTENT[:1000])
    await wire.arrival(1000)
    position = await asyncio.to_thread(wire.take, data, MOMENT_S)
    assert position == 1000
    assert await asyncio.to_thread(wire.take, data[position:], MOMENT_S) == 0
    sender.sendall(CONTENT[1000:1001])  # a single byte wakes who waits for no more
    async with asyncio.timeout(PATIENCE_S):
        await wire.arrival(1)
    assert wire.take(data[position:]) == 1


async def test_an_early_end_is_told_after_the_bytes(
    both: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = both
    wire, data = PlainWire(receiver), memoryview(bytearray(LENGTH))
    sender.sendall(CONTENT[:1000])
    sender.close()
    assert await asyncio.to_thread(wire.take, data, PATIENCE_S) == 1000
    with pytest.raises(EOFError):
        await asyncio.to_thread(wire.take, data[1000:], PATIENCE_S)
