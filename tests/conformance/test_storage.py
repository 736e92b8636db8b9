"""What every storage must do, on disk and in memory alike."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.content import cut, make_content, make_download, make_task_id
from support.forgery import forged
from support.memory_storage import MemoryStorage

from odonata.digest import strong_digest
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    DigestMismatchError,
    ListedDigestError,
    PreconditionError,
    ProtocolError,
    StorageError,
)
from odonata.piece import piece_count
from odonata.wire.message import Piece, TrafficType
from peer.runtime.port import Storage, StoredTask
from peer.runtime.storage.store import DiskStorage

KiB = 1024
PIECE = 4 * KiB
TASK = make_task_id()


@pytest.fixture(params=["disk", "memory"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "disk":
        async with await DiskStorage.open(tmp_path / "data") as disk:
            yield disk
    else:
        memory = MemoryStorage()
        yield memory
        memory.close()


async def stored(storage: Storage, content: bytes) -> StoredTask:
    """A task that holds all of `content`, not finished yet."""
    task = await storage.create(TASK, make_download())
    await task.learn(len(content), PIECE, {"content-type": "text/plain"})
    for piece, data in cut(content, PIECE):
        await task.store(piece, data)
    return task


def content_of(task: StoredTask) -> bytes:
    fd = task.open_fd()
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 5 * PIECE + 7])
async def test_content_comes_back_as_it_was_stored(storage: Storage, length: int) -> None:
    content = make_content(length)
    task = await stored(storage, content)
    await task.finish()
    assert content_of(task) == content
    assert task.finished
    assert task.held() == tuple(range(piece_count(length, PIECE)))
    assert (task.content_length, task.piece_length) == (length, PIECE)
    assert task.response_header == {"content-type": "text/plain"}
    assert storage.get(TASK) is task
    assert storage.tasks() == (task,)


async def test_a_stored_piece_has_its_digest_whether_the_sender_said_it_or_not(
    storage: Storage,
) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})
    [(piece, data)] = cut(make_content(PIECE), PIECE)
    silent = msgspec.structs.replace(piece, digest="")
    kept = await task.store(silent, data)
    assert kept.digest == piece.digest
    assert kept.created_at_s > 0
    assert task.piece(0) == kept


async def test_a_wrong_digest_stores_nothing(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})
    [(piece, data)] = cut(make_content(PIECE), PIECE)
    with pytest.raises(DigestMismatchError, match="crc32:1 was promised"):
        await task.store(msgspec.structs.replace(piece, digest="crc32:1"), data)
    assert task.held() == ()
    assert content_of(task) == bytes(PIECE)
    with pytest.raises(ProtocolError, match="crc32:DECIMAL"):
        await task.store(msgspec.structs.replace(piece, digest="md5:00"), data)
    assert task.held() == ()


@pytest.mark.parametrize(
    ("number", "offset", "length"),
    [(0, 1, PIECE), (1, 0, PIECE), (2, 2 * PIECE, PIECE), (3, 3 * PIECE, 10), (-1, -PIECE, PIECE)],
)
async def test_a_piece_that_lies_elsewhere_is_refused(
    storage: Storage, number: int, offset: int, length: int
) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(2 * PIECE + 10, PIECE, {})
    with pytest.raises(ProtocolError):
        await task.store(
            Piece(number=number, offset=offset, length=length), memoryview(bytes(length))
        )
    with pytest.raises(ProtocolError):
        await task.store(Piece(number=0, offset=0, length=PIECE), memoryview(bytes(PIECE - 1)))
    assert task.held() == ()


async def test_a_held_piece_is_never_written_again(storage: Storage) -> None:
    content = make_content(PIECE)
    task = await stored(storage, content)
    first = task.piece(0)
    other = make_content(PIECE, seed=2)
    [(piece, data)] = cut(other, PIECE)
    assert await task.store(piece, data) == first
    assert content_of(task) == content


async def test_the_rest_of_a_piece_may_come_while_it_is_stored(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})
    [(piece, content)] = cut(make_content(PIECE), PIECE)
    data = memoryview(bytearray(PIECE))
    data[:100] = content[:100]

    def breaks() -> Piece:
        raise ConnectionResetError

    def comes() -> Piece:
        data[100:] = content[100:]
        return msgspec.structs.replace(piece, cost_s=0.25, created_at_s=7.0)

    assert await task.receive(piece, data, lambda: None) is None
    with pytest.raises(ConnectionResetError):
        await task.receive(piece, data, breaks)
    assert task.held() == ()
    stored = await task.receive(piece, data, comes)
    assert stored is not None
    assert (stored.cost_s, stored.created_at_s) == (0.25, 7.0)
    assert task.held() == (0,)
    assert content_of(task) == content
    assert await task.receive(piece, data, breaks) == stored, "held: nothing is asked for"


async def test_two_stores_of_one_piece_at_once_leave_one(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})
    ours = cut(make_content(PIECE), PIECE)[0]
    theirs = cut(make_content(PIECE, seed=2), PIECE)[0]
    one, two = await asyncio.gather(task.store(*ours), task.store(*theirs))
    assert one == two == task.piece(0)
    assert content_of(task) == make_content(PIECE)


async def test_unknown_length_becomes_known_at_the_end(storage: Storage) -> None:
    content = make_content(2 * PIECE + 5)
    task = await storage.create(TASK, make_download())
    await task.learn(None, PIECE, {})
    assert task.content_length is None
    for piece, data in cut(content, PIECE):
        await task.store(piece, data)
    with pytest.raises(PreconditionError, match="not known"):
        await task.finish()
    await task.learn(len(content), PIECE, {})
    await task.finish()
    assert content_of(task) == content


async def test_a_piece_may_come_before_the_facts(storage: Storage) -> None:
    content = make_content(2 * PIECE)
    task = await storage.create(TASK, make_download())
    second = cut(content, PIECE)[1]
    await task.store(*second)
    with pytest.raises(PreconditionError):
        await task.learn(2 * PIECE, 2 * PIECE, {})
    await task.learn(2 * PIECE, PIECE, {})
    assert task.held() == (1,)


async def test_the_same_facts_again_change_nothing(storage: Storage) -> None:
    task = await stored(storage, make_content(PIECE))
    changes: list[None] = []
    task.subscribe(lambda: changes.append(None))
    await task.learn(PIECE, PIECE, {"content-type": "text/plain"})
    await task.learn(None, PIECE, {})
    assert changes == []
    assert task.content_length == PIECE


@pytest.mark.parametrize(("length", "piece_length"), [(PIECE + 1, PIECE), (PIECE, 2 * PIECE)])
async def test_contradicting_facts_are_refused_until_a_reset(
    storage: Storage, length: int, piece_length: int
) -> None:
    task = await stored(storage, make_content(PIECE))
    with pytest.raises(PreconditionError):
        await task.learn(length, piece_length, {})
    assert (task.content_length, task.piece_length, task.held()) == (PIECE, PIECE, (0,))
    old = task.open_fd()
    await task.reset()
    assert (task.content_length, task.held(), task.finished) == (None, (), False)
    await task.learn(length, piece_length, {})
    assert task.content_length == length
    # Whoever was reading the old content still reads the old content.
    assert os.pread(old, PIECE, 0) == make_content(PIECE)
    os.close(old)


async def test_finish_needs_every_piece(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(2 * PIECE, PIECE, {})
    await task.store(*cut(make_content(2 * PIECE), PIECE)[0])
    with pytest.raises(PreconditionError):
        await task.finish()
    assert not task.finished


async def test_activity_ends_with_finish_fail_or_the_last_unpin(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    seen = [task.active]
    await task.fail()
    seen.append(task.active)
    await storage.create(TASK, make_download())
    seen.append(task.active)
    task.pin()
    task.pin()
    task.unpin()
    seen.append(task.active)
    task.unpin()
    seen.append(task.active)
    assert seen == [True, False, True, True, False]
    task = await stored(storage, make_content(1))
    await task.finish()
    assert not task.active
    assert not (await storage.create(TASK, make_download())).active


async def test_subscribers_hear_every_change_until_they_leave(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    heard: list[tuple[int, ...]] = []
    leave = task.subscribe(lambda: heard.append(task.held()))
    await task.learn(PIECE + 1, PIECE, {})
    first, second = cut(make_content(PIECE + 1), PIECE)
    await task.store(*first)
    await task.store(*second)
    await task.finish()
    await task.fail()
    assert heard == [(), (0,), (0, 1), (0, 1), (0, 1)]
    leave()
    leave()
    await task.reset()
    assert len(heard) == 5


async def test_verify_forgets_what_rotted(storage: Storage) -> None:
    task = await stored(storage, make_content(2 * PIECE))
    await task.finish()
    assert await task.verify(0)
    fd = os.open(task.path, os.O_RDWR)
    os.pwrite(fd, b"\0rotten", PIECE)
    os.close(fd)
    assert not await task.verify(1)
    assert task.held() == (0,)
    assert not task.finished
    assert await task.verify(0)
    assert not await task.verify(7)


def from_source(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, traffic_type=TrafficType.BACK_TO_SOURCE)


async def test_what_a_peer_sends_must_be_what_is_expected(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    content = make_content(3 * PIECE)
    await task.learn(len(content), PIECE, {})
    first, second, third = cut(content, PIECE)
    task.expect({0: strong_digest(first[1]), 1: strong_digest(first[1])})
    assert (await task.store(*first)).strong_digest == strong_digest(first[1])
    with pytest.raises(ListedDigestError):
        await task.store(*second)
    assert task.held() == (0,)
    assert (await task.store(*third)).strong_digest == b"", "nothing is known of it"
    task.expect({1: b""})
    assert (await task.store(*second)).strong_digest == b""


async def test_a_piece_with_the_right_crc32_and_other_bytes_is_refused(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    ((piece, data),) = cut(make_content(PIECE), PIECE)
    await task.learn(PIECE, PIECE, {})
    task.expect({0: strong_digest(data)})
    with pytest.raises(ListedDigestError):
        await task.store(piece, memoryview(forged(bytes(data), 5)))
    assert task.held() == ()


async def test_the_source_is_believed_more_than_what_is_told_of_it(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    ((piece, data),) = cut(make_content(PIECE), PIECE)
    await task.learn(PIECE, PIECE, {})
    task.expect({0: b"?" * 32})
    stored = await task.store(from_source(piece), data)
    assert stored.strong_digest == strong_digest(data)
    assert await task.verify(0)


async def test_verify_forgets_what_turned_out_to_be_forged(storage: Storage) -> None:
    task = await stored(storage, make_content(2 * PIECE))
    await task.finish()
    task.expect({0: b"?" * 32})
    assert not await task.verify(0)
    assert await task.verify(1)
    assert task.held() == (1,)
    assert not task.finished


async def test_a_reset_forgets_what_was_expected(storage: Storage) -> None:
    task = await storage.create(TASK, make_download())
    task.expect({0: b"?" * 32})
    await task.reset()
    ((piece, data),) = cut(make_content(PIECE), PIECE)
    await task.learn(PIECE, PIECE, {})
    assert (await task.store(piece, data)).strong_digest == b""


async def test_a_deleted_task_is_gone_and_can_be_made_again(storage: Storage) -> None:
    task = await stored(storage, make_content(PIECE))
    assert await storage.delete(TASK)
    assert storage.get(TASK) is None
    assert (task.held(), task.finished) == ((), False)
    with pytest.raises(StorageError, match="deleted"):
        await task.store(*cut(make_content(PIECE), PIECE)[0])
    assert not await storage.delete(TASK)
    again = await storage.create(TASK, make_download())
    assert again is not task
    assert again.content_length is None


async def test_a_pinned_task_is_deleted_at_its_last_unpin(storage: Storage) -> None:
    content = make_content(PIECE)
    task = await stored(storage, content)
    gone = asyncio.Event()
    task.pin()
    task.pin()
    assert await storage.delete(TASK)
    assert content_of(task) == content
    task.unpin()
    assert storage.get(TASK) is task
    task.subscribe(gone.set)
    task.unpin()
    await asyncio.wait_for(gone.wait(), 10)
    assert task.held() == ()
    assert not await storage.delete(TASK)


async def test_a_deletion_that_waits_is_called_off_when_the_task_is_wanted_again(
    storage: Storage,
) -> None:
    task = await stored(storage, make_content(PIECE))
    task.pin()
    await storage.delete(TASK)
    assert await storage.create(TASK, make_download()) is task
    task.unpin()
    await storage.delete(make_task_id("another"))
    assert (storage.get(TASK), task.held()) == (task, (0,))


@pytest.mark.parametrize(
    "task_id",
    ["", "a" * 63, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n", "a" * 65, "é" * 64],
)
async def test_what_is_no_task_id_never_becomes_a_path(storage: Storage, task_id: str) -> None:
    with pytest.raises(CallerError, match="hexadecimal"):
        await storage.create(task_id, make_download())
    assert storage.get(task_id) is None
    assert not await storage.delete(task_id)


async def test_ids_from_sha512_are_taken(storage: Storage) -> None:
    task = await storage.create("0123456789abcdef" * 8, make_download("http://o.test/x"))
    assert task.url == "http://o.test/x"


async def test_export_writes_the_content_once(storage: Storage, tmp_path: Path) -> None:
    content = make_content(3 * PIECE + 1)
    task = await stored(storage, content)
    target = tmp_path / "out"
    with pytest.raises(PreconditionError):
        await task.export(target)
    await task.finish()
    await task.export(target)
    assert target.read_bytes() == content
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    with pytest.raises(AlreadyExistsError, match="other"):
        await task.export(other)
    assert other.read_bytes() == b"mine"
    await task.export(other, overwrite=True)
    assert other.read_bytes() == content


@pytest.mark.parametrize("name", ["relative", "missing/out", "."])
async def test_export_refuses_what_is_no_place_for_a_file(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    task = await stored(storage, b"x")
    await task.finish()
    target = Path(name) if name == "relative" else tmp_path / name
    with pytest.raises(CallerError):
        await task.export(target)


@settings(max_examples=25, deadline=None)
@given(
    length=st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129, 640]),
    order=st.randoms(use_true_random=False),
)
async def test_pieces_land_right_in_any_order(length: int, order: random.Random) -> None:
    """In memory only: it is the arithmetic that is under test, around each boundary."""
    memory = MemoryStorage()
    content = make_content(length, seed=length)
    task = await memory.create(TASK, make_download())
    await task.learn(length, 64, {})
    pieces = cut(content, 64)
    order.shuffle(pieces)
    for piece, data in pieces:
        await task.store(piece, data)
    await task.finish()
    assert content_of(task) == content
    memory.close()
