"""The few facts of the core's state that counting needs. Looks, changes nothing."""

from __future__ import annotations

from odonata.wire.message import Host
from scheduler.core.peer import Peer
from scheduler.core.state import SchedulerState


class CoreFacts:
    """Implements `scheduler.runtime.peer_metrics.Facts`."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def host(self, host_id: str) -> Host | None:
        """What a host said of itself; None if it is unknown."""
        host = self._state.hosts.get(host_id)
        return None if host is None else host.announced

    def host_of_peer(self, peer_id: str) -> Host | None:
        """The same of the host that runs this peer."""
        peer = self._state.peers.get(peer_id)
        return None if peer is None else peer.host.announced

    def content_length(self, task_id: str) -> int | None:
        """Of a task, in bytes; None if it is unknown."""
        task = self._state.tasks.get(task_id)
        return None if task is None else task.content_length

    def peer(self, peer_id: str) -> Peer | None:
        """A peer itself."""
        return self._state.peers.get(peer_id)
