"""Pieces: the frames by themselves, the real server under a hostile child, the real client under a
hostile parent. No crash, no hang, no descriptor left, and never a byte that is not the piece's.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from support.content import make_content, make_download, make_task_id
from support.eventually import eventually
from support.fuzzing import (
    Campaign,
    Edit,
    ask,
    cut_up,
    damage,
    damaged,
    edits,
    open_descriptors,
)
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.digest import crc32, piece_digest
from odonata.errors import OdonataError, ProtocolError
from odonata.piece import piece_at, piece_count
from odonata.wire import vortex
from odonata.wire.message import Piece
from peer.runtime.buffer import BufferPool
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_server import PieceServer

TASK = make_task_id()
PIECE = 4096
CONTENT = make_content(3 * PIECE + 17)
COUNT = piece_count(len(CONTENT), PIECE)
PATIENCE_S = 10.0
SHORT_S = 0.02
"""The server's and the client's patience here: what stalls, stalls for so long."""

TRIES = range(100)
"""Of what must succeed in the end, within that patience, on a machine that is busy."""


def request_of(number: int, packet_id: int, tag: vortex.RequestTag) -> bytes:
    request = vortex.PieceRequest(task_id=TASK, number=number, tag=tag)
    return vortex.encode_request(request, packet_id=packet_id)


def refusal_of(code: vortex.RefusalCode, message: str) -> bytes:
    return vortex.encode_refusal(vortex.Refusal(code=code, message=message))


requests = st.builds(
    request_of, st.integers(0, COUNT), st.integers(0, 255), st.sampled_from(vortex.RequestTag)
)
refusals = st.builds(refusal_of, st.sampled_from(vortex.RefusalCode), st.text(max_size=40))
sizes = st.lists(st.integers(1, 80), max_size=4)


def piece(number: int) -> tuple[Piece, bytes]:
    offset, length = piece_at(number, len(CONTENT), PIECE)
    data = CONTENT[offset : offset + length]
    return Piece(number=number, offset=offset, length=length, digest=piece_digest(data)), data


def good_answer(number: int) -> bytes:
    facts, data = piece(number)
    request = vortex.PieceRequest(task_id=TASK, number=number)
    return vortex.encode_content_head(request, facts) + data


def test_frames_are_read_or_refused(campaign: Campaign) -> None:
    def check(answer: bytes, request: bytes, number: int) -> None:
        _read_answer(answer, number)
        with suppress(ProtocolError):
            header = vortex.parse_header(request[: vortex.HEADER_LENGTH])
            length = vortex.request_value_length(header)
            value = request[vortex.HEADER_LENGTH :][:length]
            read = vortex.parse_request(header, value)
            # What is read can be written, and is the same.
            assert vortex.encode_request(read, packet_id=header.id) == request[: 6 + length]

    answers = st.integers(0, COUNT - 1).map(good_answer) | refusals
    numbers = st.integers(0, COUNT - 1)
    campaign.run(check, damaged(answers), damaged(requests), numbers, examples=150)


def _read_answer(data: bytes, number: int) -> None:
    parser = vortex.AnswerParser(vortex.PieceRequest(task_id=TASK, number=number))
    at = 0
    with suppress(ProtocolError):
        while parser.need:
            assert parser.need <= vortex.ERROR_VALUE_LENGTH_MAX, "memory for what was promised"
            parser.feed(data[at : at + parser.need])
            at += parser.need
        answer = parser.answer
        if isinstance(answer, Piece):
            assert answer.number == number
            assert answer.length <= vortex.CONTENT_LENGTH_MAX
            vortex.encode_metadata(answer)


# --- over sockets ---------------------------------------------------------------------------------


async def filled() -> MemoryStorage:
    storage = MemoryStorage()
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    for number in range(COUNT):
        facts, data = piece(number)
        await task.store(facts, memoryview(data))
    await task.finish()
    return storage


def test_the_server_under_a_hostile_child(campaign: Campaign) -> None:
    with asyncio.Runner() as runner:
        storage = runner.run(filled())
        server = PieceServer(storage, request_timeout_s=SHORT_S, stall_timeout_s=1.0)
        runner.run(server.listen("127.0.0.1", 0))
        before = open_descriptors()

        def check(data: bytes, parts: list[int], ends: bool) -> None:
            answer, is_clean = runner.run(
                _bounded(ask(server.port, cut_up(data, parts), ends=ends))
            )
            if answer and is_clean:
                _is_honest(answer)

        campaign.run(check, damaged(requests), sizes, st.booleans(), examples=80)
        runner.run(eventually(lambda: server.connections == 0))
        assert (server.uploading, server.waiting) == (0, 0)
        assert open_descriptors() <= before
        wanted = vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=1))
        served = (runner.run(_bounded(ask(server.port, [wanted], ends=False))) for _ in TRIES)
        assert any(answer.endswith(piece(1)[1]) for answer, _ in served), "it serves as before"
        runner.run(server.close())
        storage.close()


def _is_honest(answer: bytes) -> None:
    """A refusal, or a piece with its own bytes."""
    header = vortex.parse_header(answer[: vortex.HEADER_LENGTH])
    value = answer[vortex.HEADER_LENGTH :]
    if header.tag is vortex.Tag.ERROR:
        vortex.parse_refusal(value)
        return
    metadata = vortex.parse_metadata(value[vortex.PREFIX_LENGTH : header.length])
    assert value[header.length :] == piece(metadata.number)[1]


async def _bounded(work: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await work


class Parent:
    """Answers whatever it was told to, in parts, and hangs up, with a reset or without."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.resets = False
        self.hangs = False
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readexactly(vortex.HEADER_LENGTH + vortex.REQUEST_VALUE_LENGTH)
            for part in self.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if self.hangs:
                await reader.read()
            if self.resets:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


