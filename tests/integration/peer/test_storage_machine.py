"""Storage against a naive model: uses, pins, deletions, collections, restarts, in bursts at once.

What must hold whatever happens: nobody loses a task that is in use; collection stops where it
should; the folder holds the files of the tasks that there are, and no others; each piece is right.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.content import cut, make_content, make_download, make_task_id
from support.eventually import eventually

from peer.runtime.storage.collect import CollectPolicy
from peer.runtime.storage.store import DiskStorage
from peer.runtime.storage.task import DiskTask

PIECE = 4096
NAMES = tuple(f"task {number}" for number in range(6))
CONTENTS = {name: make_content(3 * PIECE - n, n) for n, name in enumerate(NAMES)}
IDS = {name: make_task_id(name) for name in NAMES}
TTL_S = 1000.0

names = st.sampled_from(NAMES)


class StorageMachine(RuleBasedStateMachine):
    """The model: who holds which task, and when it was used last."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory()
        self._now_s = 1_000_000.0
        self._storage = self._open()
        self._pinned: dict[str, list[DiskTask]] = {name: [] for name in NAMES}
        self._deleted: set[str] = set()
        """Deleted while they were pinned: they may be there until the last of them is unpinned."""

    def _open(self) -> DiskStorage:
        folder = Path(self._folder.name) / "data"
        opening = DiskStorage.open(folder, clock=lambda: self._now_s, verify_after_s=10.0)
        return self._loop.run_until_complete(opening)

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        self._loop.run_until_complete(work)

    def teardown(self) -> None:
        self._unpin_all()
        self._run(self._storage.close())
        self._loop.close()
        self._folder.cleanup()

    def _unpin_all(self) -> None:
        for name in NAMES:
            while self._pinned[name]:
                self._run(self._unpin(name))

    async def _unpin(self, name: str) -> None:
        self._pinned[name].pop().unpin()

    # --- what may happen ---

    @rule(name=names, pieces=st.integers(0, 3))
    def download(self, name: str, pieces: int) -> None:
        self._run(self._download(name, pieces))

    async def _download(self, name: str, pieces: int) -> None:
        """As a shared task does: made, pinned, filled as far as it goes, let go."""
        task = await self._storage.create(IDS[name], make_download())
        task.pin()
        self._deleted.discard(name)
        try:
            content = CONTENTS[name]
            await task.learn(len(content), PIECE, {})
            for piece, data in cut(content, PIECE)[:pieces]:
                await task.store(piece, data)
            if pieces == 3:
                await task.finish()
            else:
                await task.fail()
        finally:
            task.unpin()

    @rule(name=names)
    def pin(self, name: str) -> None:
        task = self._storage.get(IDS[name])
        if task is not None:
            task.pin()
            self._pinned[name].append(task)

    @rule(name=names)
    def unpin(self, name: str) -> None:
        if self._pinned[name]:
            self._run(self._unpin(name))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self._run(self._delete(name))

    async def _delete(self, name: str) -> None:
        await self._storage.delete(IDS[name])
        if self._pinned[name]:
            self._deleted.add(name)

    @rule(seconds=st.floats(1, 2 * TTL_S))
    def time_passes(self, seconds: float) -> None:
        self._now_s += seconds

    @rule(threshold=st.sampled_from((0, 1, 2 * PIECE, 20 * PIECE, 1 << 40)))
    def collect(self, threshold: int) -> None:
        self._run(self._collect(threshold))

    async def _collect(self, threshold: int) -> None:
        policy = CollectPolicy(
            task_ttl_s=TTL_S, threshold_bytes=threshold, high_percent=99, low_percent=50
        )
        idle = {task.task_id: task.used_at_s for task in self._storage.tasks() if not task.pinned}
        gone = await self._storage.collect(self._now_s, policy)
        for one in gone:
            assert one.task_id in idle
        if threshold == 1:  # all of its own bytes are too many: only what frees nothing stays
            for task in self._storage.tasks():
                assert task.pinned or task.active or task.path.stat().st_blocks == 0
        if threshold == 1 << 40:
            expired = {one for one, used in idle.items() if self._now_s - used > TTL_S}
            assert {one.task_id for one in gone} == expired

    @rule(
        downloads=st.lists(
            st.tuples(names, st.integers(0, 3)), max_size=4, unique_by=lambda x: x[0]
        ),
        deletions=st.lists(names, max_size=3),
        looks=st.lists(names, max_size=3),
    )
    def all_at_once(
        self, downloads: list[tuple[str, int]], deletions: list[str], looks: list[str]
    ) -> None:
        async def burst() -> None:
            downloading = {name for name, _ in downloads}
            await asyncio.gather(
                *(self._download(*one) for one in downloads),
                *(self._storage.delete(IDS[it]) for it in deletions if it not in downloading),
                *(self._look(it) for it in looks),
                self._storage.collect(
                    self._now_s, CollectPolicy(task_ttl_s=TTL_S, threshold_bytes=8 * PIECE)
                ),
            )
            self._deleted |= {it for it in deletions if it not in downloading and self._pinned[it]}

        self._run(burst())

    async def _look(self, name: str) -> None:
        """A reader: whatever it is given is right."""
        task = self._storage.get(IDS[name])
        if task is None:
            return
        task.pin()
        try:
            await task.examine()
            for number in task.held():
                piece = await task.sound(number)
                assert piece is not None
                data = task.path.read_bytes()[piece.offset :][: piece.length]
                assert data == CONTENTS[name][piece.offset :][: piece.length]
        finally:
            task.unpin()

    @rule()
    def restart(self) -> None:
        self._unpin_all()
        before = {task.task_id: (task.held(), task.finished) for task in self._storage.tasks()}
        self._run(self._storage.close())
        gone = {IDS[name] for name in self._deleted}
        self._deleted.clear()
        self._storage = self._open()
        after = {task.task_id: (task.held(), task.finished) for task in self._storage.tasks()}
        assert after == {one: facts for one, facts in before.items() if one not in gone}

    # --- what must hold ---

    @invariant()
    def what_is_in_use_is_there(self) -> None:
        for held in self._pinned.values():
            for task in held:
                assert task.path.exists()

    @invariant()
    def the_folder_holds_the_tasks_and_no_more(self) -> None:
        removing = {IDS[name] for name in self._deleted}
        contents = Path(self._folder.name) / "data"

        def alike() -> bool:
            files = {path.name for path in contents.glob("content/tasks/*/*")}
            tasks = {task.task_id for task in self._storage.tasks()}
            return files - removing == tasks - removing

        self._run(eventually(alike))  # a removal may be under way


StorageMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStorage = StorageMachine.TestCase
