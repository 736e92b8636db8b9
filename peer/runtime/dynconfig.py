"""The file of `dynconfig.file`: what an operator changes while the daemon runs.

It is read when the daemon starts, which fails if it can't be, and again with each look for
schedulers. A file that can't be read then leaves everything as it was; whoever asked says so.
Downloads that are under way when something becomes forbidden come to their end.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from odonata.block_list import BlockList, Blocks
from odonata.errors import ForbiddenError
from odonata.settings.loading import load
from odonata.wire.message import Download
from peer.settings import Dynconfig

_log = structlog.get_logger("dynconfig")


class DynconfigFile:
    """`schedulers` are those that count if the file, or None, names none."""

    def __init__(self, file: Path | None, schedulers: tuple[str, ...], *, is_seed: bool) -> None:
        self._file = file
        self._schedulers = schedulers
        self._section = "seedClientConfig" if is_seed else "clientConfig"
        self._is_seed = is_seed
        self._block_list = BlockList()
        self._blocks = Blocks(self._block_list)
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
        self._forbid(client.block_list.value())
        return read.addresses() or self._schedulers

    def check(self, download: Download) -> None:
        """Raises ForbiddenError, with what of it is on the block list."""
        why = self._blocks.why(download)
        if why is not None:
            _log.info("download_forbidden", reason=why)
            raise ForbiddenError(
                f"downloads with {why} are forbidden on this host: ask its operator, who finds it "
                f"in {self._section}.blockList of {self._file}"
            )

    def _forbid(self, block_list: BlockList) -> None:
        if block_list != self._block_list:
            self._block_list, self._blocks = block_list, Blocks(block_list)
            _log.info("block_list_changed", path=str(self._file))
