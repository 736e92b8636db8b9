"""The section `blockList` of the files that may change while a program runs.

    blockList:
      task:
        download: {applications: [], urls: ["/private/"], tags: [], priorities: []}

What it means is `odonata.block_list`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from odonata.block_list import BlockList
from odonata.errors import CallerError
from odonata.pattern import Pattern
from odonata.settings.section import Section


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
