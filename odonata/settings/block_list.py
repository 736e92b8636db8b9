"""The section `blockList` of the files that may change while a program runs.

    blockList:
      task:
        download: {applications: [], urls: ["/private/"], tags: [], priorities: []}
      persistentTask:                                       # of a host's own list, as the next one
        download: {urls: []}
        upload: {urls: []}
      persistentCacheTask:
        download: {applications: [], tags: []}
        upload: {applications: [], tags: []}

Each list has what requests of its kind say of themselves. What it means is `odonata.block_list`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from odonata.block_list import BlockList
from odonata.errors import CallerError
from odonata.pattern import Pattern
from odonata.settings.section import Section
from odonata.wire.message import TaskType


def _url_pattern(value: str) -> str:
    try:
        Pattern(value)
    except CallerError as error:
        raise ValueError(error.detail) from None
    return value


UrlPattern = Annotated[str, AfterValidator(_url_pattern)]
Level = Annotated[int, Field(ge=0, le=6)]
"""A priority of Dragonfly's API."""


class DownloadBlockSection(Section):
    """Downloads that are forbidden."""

    applications: tuple[str, ...] = ()
    urls: tuple[UrlPattern, ...] = ()
    tags: tuple[str, ...] = ()
    priorities: tuple[Level, ...] = ()


class TaskBlockSection(Section):
    """What is forbidden to do with tasks."""

    download: DownloadBlockSection = DownloadBlockSection()


class BlockListSection(Section):
    """What is forbidden."""

    task: TaskBlockSection = TaskBlockSection()

    def value(self) -> BlockList:
        """The same as a plain value."""
        return BlockList(**dict(self.task.download))


class UrlBlockSection(Section):
    """Persistent tasks have a URL, and neither tag nor application."""

    urls: tuple[UrlPattern, ...] = ()


class NameBlockSection(Section):
    """Persistent cache tasks have no URL."""

    applications: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class PersistentBlockSection(Section):
    """`odonata store export`, and import."""

    download: UrlBlockSection = UrlBlockSection()
    upload: UrlBlockSection = UrlBlockSection()


class PersistentCacheBlockSection(Section):
    """`odonata cache export`, and import."""

    download: NameBlockSection = NameBlockSection()
    upload: NameBlockSection = NameBlockSection()


class HostBlockListSection(BlockListSection):
    """What is forbidden on a host."""

    persistent_task: PersistentBlockSection = PersistentBlockSection()
    persistent_cache_task: PersistentCacheBlockSection = PersistentCacheBlockSection()

    def exports(self) -> dict[TaskType, BlockList]:
        """By the kind of task, as plain values."""
        return {
            TaskType.PERSISTENT: BlockList(**dict(self.persistent_task.download)),
            TaskType.PERSISTENT_CACHE: BlockList(**dict(self.persistent_cache_task.download)),
        }

    def imports(self) -> dict[TaskType, BlockList]:
        """The same."""
        return {
            TaskType.PERSISTENT: BlockList(**dict(self.persistent_task.upload)),
            TaskType.PERSISTENT_CACHE: BlockList(**dict(self.persistent_cache_task.upload)),
        }
