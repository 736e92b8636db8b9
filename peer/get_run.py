"""`odonata get` from its words to its end: one file or a folder, and what is said of it at last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from odonata.client import AsyncClient, Downloaded, Options, Progress
from odonata.client.wish import make_download, to_file
from odonata.errors import AlreadyExistsError, CallerError, StorageError
from odonata.wire.message import Value
from peer.get import Part, explained, get_one, read_into
from peer.get_folder import FileToGet, FolderPlan, plan_folder
from peer.get_progress import Display, make_display
from peer.get_sink import STDOUT


class Wish(Value, frozen=True, kw_only=True):
    """What the user said on the command line, beside the request's own options."""

    url: str
    output: Path
    part: Part | None = None
    recursive: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_files: int
    max_concurrent: int
    overwrite: bool = False
    force_hard_link: bool = False
    transfer: bool = False
    """Files are written here, not by the daemon."""
    quiet: bool = False


async def get(wish: Wish, options: Options, endpoint: Path) -> dict[str, Any]:
    """Do it; what came of it, as plain values. Raises OdonataError."""
    _check(wish, options)
    async with AsyncClient(endpoint) as client:
        with explained(wish.url):
            if wish.recursive:
                return await _get_folder(client, wish, options)
            return described(
                await get_one(
                    client,
                    wish.url,
                    wish.output,
                    options,
                    part=wish.part,
                    overwrite=wish.overwrite,
                    force_hard_link=wish.force_hard_link,
                    transfer=wish.transfer,
                    quiet=wish.quiet,
                )
            )


def described(done: Downloaded) -> dict[str, Any]:
    """Bytes, and seconds."""
    return {
        "url": done.url,
        "output": str(done.path),
        "task_id": done.task_id,
        "bytes": done.content_length,
        "from_source": done.from_source,
        "from_peers": done.from_peers,
        "from_local": done.from_local,
        "seconds": round(done.duration_s, 6),
    }


def _check(wish: Wish, options: Options) -> None:
    if wish.transfer and wish.force_hard_link:
        raise CallerError(
            "--force-hard-link has the daemon make the file, --transfer-from-dfdaemon this "
            "command: take one of them away"
        )
    if not wish.recursive:
        if wish.include or wish.exclude:
            raise CallerError("--include and --exclude choose below a folder: add --recursive")
        return
    if wish.output == STDOUT:
        raise CallerError("--recursive needs a folder to write to: name one with -O")
    if wish.part is not None or options.get("digest"):
        raise CallerError("--range and --digest are of one content: not with --recursive")
    if options.get("content_for_calculating_task_id"):
        raise CallerError(
            "--content-for-calculating-task-id would name all files the same: not with --recursive"
        )


# --- a folder -------------------------------------------------------------------------------------


async def _get_folder(client: AsyncClient, wish: Wish, options: Options) -> dict[str, Any]:
    began_s = asyncio.get_running_loop().time()
    plan = plan_folder(
        wish.url,
        await client.list(wish.url, recursive=True, **options),
        include=wish.include,
        exclude=wish.exclude,
        max_files=wish.max_files,
    )
    await asyncio.to_thread(_make_folders, wish, plan)
    with make_display(wish.output.name, quiet=wish.quiet) as display:
        done = await _Folder(client, wish, options, plan, display).get()
        display.done(f"{wish.output}: {len(done)} files")
    files = [described(one) for one in done]
    sums = ("bytes", "from_source", "from_peers", "from_local")
    return {
        "url": wish.url,
        "output": str(wish.output),
        **{name: sum(file[name] for file in files) for name in sums},
        "seconds": round(asyncio.get_running_loop().time() - began_s, 6),
        "files": files,
    }


def _make_folders(wish: Wish, plan: FolderPlan) -> None:
    """And say before anything is moved what would be in the way."""
    try:
        for folder in plan.folders:
            (wish.output / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}") from error
    if wish.overwrite:
        return
    for file in plan.files:
        if os.path.lexists(wish.output / file.path):
            raise AlreadyExistsError(
                f"{wish.output / file.path} exists: choose another folder, or --overwrite it"
            )


class _Folder:
    """So many downloads at once, and their sum."""

    def __init__(
        self,
        client: AsyncClient,
        wish: Wish,
        options: Options,
        plan: FolderPlan,
        display: Display,
    ) -> None:
        self._client = client
        self._wish = wish
        self._options = options
        self._plan = plan
        self._display = display
        self._slots = asyncio.Semaphore(wish.max_concurrent)
        self._progress: dict[str, Progress] = {}
        lengths = [file.content_length for file in plan.files]
        self._total = None if None in lengths else sum(n for n in lengths if n is not None)

    async def get(self) -> list[Downloaded]:
        """All of them, in the order of the plan; the first failure ends the others."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(file)) for file in self._plan.files]
        return [task.result() for task in tasks]

    async def _one(self, file: FileToGet) -> Downloaded:
        def told(progress: Progress) -> None:
            self._told(file.url, progress)

        output, overwrite = self._wish.output / file.path, self._wish.overwrite
        async with self._slots:
            with explained(file.url):
                if self._wish.transfer:
                    return await read_into(
                        self._client,
                        file.url,
                        output,
                        self._options,
                        overwrite=overwrite,
                        told=told,
                    )
                written = to_file(
                    make_download(file.url, self._options),
                    output,
                    overwrite=overwrite,
                    force_hard_link=self._wish.force_hard_link,
                )
                return await self._client.follow(written, told)

    def _told(self, url: str, progress: Progress) -> None:
        self._progress[url] = progress
        sums: Mapping[str, int] = {
            name: sum(getattr(one, name) for one in self._progress.values())
            for name in ("from_source", "from_peers", "from_local")
        }
        self._display.told(Progress(content_length=self._total, **sums))


def as_json(result: Mapping[str, Any]) -> str:
    """One line."""
    return msgspec.json.encode(result).decode()
