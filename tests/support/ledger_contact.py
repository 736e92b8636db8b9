"""The part of the second opinion (`scheduler_ledger`) that is about who is out of contact.

It works out from events alone who is lost, who loses its children when, and whom the scheduler may
probe. It takes it that the scheduler itself was never suspended: clocks of tests ring in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.contact import CHILDREN_GRACE_S, RETURN_S, SUSPICION_S
from scheduler.core.event import (
    HostAnnounced,
    HostContacted,
    HostLost,
    HostUnreachable,
    SchedulerEvent,
    Ticked,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scheduler.core.query import HostStatus


class Contacts:
    """Call `hear` with each event, then `lost` are the ids of hosts that nobody is sent to."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self._contacts: set[str] = set()  # held now, also by hosts that are not known yet
        self._holders: set[str] = set()  # hosts that hold contact, or held it last
        self._back_s: dict[str, float] = {}  # announced anew: when their contact must be held again
        self._orphaned_s: dict[str, float] = {}  # when lost hosts lose their children
        self._complaints: dict[str, list[tuple[float, str]]] = {}  # when, from which host

    def hear(
        self,
        event: SchedulerEvent,
        heard: Iterable[str],
        statuses: Mapping[str, HostStatus],
        now: float,
    ) -> tuple[set[str], set[str]]:
        """Return who was lost with this event, and who has lost its children with it.

        `heard`: hosts whose peers spoke or gave somebody a piece; `statuses`: after the event.
        """
        for host_id in heard:
            if host_id not in self._holders:
                self._find(host_id)
        news, orphaned = set[str](), set[str]()
        match event:
            case HostContacted(host_id=host_id):
                self._contacted(host_id, is_known=host_id in statuses)
            case HostLost(host_id=host_id):
                self._contacts.discard(host_id)
                if host_id in statuses:
                    self._holders.add(host_id)
                    news.add(host_id)
            case HostUnreachable(host_id=host_id):
                news = ({host_id} & statuses.keys()) - self._holders - self.lost
            case HostAnnounced(host=host):
                self._announced(host.id, now)
            case Ticked():
                news = self._due(self._back_s, now)
                orphaned = self._due(self._orphaned_s, now)
            case _:
                pass
        for host_id in news:
            self.lost.add(host_id)
            self._back_s.pop(host_id, None)
            self._orphaned_s[host_id] = now + CHILDREN_GRACE_S
        self._compare(statuses)
        return news, orphaned

    def complain(self, host_id: str, child_host_id: str, now: float) -> None:
        """A child on `child_host_id` got no piece from the host."""
        self._complaints.setdefault(host_id, []).append((now, child_host_id))

    def check_probe(self, host_id: str, child_host_id: str, now: float) -> None:
        """A host is probed if two children on different hosts have just failed at it."""
        assert host_id not in self._holders, f"{host_id} is probed, though it holds contact"
        assert host_id not in self.lost, f"{host_id} is probed, though it is lost"
        others = [
            at_s
            for at_s, other_id in self._complaints.get(host_id, [])
            if other_id != child_host_id and now - at_s <= SUSPICION_S
        ]
        assert others, f"{host_id} is probed because of {child_host_id} alone"

    def _contacted(self, host_id: str, *, is_known: bool) -> None:
        self._contacts.add(host_id)
        self._back_s.pop(host_id, None)
        if is_known:
            self._holders.add(host_id)
            self._find(host_id)

    def _announced(self, host_id: str, now: float) -> None:
        self._find(host_id)
        if host_id in self._contacts:
            self._holders.add(host_id)
        elif host_id in self._holders:
            self._back_s[host_id] = now + RETURN_S

    def _find(self, host_id: str) -> None:
        self.lost.discard(host_id)
        self._orphaned_s.pop(host_id, None)

    @staticmethod
    def _due(deadlines: dict[str, float], now: float) -> set[str]:
        due = {host_id for host_id, at_s in deadlines.items() if at_s <= now}
        for host_id in due:
            del deadlines[host_id]
        return due

    def _compare(self, statuses: Mapping[str, HostStatus]) -> None:
        """Forget whom the scheduler has forgotten; of the others it must think the same."""
        for host_id in (self.lost | self._holders | self._complaints.keys()) - statuses.keys():
            self._find(host_id)
            self._holders.discard(host_id)
            self._back_s.pop(host_id, None)
            self._complaints.pop(host_id, None)
        said = {host_id for host_id, one in statuses.items() if one.is_lost}
        assert said == self.lost, f"{said} are said to be lost, and {self.lost} are"
