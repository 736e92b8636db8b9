"""kill -9, again and again, at moments drawn from a seed: only unfinished pieces are lost.

Each round is a life of a daemon on one folder. It downloads a content from its origin, or from
another daemon, and is killed at a byte of the origin, after a piece, while it starts, as it writes
the output, or as it deletes. Nothing waits for a time to pass: what is waited for is progress.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

import grpc
import pytest
from dragonfly_api import dfdaemon_pb2
from support.content import make_content
from support.daemon import PATIENCE_S, daemon, daemon_arguments, get, scheduler, sha256
from support.daemon_nursery import Child, Nursery, nursery
from support.eventually import eventually
from support.origin import Manners, Origin

from odonata.digest import piece_digest
from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from odonata.ids import url_task_id
from odonata.piece import PIECE_LENGTH_MIN, piece_at, piece_count
from odonata.wire.dragonfly import PieceArrived, download_request_to_wire, progress_from_wire
from odonata.wire.message import Download, TrafficType

SIZES = (PIECE_LENGTH_MIN // 3, 2 * PIECE_LENGTH_MIN + 1, 5 * PIECE_LENGTH_MIN - 1)


SPARE_DESCRIPTORS = 8
"""Connections that are kept for some seconds."""


class Moment(StrEnum):
    """When it is killed."""

    START = "start"
    BYTE = "byte"
    PIECE = "piece"
    OUTPUT = "output"
    DELETE = "delete"
    END = "end"  # it completes, and is killed at rest


@dataclass(kw_only=True)
class Task:
    """One content, and what has become of it."""

    path: str
    url: str
    content: bytes
    held: dict[int, bytes]
    known: bool = False
    """There is a record of it."""

    @property
    def id(self) -> str:
        return url_task_id(self.url)

    def piece(self, number: int) -> bytes:
        offset, length = piece_at(number, len(self.content), PIECE_LENGTH_MIN)
        return self.content[offset : offset + length]

    @property
    def missing_bytes(self) -> int:
        numbers = range(piece_count(len(self.content), PIECE_LENGTH_MIN))
        return sum(len(self.piece(number)) for number in numbers if number not in self.held)


def rows_of(
    folder: Path, spare: Path, task_id: str
) -> tuple[bool, dict[int, tuple[int, int, str]]]:
    """What the index of a dead daemon says, from a copy: whether it knows the task, its pieces."""
    shutil.rmtree(spare, ignore_errors=True)
    spare.mkdir()
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copy(folder / f"index.sqlite3{suffix}", spare / f"index.sqlite3{suffix}")
    with closing(sqlite3.connect(spare / "index.sqlite3")) as db:
        try:
            known = db.execute("SELECT 1 FROM task WHERE id = ?", (task_id,)).fetchone()
            rows = db.execute(
                "SELECT number, offset, length, digest FROM piece WHERE task_id = ?", (task_id,)
            )
            return known is not None, {number: (at, size, crc) for number, at, size, crc in rows}
        except sqlite3.OperationalError:
            return False, {}  # killed before it had made its tables


class Victim:
    """The daemon that is killed, and its folder."""

    def __init__(self, home: Nursery, folder: Path, number: int, *addrs: str) -> None:
        self._home = home
        self._folder = folder
        self._data = folder / f"data{number}"
        self._outputs = folder / f"outputs{number}"
        self._outputs.mkdir()
        # It draws its own pieces in order; a daemon with a scheduler asks its parents.
        self._arguments = daemon_arguments(
            folder, number, **({"scheduler__addrs": ",".join(addrs)} if addrs else {})
        )
        self._child: Child | None = None
        self._descriptors = 0
        self.killed = False

    def kill(self) -> None:
        """At once, from wherever."""
        assert self._child is not None
        self.killed = True
        with suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGKILL)

    @property
    def output(self) -> Path:
        return self._outputs / "out"

    async def start(self, *, kill_when: Callable[[], object] | None = None) -> Path | None:
        """Its socket; None: it was killed as soon as `kill_when` was true."""
        self._child = await self._home.start(self._arguments, self._folder / "log")
        self.killed = False
        if kill_when is not None:
            await eventually(kill_when, PATIENCE_S)
            self.kill()
            await self.died()
            return None
        socket_path = await self._child.started()
        self._descriptors = self._count_descriptors()
        return socket_path

    def signs_of_start(self) -> list[Callable[[], object]]:
        """What can be seen of a start, in its order."""
        child_is_there = lambda: self._child is not None  # noqa: E731  # like the others
        lock, wal = self._data / "lock", self._data / "index.sqlite3-wal"
        return [
            child_is_there,
            lambda: lock.exists() and lock.read_text().strip() == str(self._pid),
            lambda: wal.exists() and wal.stat().st_ino in self._open_inodes(),
            lambda: self._child is not None and self._child.said("proxy_started"),
        ]

    @property
    def _pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def _open_inodes(self) -> set[int]:
        inodes: set[int] = set()
        for entry in Path(f"/proc/{self._pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                inodes.add(entry.stat().st_ino)
        return inodes

    def _count_descriptors(self) -> int:
        return len(list(Path(f"/proc/{self._pid}/fd").iterdir()))

    async def died(self) -> None:
        """By our hand, and not before; and it had nothing to complain about."""
        assert self._child is not None
        assert await self._child.ended() == -signal.SIGKILL, self._child.events()[-3:]
        assert [one for one in self._child.events() if one["level"] == "error"] == []

    async def rest(self) -> None:
        """It has nothing open any more but what it began with; then it is killed, too."""
        await eventually(
            lambda: self._count_descriptors() <= self._descriptors + SPARE_DESCRIPTORS, PATIENCE_S
        )
        self.kill()
        await self.died()

    def check(self, task: Task) -> None:
        """Dead as it is: what the index says is on the disk. Notes what is held."""
        known, rows = rows_of(self._data, self._folder / "spare", task.id)
        content_file = self._data / "content" / "tasks" / task.id[:3] / task.id
        task.held, task.known = {}, known and content_file.exists()
        if not task.known:
            return  # killed as it was deleted: the rows go at the next start
        for number, (offset, length, digest) in rows.items():
            with content_file.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            assert data == task.piece(number)
            assert digest == piece_digest(data)
            task.held[number] = data

    def check_files(self, *task_ids: str) -> None:
        """Alive: nothing in its folder but the index and these tasks; no half of an output."""
        files = {
            str(path.relative_to(self._data)) for path in self._data.rglob("*") if path.is_file()
        }
        tasks = {f"content/tasks/{task_id[:3]}/{task_id}" for task_id in task_ids}
        assert files == {"index.sqlite3", "index.sqlite3-wal", "lock"} | tasks
        assert {path.name for path in self._outputs.iterdir()} <= {"out"}


async def arrivals(socket_path: Path, task: Task, output: Path) -> AsyncGenerator[bool]:
    """Ask for it; each piece with its bytes, which must be right. True: it was held before."""
    download = Download(
        url=task.url, output_path=str(output), overwrite=True, need_piece_content=True
    )
    async with asyncio.timeout(PATIENCE_S), open_channel(f"unix:{socket_path}") as channel:
        async for response in download_stub(channel).DownloadTask(
            download_request_to_wire(download)
        ):
            step = progress_from_wire(response).step
            if isinstance(step, PieceArrived):
                assert step.content == task.piece(step.piece.number)
                yield step.piece.traffic_type is TrafficType.LOCAL_PEER


class Loop:
    """Lives of one victim, one after another."""

    def __init__(self, victim: Victim, origin: Origin, dice: Random, warm: Path | None) -> None:
        self._victim = victim
        self._origin = origin
        self._dice = dice
        self._warm = warm
        self._count = 0
        self._left_bytes = -1
        self.moments: list[Moment] = []

    async def _new_task(self) -> Task:
        self._count += 1
        content = make_content(self._dice.choice(SIZES), self._dice.randrange(1 << 30))
        path = f"/{self._count}"
        url = self._origin.add(path, content, Manners(on_sent=self._sent))
        if self._warm is not None:  # the other daemon has it
            await get(self._warm, url, self._victim.output.with_name("warm"), overwrite=True)
            self._victim.output.with_name("warm").unlink()
        return Task(path=path, url=url, content=content, held={})

    def _sent(self, n_bytes: int) -> None:
        if self._left_bytes >= 0:
            self._left_bytes -= n_bytes
            if self._left_bytes < 0:
                self._victim.kill()

    async def task(self, kills: int) -> None:
        """One content: killed so often before it is there, then deleted, and killed at that."""
        task = await self._new_task()
        for _ in range(kills):
            moment = self._dice.choice((Moment.START, Moment.BYTE, Moment.PIECE, Moment.OUTPUT))
            await self._life(task, moment)
        await self._life(task, Moment.END)
        await self._deleted(task)

    async def _life(self, task: Task, moment: Moment) -> None:
        self.moments.append(moment)
        before = self._origin.sent_bytes(task.path)
        missing_bytes = task.missing_bytes
        if moment is Moment.START:
            signs = self._victim.signs_of_start()
            await self._victim.start(kill_when=self._dice.choice(signs))
            self._victim.check(task)
            return
        socket_path = await self._victim.start()
        assert socket_path is not None
        self._victim.check_files(*([task.id] if task.known else []))
        if moment is Moment.BYTE:
            self._left_bytes = self._dice.randrange(max(1, missing_bytes))
        self._victim.output.unlink(missing_ok=True)
        await self._download(socket_path, task, moment)
        self._left_bytes = -1
        sent = self._origin.sent_bytes(task.path) - before
        assert sent <= missing_bytes, "what is held is not asked for again"
        if self._warm is not None:
            assert sent == 0, "the other daemon has it"
        if self._victim.killed:
            await self._victim.died()
            self._victim.check(task)
        else:
            assert sha256(self._victim.output) == hashlib.sha256(task.content).hexdigest()
            self._victim.check_files(task.id)
            await self._victim.rest()
            self._victim.check(task)
            assert task.missing_bytes == 0

    async def _download(self, socket_path: Path, task: Task, moment: Moment) -> None:
        """Until it is there, or the victim dies of it."""
        after = self._dice.randrange(1 + piece_count(len(task.content), PIECE_LENGTH_MIN))
        held: list[bool] = []
        watch = asyncio.ensure_future(self._kill_at_output(moment is Moment.OUTPUT))
        try:
            async for was_held in arrivals(socket_path, task, self._victim.output):
                held.append(was_held)
                if moment is Moment.PIECE and len(held) > after:
                    self._victim.kill()
            await watch
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017  # it is dead
            assert self._victim.killed
            watch.cancel()
            return
        assert sum(held) >= len(task.held), "all that was held is here"

    async def _kill_at_output(self, wanted: bool) -> None:
        if wanted:
            await eventually(self._victim.output.exists, PATIENCE_S)
            self._victim.kill()

    async def _deleted(self, task: Task) -> None:
        """Its end is a death, too: at any moment of it."""
        self.moments.append(Moment.DELETE)
        socket_path = await self._victim.start()
        async with asyncio.timeout(PATIENCE_S), open_channel(f"unix:{socket_path}") as channel:
            request = dfdaemon_pb2.DeleteTaskRequest(task_id=task.id)
            call = download_stub(channel).DeleteTask(request)
            for _ in range(self._dice.randrange(40)):  # turns of the loop, until it is on its way
                await asyncio.sleep(0)
            if self._dice.random() < 0.5:
                await call
            self._victim.kill()
            await self._victim.died()
            with suppress(grpc.aio.AioRpcError):
                await call
        self._victim.check(task)
        self._victim.output.unlink(missing_ok=True)
        if task.known:  # it did not come to it
            await self._gone(task)

    async def _gone(self, task: Task) -> None:
        socket_path = await self._victim.start()
        async with open_channel(f"unix:{socket_path}") as channel:
            await download_stub(channel).DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=task.id))
        self._victim.check_files()
        await self._victim.rest()


@pytest.mark.parametrize("deaths", [10, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("parent", [False, True], ids=["origin", "parent"])
async def test_killed_at_any_moment_only_unfinished_pieces_are_lost(
    tmp_path: Path, deaths: int, parent: bool
) -> None:
    dice = Random(f"{deaths} {parent}")
    async with AsyncExitStack() as stack, Origin() as origin, nursery() as home:
        addrs: list[str] = []
        warm = None
        if parent:
            addrs = [(await stack.enter_async_context(scheduler())).address]
            other = daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs)
            warm = (await stack.enter_async_context(other)).socket_path
        victim = Victim(home, tmp_path, 3, *addrs)
        loop = Loop(victim, origin, dice, warm)
        while len(loop.moments) < deaths:
            await loop.task(kills=dice.randrange(1, 5))
