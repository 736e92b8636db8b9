"""Test content: bytes that differ everywhere, cut into pieces with their true digests."""

from __future__ import annotations

import hashlib
import random

from odonata.digest import piece_digest
from odonata.piece import piece_at, piece_count
from odonata.wire.message import Download, Piece

MIB = 1024 * 1024


def make_content(length: int, seed: int = 1) -> bytes:
    """`length` bytes, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def make_task_id(name: str = "task") -> str:
    """A valid task id."""
    return hashlib.sha256(name.encode()).hexdigest()


def make_download(url: str = "http://origin.test/blob") -> Download:
    return Download(url=url)


def cut(content: bytes, piece_length: int) -> list[tuple[Piece, memoryview]]:
    """Every piece of `content`, with digest, and its bytes."""
    view = memoryview(content)
    pieces: list[tuple[Piece, memoryview]] = []
    for number in range(piece_count(len(content), piece_length)):
        offset, length = piece_at(number, len(content), piece_length)
        data = view[offset : offset + length]
        piece = Piece(number=number, offset=offset, length=length, digest=piece_digest(data))
        pieces.append((piece, data))
    return pieces