def damaged_answer(number: int, changes: list[Edit]) -> bytes:
    return damage(good_answer(number), changes)


answers = st.builds(damaged_answer, st.integers(0, COUNT - 1), edits)


def test_the_client_under_a_hostile_parent(campaign: Campaign) -> None:
    with asyncio.Runner() as runner:
        parent = Parent()
        port = runner.run(parent.listen())
        buffers = BufferPool()
        client = PieceClient(buffers)
        before = open_descriptors()

        def check(
            number: int, said: bytes, parts: list[int], hangs: bool, resets: bool, known: bool
        ) -> None:
            parent.parts, parent.hangs, parent.resets = cut_up(said, parts), hangs, resets
            runner.run(_bounded(_fetch(client, port, number, knows_length=known)))

        numbers = st.integers(0, COUNT - 1)
        flags = (st.booleans(), st.booleans(), st.booleans())
        said = damaged(answers | refusals)
        campaign.run(check, numbers, said, sizes, *flags, examples=60)
        parent.parts, parent.hangs, parent.resets = [good_answer(2)], False, False
        assert any(runner.run(_bounded(_fetch(client, port, 2, knows_length=True))) for _ in TRIES)
        runner.run(eventually(lambda: open_descriptors() <= before))
        runner.run(parent.close())


async def _fetch(client: PieceClient, port: int, number: int, *, knows_length: bool) -> bool:
    """Whether the piece came; an honest error is none, and nothing is held that is not right."""
    child = MemoryStorage()
    try:
        task = await child.create(TASK, make_download())
        await task.learn(len(CONTENT) if knows_length else None, PIECE, {})
        try:
            stored = await client.fetch(
                "127.0.0.1", port, task, number, parent_id="parent", timeout_s=SHORT_S * 5
            )
        except (OdonataError, TimeoutError):
            assert task.held() == ()
            return False
        _is_right(task, stored, number)
        return True
    finally:
        child.close()


def _is_right(task: MemoryTask, stored: Piece, number: int) -> None:
    assert stored.number == number
    assert task.held() == (number,)
    data = task.path.read_bytes()[stored.offset :][: stored.length]
    assert stored.digest == piece_digest(data)
    assert stored.offset == number * PIECE


def test_damage_is_noticed_by_the_digest() -> None:
    """The property above is worth something: a flipped bit of the content is never stored."""
    rng = random.Random(1)
    facts, data = piece(0)
    for _ in range(50):
        at = rng.randrange(len(data))
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert f"crc32:{crc32(bad)}" != facts.digest
