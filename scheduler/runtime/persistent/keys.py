"""The names of things in Redis: Dragonfly 2.5's, so that its schedulers and manager find them.

    scheduler:scheduler-clusters:{cluster}:persistent-cache-tasks:{task}        hash
    ...-cache-tasks:{task}:persistent-cache-peers-for-persistent-cache-task     set of peers
    ...-cache-tasks:{task}:persistent-peers-for-persistent-cache-task           set of replicas
    ...:persistent-cache-peers-for-persistent-cache-task:{peer}                 hash
    ...:persistent-cache-hosts                                                  set of hosts
    ...:persistent-cache-hosts:{host}                                           hash
    ...-cache-hosts:{host}:persistent-cache-peers-for-persistent-cache-task     set of peers

For the other kind each `persistent-cache-task` reads `persistent-task`, and so on. Only `sweep` is
ours. Nothing is read or written here.
"""

from __future__ import annotations

from scheduler.core.persistent.state import Kind


class Keys:
    """Keys of one kind of task in one cluster."""

    def __init__(self, cluster_id: int, kind: Kind) -> None:
        self._root = f"scheduler:scheduler-clusters:{cluster_id}"
        self._tasks = f"{self._root}:{kind}-tasks"
        self._peers = f"persistent-cache-peers-for-{kind}-task"
        self._replicas = f"persistent-peers-for-{kind}-task"
        self.hosts = f"{self._root}:{kind}-hosts"
        """The set of host ids."""
        self.sweep = f"{self._root}:{kind}-sweep"
        """Held by the scheduler that looks after silent hosts and missing replicas just now."""
        self.task_prefix = f"{self._tasks}:"
        self.peer_prefix = f"{self._root}:{self._peers}:"
        self.host_prefix = f"{self.hosts}:"

    def task(self, task_id: str) -> str:
        """The hash of a task."""
        return f"{self.task_prefix}{task_id}"

    def peers_of_task(self, task_id: str) -> str:
        """The set of ids of all its peers."""
        return f"{self.task_prefix}{task_id}:{self._peers}"

    def replicas_of_task(self, task_id: str) -> str:
        """The set of ids of those that are or become replicas."""
        return f"{self.task_prefix}{task_id}:{self._replicas}"

    def peer(self, peer_id: str) -> str:
        """The hash of a peer."""
        return f"{self.peer_prefix}{peer_id}"

    def host(self, host_id: str) -> str:
        """The hash of a host."""
        return f"{self.host_prefix}{host_id}"

    def peers_of_host(self, host_id: str) -> str:
        """The set of ids of all its peers."""
        return f"{self.host_prefix}{host_id}:{self._peers}"
