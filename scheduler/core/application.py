"""Which priority a download has: its own, or that of the application it names.

Priorities matter when a task has no source of bytes yet: 1 may not start it, 2 takes only what
peers have, 3 goes to the source itself, all others have a seed asked (`register`, `seed`). A
download that says nothing (level 0) gets the level that the operator gave its application: that of
the first URL pattern in the list that matches, else the application's own, else 0. Names are
compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from odonata.pattern import Pattern
from odonata.wire.message import Value

if TYPE_CHECKING:
    from odonata.wire.message import Download

UNSET_PRIORITY = 0
"""The level of a download that does not ask for one."""


class UrlPriority(Value, frozen=True, kw_only=True):
    """Downloads whose URL matches `regex` (RE2, anywhere in it) have level `value`."""

    regex: str
    value: int


class Application(Value, frozen=True, kw_only=True):
    """An application: its level, and levels of some of its URLs, the first match first."""

    name: str
    priority: int = UNSET_PRIORITY
    url_priorities: tuple[UrlPriority, ...] = ()


class Priorities:
    """The levels of all applications; of two with one name the first counts.

    Raises CallerError for a pattern that is none.
    """

    def __init__(self, applications: Iterable[Application] = ()) -> None:
        self._by_name: dict[str, tuple[int, tuple[tuple[Pattern, int], ...]]] = {}
        for one in applications:
            urls = tuple((Pattern(url.regex), url.value) for url in one.url_priorities)
            self._by_name.setdefault(one.name, (one.priority, urls))

    def of(self, download: Download) -> int:
        """Return the level that counts for `download`."""
        if download.priority != UNSET_PRIORITY:
            return download.priority
        found = self._by_name.get(download.application or "")
        if found is None:
            return UNSET_PRIORITY
        priority, urls = found
        return next((value for regex, value in urls if regex.found_in(download.url)), priority)
