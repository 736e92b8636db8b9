"""Parents that were named and are not connected yet: a short content needs few of them.

Each parent costs three calls, and of eight that are named for a file of one piece seven bring
nothing. So as many are connected as the content has pieces: who has everything first, of those who
was asked ahead, and else in the scheduler's order. The others are called in as soon as anything
goes wrong, or when the content is not there in time; later, if all that is missing is on its way by
then.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from odonata.wire.message import Parent

HAS_ALL: Final = "Succeeded"
"""The state of a parent that holds the whole content, as the scheduler names it."""


class Reserve:
    """Who waits, and until when."""

    def __init__(self, patience_s: float, longest_s: float, most: int) -> None:
        """`longest_s`: the patience while all is on its way.

        `most`: how many are remembered; who waits longest goes first.
        """
        self._patience_s = patience_s
        self._longest_s = longest_s
        self._most = most
        self._latest_at = inf
        self._preferred_host_id = ""
        self._waiting: dict[str, Parent] = {}
        self._due_at = inf

    @property
    def due_at(self) -> float:
        """When they are to be called in; inf: nobody waits."""
        return self._due_at if self._waiting else inf

    def prefer(self, host_id: str) -> None:
        """Who is on this host comes first among those that have as much."""
        self._preferred_host_id = host_id

    def divide(self, named: list[Parent], room: int, now: float) -> list[Parent]:
        """Whom to connect now, `room` of those `named` at most; the others wait."""
        if len(named) <= room:
            first, rest = named, []
        else:
            best = sorted(named, key=self._place)
            first, rest = best[: max(room, 0)], best[max(room, 0) :]
        for parent in first:
            self._waiting.pop(parent.peer_id, None)
        if rest and not self._waiting:
            self._due_at = now + self._patience_s
            self._latest_at = now + self._longest_s
        self._waiting |= {parent.peer_id: parent for parent in rest}
        for peer_id in list(self._waiting)[: -self._most]:
            del self._waiting[peer_id]
        return first

    def keep(self, peer_ids: Iterable[str]) -> None:
        """Nobody else is a parent any more."""
        stays = frozenset(peer_ids)
        self._waiting = {who: one for who, one in self._waiting.items() if who in stays}

    def hurry(self, now: float) -> None:
        """Something went wrong."""
        self._due_at = min(self._due_at, now)

    def call_in(self, now: float, *, all_comes: bool = False) -> list[Parent]:
        """Those who are due; they wait no more.

        `all_comes`: nothing is missing that is not on its way.
        """
        if now >= self.due_at and all_comes:
            self._due_at = self._latest_at
        if now < self.due_at:
            return []
        called, self._waiting = list(self._waiting.values()), {}
        return called

    def _place(self, parent: Parent) -> tuple[bool, bool]:
        return (parent.state != HAS_ALL, parent.host.id != self._preferred_host_id)
