"""Watches the place where the learned ranker is published; loads, exchanges or drops the model.

`<place>/current` leads to a bundle (`models.bundle` says how it is checked). Every few seconds the
link is followed and the three files are looked at; only if anything differs the bundle is read
again, in a worker thread, so that decisions go on meanwhile. Whatever is wrong with it, there is no
model then, and the rule ranks: the model in memory is not served on when its files are gone or
changed, for whoever took them away wanted that.

A change within the file system's clock tick would go unseen. So files that changed in the last two
seconds are looked at again next time (as git does with its index).
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from models.bundle import BUNDLE_FILES, CURRENT, BundleError, load_bundle
from models.guard import NO_MODEL, ModelHolder
from models.learned import LearnedModel
from models.manifest import Manifest

RACY_S: Final = 2.0
"""Coarser than any file system's time stamps: FAT's are 2 s, ext4's a timer tick."""

Stamp = tuple[int | None, ...]
"""Of a file: changed (ns), modified (ns), bytes, inode, mode; or the error's number alone."""
Signature = tuple[str, tuple[Stamp, ...]]
"""Of a bundle: its folder, and its files."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was found at the place: a model, or why there is none."""

    model: LearnedModel | None = None
    reason: str = ""
    detail: str = ""


class ModelWatch:
    """Keeps a holder up to date with a place. `start` looks once; `close` ends the watching."""

    def __init__(
        self, place: Path, holder: ModelHolder, interval_s: float, *, is_expected: bool = False
    ) -> None:
        """`is_expected`: that nothing was ever published is worth a warning, too."""
        self._place = place
        self._is_expected = is_expected
        self._holder = holder
        self._interval_s = interval_s
        self._signature: Signature | None = None
        self._sight = Sight()
        self._task: asyncio.Task[None] | None = None
        self._was_there = False

    @property
    def place(self) -> Path:
        """Where it looks."""
        return self._place

    @property
    def manifest(self) -> Manifest | None:
        """Of the model that serves."""
        return self._sight.model.manifest if self._sight.model else None

    @property
    def reason(self) -> str:
        """Why no model serves, as in decisions; "" if one does."""
        return self._sight.reason

    @property
    def detail(self) -> str:
        """The same in words."""
        return self._sight.detail

    async def start(self) -> None:
        """Look once, so that the first decision knows the model; then again and again."""
        await self._look_and_log()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="model_watch")

    async def close(self) -> None:
        """Stop watching. The holder keeps what it has."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def check(self) -> None:
        """Look at the place now, and bring the holder up to date."""
        found = await asyncio.to_thread(_look, self._place, self._signature)
        if found is not None:
            self._signature, sight = found
            self._take(sight)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._look_and_log()

    async def _look_and_log(self) -> None:
        try:
            await self.check()
        except Exception as error:  # noqa: BLE001  # the supervisor of this task: it goes on watching
            _log.error("model_check_failed", path=str(self._place), exc_info=error)
            self._signature = None
            self._take(Sight(reason="error", detail="the place can't be watched: see the log"))

    def _take(self, sight: Sight) -> None:
        """Exchange the model if the sight is another one, and say so once."""
        if sight.model is not None:
            self._was_there = True
            if self._sight.model is None or sight.model.manifest != self._sight.model.manifest:
                self._swap(sight)
                version = sight.model.version
                _log.info("model_loaded", model_version=version, path=str(self._place))
            return
        if sight.reason == NO_MODEL and self._was_there:
            sight = Sight(reason="missing", detail=sight.detail)
        if (sight.reason, sight.detail) == (self._sight.reason, self._sight.detail):
            return
        self._swap(sight)
        is_normal = sight.reason == NO_MODEL and not self._is_expected
        say = _log.debug if is_normal else _log.warning
        say("model_missed", reason=sight.reason, error=sight.detail, path=str(self._place))

    def _swap(self, sight: Sight) -> None:
        self._sight = sight
        self._holder.swap(sight.model, sight.reason)


# --- in a worker thread -------------------------------------------------------------------------


def _look(place: Path, known: Signature | None) -> tuple[Signature | None, Sight] | None:
    """What is at the place, with its signature (None: look again soon); None if nothing changed."""
    current = place / CURRENT
    if not os.path.lexists(current):
        signature: Signature = ("", ())
        sight = Sight(reason=NO_MODEL, detail=f"no model is published at {place}")
        return None if signature == known else (signature, sight)
    try:
        # Followed once: what is loaded is what was looked at, also if the link swings meanwhile.
        folder = Path(os.path.realpath(current, strict=True))
    except OSError as error:
        folder = current
        signature = (str(current), ((error.errno,),))
    else:
        signature = _signature(folder)
    if signature == known:
        return None
    settled = None if _is_racy(signature) else signature
    try:
        return settled, Sight(model=load_bundle(folder))
    except BundleError as error:
        return settled, Sight(reason=error.reason, detail=error.detail)


def _signature(folder: Path) -> Signature:
    """Of the folder and its files: all that changes when somebody touches them."""
    return str(folder), tuple(_stamp(folder / file) for file in BUNDLE_FILES)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno,)
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)


def _is_racy(signature: Signature) -> bool:
    """Whether a file changed so lately that another change could look the same."""
    now_ns = time.time_ns()
    return any(
        0 <= now_ns - stamp[0] < RACY_S * 1e9
        for stamp in signature[1]
        if len(stamp) > 1 and stamp[0] is not None
    )
