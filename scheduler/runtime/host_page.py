"""What /hosts answers: every host with its standing and what it serves, page by page.

Queries in, values for JSON out; HTTP is `status_page`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from odonata.errors import CallerError
from scheduler.core.host_report import HostReport, report_hosts
from scheduler.core.state import SchedulerState
from scheduler.runtime.status import WallClock

HOST_LIMIT: Final = 1000
"""Hosts in one answer: about 0.7 MB of JSON, 15 ms of the event loop."""
_KEYS: Final = frozenset({"id", "offset", "limit"})


class HostPage:
    """Answers from the core's state as it is now."""

    def __init__(
        self, state: SchedulerState, now: Callable[[], float], wall_clock: WallClock
    ) -> None:
        """`now` is the core's clock; `wall_clock` turns its time into the time of day."""
        self._state = state
        self._now = now
        self._wall_clock = wall_clock

    def answer(self, query: Mapping[str, str]) -> dict[str, Any]:
        """`id=` the beginning of ids, `offset=` and `limit=` in numbers; each may be left out.

        Times are in seconds since 1970. Raises CallerError.
        """
        unknown = sorted(query.keys() - _KEYS)
        if unknown:
            raise CallerError(f"{unknown[0]} is no question of /hosts: ask by id, offset, limit")
        offset = _number(query, "offset", 0)
        limit = min(_number(query, "limit", HOST_LIMIT), HOST_LIMIT)
        now = self._now()
        found = report_hosts(
            self._state, now, prefix=query.get("id", ""), offset=offset, limit=limit
        )
        return {
            "hosts": [self._told(host) for host in found.hosts],
            "total_count": found.total_count,
            "at_s": self._wall_clock.at(now),
        }

    def _told(self, host: HostReport) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.to_builtins(host)
        at, until_s = self._wall_clock.at, host.standing_until_s
        return told | {
            "standing_since_s": at(host.standing_since_s),
            "standing_until_s": None if until_s is None else at(until_s),
            "announced_at_s": at(host.announced_at_s),
            "heard_at_s": at(host.heard_at_s),
        }


def _number(query: Mapping[str, str], key: str, default: int) -> int:
    text = query.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise CallerError(f"{key} {text!r} is no number: write 0 or more")
    return int(text)
