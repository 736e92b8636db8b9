"""What `odonata get` writes itself: parts, stdout, and files that are to be the caller's own.

A file is written under a hidden name beside its own, flushed, and only then named: whatever
happens, its name never shows a part of it. Its mode is what the umask leaves.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from odonata.errors import AlreadyExistsError, CallerError, StorageError

STDOUT: Final = Path("-")

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What link(2) says where a volume has no hard links."""


@asynccontextmanager
async def open_sink(output: Path, *, overwrite: bool) -> AsyncGenerator[BinaryIO]:
    """What is written to; a file is there when this ends well, and only then.

    Raises CallerError, AlreadyExistsError and StorageError.
    """
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    _check(output, overwrite=overwrite)
    draft = output.with_name(f".{output.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as file:
            yield file
            await asyncio.to_thread(_flush, file)
        await asyncio.to_thread(_name, draft, output, overwrite=overwrite)
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _check(output: Path, *, overwrite: bool) -> None:
    """Before anything is moved."""
    if not output.parent.is_dir():
        raise CallerError(f"there is no folder {output.parent}: make it first")
    if output.is_dir():
        raise CallerError(f"{output} is a folder: name a file")
    if not overwrite and os.path.lexists(output):
        raise _already_there(output)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fdatasync(file.fileno())


def _name(draft: Path, output: Path, *, overwrite: bool) -> None:
    if overwrite:
        draft.replace(output)
        return
    try:
        os.link(draft, output)  # unlike a rename, it replaces nothing that came meanwhile
    except FileExistsError:
        raise _already_there(output) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _check(output, overwrite=False)
        draft.replace(output)


def _already_there(output: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{output} exists: choose another name, or --overwrite it")
