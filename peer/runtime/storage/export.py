"""Output files: a finished task's content at a path of the user's choosing, all of it or nothing.

A hard link costs nothing, so it is tried first; then a clone of the blocks (btrfs, xfs); then a
copy inside the kernel. Clone and copy are made without a name (where the volume has no such files,
under a temporary one in the same folder), flushed, and only then named: whatever happens, the final
name never shows a part of the content.

Note: a hard link shares its bytes with the stored task. Whoever edits the output in place edits
what is stored: that is found before it is served (see `trust`). Tools that replace files are safe.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

from odonata.errors import AlreadyExistsError, CallerError, StorageError
from peer.runtime.storage.copying import copy_content, name_open_file, nameless_copy
from peer.runtime.storage.disk import PARTIAL, storage_error
from peer.runtime.storage.layout import FILE_MODE

_NO_HARD_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
)


def export_file(source: Path, target: Path, *, overwrite: bool, force_hard_link: bool) -> None:
    """Put `source`'s content at `target`; blocking. Errors as `StoredTask.export` says."""
    _check_target(target)
    try:
        if target.exists() and target.samefile(source):
            return
        if _hard_link(partial(_link, source), target, overwrite=overwrite):
            return
        if force_hard_link:
            raise StorageError(
                f"can't hard-link {target} to {source}: not the same volume, or it has no hard "
                "links; leave out force_hard_link, or choose a path on the data folder's volume"
            )
        _copy(source, target, overwrite=overwrite)
    except FileExistsError as error:
        raise _already_there(target) from error
    except OSError as error:
        raise storage_error(error, target, "write the output file") from error


def _check_target(target: Path) -> None:
    if not target.is_absolute():
        raise CallerError(
            f"the output path {str(target)!r} is not absolute: the daemon needs it so"
        )
    if not target.parent.is_dir():
        raise CallerError(f"the output folder {target.parent} does not exist: make it first")
    if target.is_dir():
        raise CallerError(f"the output path {target} is a folder: name a file")


def _already_there(target: Path) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"the output file {target} is there already: remove it, or ask to overwrite it"
    )


def _temporary(target: Path) -> Path:
    """A hidden name beside `target`, on its volume, that nobody can guess ahead."""
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}{PARTIAL}")


def _hard_link(link: Callable[[Path], None], target: Path, *, overwrite: bool) -> bool:
    """Have `link` make the name `target`; whether it worked.

    FileExistsError if that is there and is to stay. A second name is needed for a moment only where
    something is replaced: who is killed in that moment leaves it, and no part of a content.
    """
    try:
        try:
            link(target)
        except FileExistsError:
            if not overwrite:
                raise
            temporary = _temporary(target)
            link(temporary)
            _rename(temporary, target)
    except OSError as error:
        if hard_link_refused(error):
            return False
        raise
    return True


def hard_link_refused(error: OSError) -> bool:
    """These two can't have a hard link; a copy may work."""
    return error.errno in _NO_HARD_LINK


def _link(source: Path, target: Path) -> None:
    """`os.link`, which refuses to replace anything."""
    os.link(source, target, follow_symlinks=False)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path, *, overwrite: bool) -> None:
    if not overwrite and target.exists():
        raise _already_there(target)  # before the bytes are moved for nothing
    with nameless_copy(source, target.parent, FILE_MODE) as made:
        if made is not None:
            link = partial(name_open_file, made)
            if _hard_link(link, target, overwrite=overwrite):
                return
    temporary = _temporary(target)
    try:
        copy_content(source, temporary, FILE_MODE)
        if overwrite:
            temporary.rename(target)
            return
        try:
            _link(temporary, target)  # unlike rename, it never replaces
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            temporary.rename(target)  # a volume without hard links: checked above, not atomic
    finally:
        temporary.unlink(missing_ok=True)
