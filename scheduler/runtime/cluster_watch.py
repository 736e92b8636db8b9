"""Reads the cluster's configuration from `dynConfig.file`, and again whenever its time has come.

A file that can't be used changes nothing: the last good configuration stays, and the log says once
what is wrong. Only at the start there is none to stay, so a bad file stops the scheduler there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from odonata.errors import OdonataError
from scheduler.cluster_file import ClusterFile, read_cluster_file
from scheduler.core.cluster import ClusterConfig
from scheduler.settings import DynConfigSettings

INTERVAL_MIN_S: Final = 0.01
"""A `refreshInterval` of 0 in the file means the setting's, never a busy loop."""

_log = structlog.get_logger(__name__)


class ClusterWatch:
    """Tells `take` of every configuration that is new; with no file it does nothing at all."""

    def __init__(self, settings: DynConfigSettings, take: Callable[[ClusterConfig], None]) -> None:
        self._path = settings.file
        self._interval_s = settings.refresh_interval_s
        self._own_interval_s = settings.refresh_interval_s
        self._take = take
        self._config: ClusterConfig | None = None
        self._said: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the file once, then again and again. Raises SettingsError if it is no good now."""
        if self._path is None:
            return
        self._use(*await asyncio.to_thread(read_cluster_file, self._path))
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cluster_watch")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def check(self) -> None:
        """Read the file now; what is wrong with it is logged."""
        assert self._path is not None, "there is a file to watch"
        try:
            self._use(*await asyncio.to_thread(read_cluster_file, self._path))
        except OdonataError as error:
            self._complain(error.detail)
        except Exception as error:  # noqa: BLE001  # supervises this task: it goes on watching
            self._complain(f"a bug in reading it: {error!r}")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check()

    def _use(self, file: ClusterFile, warnings: tuple[str, ...]) -> None:
        config = file.config()
        self._interval_s = max(file.refresh_interval_s or self._own_interval_s, INTERVAL_MIN_S)
        self._said = None
        if config == self._config:
            return
        self._take(config)
        self._config = config
        _log.info("cluster_configured", path=str(self._path))
        for warning in warnings:
            _log.warning("setting_ignored", setting=warning)

    def _complain(self, detail: str) -> None:
        if detail != self._said:
            self._said = detail
            _log.warning("cluster_config_refused", path=str(self._path), error=detail)
