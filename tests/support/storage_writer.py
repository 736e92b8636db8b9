"""A process that stores one task after another until it is killed (see test_disk_storage).

    python storage_writer.py FOLDER FIRST

Task k holds `make_content(length_of(k), seed=k)`, so whoever opens the folder afterwards can tell
right bytes from wrong ones. It prints a line for each stored piece.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from pathlib import Path

from support.content import cut, make_content, make_download, make_task_id

from peer.runtime.storage.store import DiskStorage

PIECE_LENGTH = 32 * 1024


def length_of(number: int) -> int:
    return random.Random(number).randrange(1, 40 * PIECE_LENGTH)


async def write_for_ever(folder: Path, first: int) -> None:
    async with await DiskStorage.open(folder) as storage:
        for number in itertools.count(first):
            content = make_content(length_of(number), seed=number)
            task = await storage.create(make_task_id(str(number)), make_download())
            await task.learn(len(content), PIECE_LENGTH, {"number": str(number)})
            pieces = cut(content, PIECE_LENGTH)
            random.Random(number).shuffle(pieces)
            async with asyncio.TaskGroup() as group:
                for piece, data in pieces:
                    group.create_task(task.store(piece, data))
                    sys.stdout.write(f"{number} {piece.number}\n")
                    sys.stdout.flush()
            await task.finish()


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
