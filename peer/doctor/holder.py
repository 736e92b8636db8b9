"""Which process listens on a port, read from /proc. What may not be read is not known.

Linux only, like the daemon; of other users' processes only root sees the open sockets.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from odonata.wire.message import Value

_LISTENS: Final = "0A"
_PORT_COLUMN, _STATE_COLUMN, _INODE_COLUMN = 1, 3, 9


class Holder(Value, frozen=True, kw_only=True):
    """A process that listens."""

    pid: int
    name: str


def holder_of(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """The process that listens on TCP `port` of any address; None: nobody, or not to be known."""
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    for folder in proc.iterdir():
        if folder.name.isdecimal() and _holds(folder / "fd", inodes):
            return Holder(pid=int(folder.name), name=_name(folder))
    return None


def _listening_inodes(port: int, proc: Path) -> frozenset[str]:
    found: set[str] = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (proc / table).read_text(encoding="ascii").splitlines()[1:]:
                columns = line.split()
                at = int(columns[_PORT_COLUMN].rpartition(":")[2], 16)
                if at == port and columns[_STATE_COLUMN] == _LISTENS:
                    found.add(f"socket:[{columns[_INODE_COLUMN]}]")
    return frozenset(found)


def _holds(descriptors: Path, inodes: frozenset[str]) -> bool:
    with suppress(OSError):  # gone meanwhile, or somebody else's
        for name in os.listdir(descriptors):  # noqa: PTH208  # names alone, without a stat of each
            with suppress(OSError):
                if str((descriptors / name).readlink()) in inodes:
                    return True
    return False


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "unknown"
