"""Which files of a folder are fetched, and where each one goes. Pure.

Patterns are those of shells (`*` also across folders, `?`, `[a-z]`), against the path below the
folder; a pattern without a slash also matches a file's name alone.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from odonata.client import Entry
from odonata.client.listing import folder_url
from odonata.errors import CallerError, NotFoundError
from odonata.wire.message import Value


class FileToGet(Value, frozen=True, kw_only=True):
    """`path` is relative, below the folder of the output. Bytes; None: not known."""

    url: str
    path: PurePosixPath
    content_length: int | None


class FolderPlan(Value, frozen=True, kw_only=True):
    """What is fetched, and the folders to make first, parents before children."""

    files: tuple[FileToGet, ...]
    folders: tuple[PurePosixPath, ...]


def plan_folder(
    url: str,
    entries: Iterable[Entry],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_files: int,
) -> FolderPlan:
    """Choose. Raises CallerError (too many files, a name that leads elsewhere), NotFoundError."""
    files: list[FileToGet] = []
    folders: set[PurePosixPath] = set()
    for entry in entries:
        path = _path_of(url, entry.url)
        if entry.is_dir:
            if not include and not _matches(path, exclude):
                folders.add(path)
        elif (not include or _matches(path, include)) and not _matches(path, exclude):
            files.append(FileToGet(url=entry.url, path=path, content_length=entry.content_length))
            folders.add(path.parent)
    if not files and not folders:
        raise NotFoundError(f"nothing to fetch below {url}: check the URL and the patterns")
    if len(files) > max_files:
        raise CallerError(
            f"{len(files)} files are below {url}, more than {max_files}: choose some with "
            "--include and --exclude, or allow more with --max-files"
        )
    whole = {parent for folder in folders for parent in (folder, *folder.parents)}
    ordered = sorted(whole, key=lambda folder: (len(folder.parts), folder))
    return FolderPlan(files=tuple(files), folders=tuple(ordered))


def _path_of(folder: str, url: str) -> PurePosixPath:
    if url == folder:  # no folder, but one content
        return _checked(url, folder, unquote(url.partition("?")[0].rpartition("/")[2]))
    root = folder_url(folder)
    below = url.removeprefix(root).partition("?")[0].rstrip("/")
    return _checked(url, folder, "/" if below == url.rstrip("/") else unquote(below))


def _checked(url: str, folder: str, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in str(path):
        raise CallerError(f"{url!r} does not lie below {folder}: the listing can't be trusted")
    return path


def _matches(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(str(path), pattern)
        or ("/" not in pattern and fnmatch.fnmatchcase(path.name, pattern))
        for pattern in patterns
    )
