"""What each child was given by this host: for whoever runs it, and for nobody's decisions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

CHILDREN_MAX: Final = 1024
"""Accounts kept; the one that was idle the longest is closed first. About 200 bytes each."""


@dataclass(slots=True)
class ChildAccount:
    """`child` is a host id, or the address of one that did not say."""

    child: str
    ip: str
    pieces: int = 0
    """Answers that were sent to their end."""
    sent_bytes: int = 0
    """Of content."""
    refused: int = 0
    """Requests turned away for want of a slot."""


class ChildAccounts:
    """Accounts by child."""

    def __init__(self, children_max: int = CHILDREN_MAX) -> None:
        self._children_max = children_max
        self._by_child: OrderedDict[str, ChildAccount] = OrderedDict()

    def of(self, child: str, ip: str) -> ChildAccount:
        """Its account, opened if there is none."""
        account = self._by_child.get(child)
        if account is None:
            account = self._by_child[child] = ChildAccount(child, ip)
            if len(self._by_child) > self._children_max:
                self._by_child.popitem(last=False)
        self._by_child.move_to_end(child)
        return account

    def all(self) -> tuple[ChildAccount, ...]:
        """Every account, the busiest first."""
        return tuple(sorted(self._by_child.values(), key=lambda one: -one.sent_bytes))
