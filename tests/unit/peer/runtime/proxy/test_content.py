"""Slices of real files: warm, cold, short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import make_content

from odonata.errors import StorageError
from peer.runtime.port import Segment
from peer.runtime.proxy.content import SLICE, slices, whole

CONTENT = make_content(3 * SLICE + 7)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


async def taken(fd: int, offset: int, length: int) -> list[bytes]:
    segment = Segment(fd=fd, offset=offset, length=length)
    buffer = memoryview(bytearray(SLICE))
    parts = [bytes(data) async for data in slices(segment, buffer)]
    assert await whole(segment) == b"".join(parts)
    return parts


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, len(CONTENT)), (0, 0), (5, 1), (SLICE - 1, 2), (7, 2 * SLICE), (len(CONTENT) - 1, 1)],
)
async def test_the_bytes_in_order(fd: int, offset: int, length: int) -> None:
    parts = await taken(fd, offset, length)
    assert b"".join(parts) == CONTENT[offset : offset + length]
    assert all(0 < len(part) <= SLICE for part in parts)


async def test_a_file_that_is_not_in_the_page_cache(fd: int) -> None:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert b"".join(await taken(fd, 0, len(CONTENT))) == CONTENT


async def test_a_file_that_was_cut_from_outside(fd: int) -> None:
    os.truncate(fd, SLICE + 1)
    with pytest.raises(StorageError, match=f"ends at {SLICE + 1}"):
        await taken(fd, 0, len(CONTENT))


async def test_a_file_that_can_t_be_read(tmp_path: Path) -> None:
    write_only = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(StorageError, match="can't be read"):
            await taken(write_only, 0, 5)
    finally:
        os.close(write_only)
