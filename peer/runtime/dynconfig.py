"""The file of `dynconfig.file`: what an operator changes while the daemon runs.

It is read when the daemon starts, which fails if it can't be, and again with each look for
schedulers. A file that can't be read then leaves everything as it was; whoever asked says so.
Downloads that are under way when something becomes forbidden come to their end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from odonata.block_list import BlockList, Blocks
from odonata.errors import ForbiddenError
from odonata.settings.block_list import HostBlockListSection
from odonata.settings.loading import load
from odonata.wire.message import Download, TaskType
from peer.settings import Dynconfig

_log = structlog.get_logger("dynconfig")


class DynconfigFile:
    """`schedulers` are those that count if the file, or None, names none."""

    def __init__(self, file: Path | None, schedulers: tuple[str, ...], *, is_seed: bool) -> None:
        self._file = file
        self._schedulers = schedulers
        self._section = "seedClientConfig" if is_seed else "clientConfig"
        self._is_seed = is_seed
        self._block_list = HostBlockListSection()
        self._compile()
        self._warned: set[str] = set()

    def read(self) -> tuple[str, ...]:
        """host:port of each scheduler as of now; the block list counts from now on.

        Raises SettingsError.
        """
        if self._file is None:
            return self._schedulers
        loaded = load(Dynconfig, file=self._file)
        for warning in set(loaded.warnings) - self._warned:
            _log.warning("setting_ignored", setting=warning)
        self._warned = set(loaded.warnings)
        read = loaded.settings
        client = read.seed_client_config if self._is_seed else read.client_config
        self._forbid(client.block_list)
        return read.addresses() or self._schedulers

    def check(self, download: Download) -> None:
        """Raises ForbiddenError, with what of it is on the block list."""
        self._refuse("downloads", self._blocks.why(download))

    def check_export(self, download: Download) -> None:
        """The same for a persistent task, or a persistent cache task, that a user wants."""
        self._refuse("exports", self._exports[download.type].why(download))

    def check_import(self, task: Download) -> None:
        """The same for one that a user gives: its type, and what is said of it."""
        self._refuse("imports", self._imports[task.type].why(task))

    def _refuse(self, what: str, why: str | None) -> None:
        if why is not None:
            _log.info("download_forbidden", kind=what, reason=why)
            raise ForbiddenError(
                f"{what} with {why} are forbidden on this host: ask its operator, who finds it "
                f"in {self._section}.blockList of {self._file}"
            )

    def _forbid(self, block_list: HostBlockListSection) -> None:
        if block_list != self._block_list:
            self._block_list = block_list
            self._compile()
            _log.info("block_list_changed", path=str(self._file))

    def _compile(self) -> None:
        self._blocks = Blocks(self._block_list.value())
        self._exports = _compiled(self._block_list.exports())
        self._imports = _compiled(self._block_list.imports())


def _compiled(lists: Mapping[TaskType, BlockList]) -> dict[TaskType, Blocks]:
    return {kind: Blocks(block_list) for kind, block_list in lists.items()}
