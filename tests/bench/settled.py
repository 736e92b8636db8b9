"""Memory that is there before the clock starts. A virtual machine's often is not.

Its host takes back pages that lay free for a while, and finds them again one fault at a time when
they are written: a file of 1 GiB on tmpfs takes 0.4 s then, or 2. Whoever's turn it is pays, so
that figures of two contenders differ by the state of the host rather than by what they do.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
STEP_BYTES: Final = 256 * MIB
POPULATED: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
ROOM_BYTES: Final = 6 * 1024 * MIB
"""Left free for what is measured: three contents of a GiB, daemons, and what the kernel keeps."""


def free_bytes() -> int:
    """What the kernel would hand out at once."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith("MemFree:"))
    return int(found.split()[1]) * 1024


@contextmanager
def settled_memory(where: Path, room_bytes: int = ROOM_BYTES) -> Generator[None]:
    """All but `room_bytes` of free memory is held, and that room was written a moment ago, in a
    file below `where` (on tmpfs). What is then freed and taken again is the same few pages.
    """
    held: list[mmap.mmap] = []
    try:
        while free_bytes() > room_bytes + STEP_BYTES:
            held.append(mmap.mmap(-1, STEP_BYTES, flags=POPULATED))
        _write(where / "settling", free_bytes() - 4 * STEP_BYTES)
        yield
    finally:
        for one in held:
            one.close()


def _write(path: Path, length: int) -> None:
    zeros = bytes(MIB)
    with path.open("wb") as file:
        for _ in range(max(0, length) // MIB):
            file.write(zeros)
    path.unlink()
