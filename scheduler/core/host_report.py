"""What an operator is told of the hosts: how each stands as a parent, why, and what it serves.

Plain values, copied from the state; times are those of the core's clock. Changes nothing.
"""

from __future__ import annotations

from itertools import islice
from math import isinf, isnan
from typing import TYPE_CHECKING

from odonata.wire.message import Value
from scheduler.core.standing import HostState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.core.host import KnownHost
    from scheduler.core.state import SchedulerState


class HostReport(Value, frozen=True, kw_only=True):
    """One host.

    `why` is what it was evicted for at last, "" if never; `standing_until_s` the end of its term,
    None if it serves none. `eviction_count` counts since it was announced first, and
    `doubtful_eviction_count` those of them that came while it served at a decent rate: the false
    ones, as far as can be known. `served_rate_bytes_per_s` is None if it never served;
    `recent_failure_count` halves every 10 min. `piece_count` is what its peers hold of
    `task_count` tasks.
    """

    id: str
    hostname: str
    ip: str
    port: int
    is_seed: bool
    idc: str
    location: str
    standing: HostState
    standing_since_s: float
    standing_until_s: float | None
    why: str
    eviction_count: int
    doubtful_eviction_count: int
    is_unreachable: bool
    child_count: int
    upload_count: int
    upload_failed_count: int
    recent_failure_count: float
    served_rate_bytes_per_s: float | None
    task_count: int
    peer_count: int
    piece_count: int
    announce_interval_s: float
    announced_at_s: float
    heard_at_s: float


class HostReports(Value, frozen=True, kw_only=True):
    """Some of `total_count` hosts that were asked for."""

    hosts: tuple[HostReport, ...]
    total_count: int


def report_hosts(
    state: SchedulerState, now: float, *, prefix: str = "", offset: int = 0, limit: int
) -> HostReports:
    """Describe the hosts whose id begins with `prefix`, in the order they were first announced.

    At most `limit`, from number `offset` on. A host that is called just so comes alone.
    """
    exact = state.hosts.get(prefix)
    found = [exact] if exact is not None else list(_beginning(state, prefix))
    chosen = islice(found, offset, offset + limit)
    reports = tuple(_report(host, now) for host in chosen)
    return HostReports(hosts=reports, total_count=len(found))


def _beginning(state: SchedulerState, prefix: str) -> Iterator[KnownHost]:
    return (host for host in state.hosts.values() if host.id.startswith(prefix))


def _report(host: KnownHost, now: float) -> HostReport:
    announced, standing, rate = host.announced, host.standing, host.history.rate_bytes_per_s
    peers = host.peers.values()
    return HostReport(
        id=host.id,
        hostname=announced.hostname,
        ip=announced.ip,
        port=announced.port,
        is_seed=host.is_seed,
        idc=announced.idc,
        location=announced.location,
        standing=standing.state,
        standing_since_s=standing.since_s or host.created_at_s,
        standing_until_s=None if isinf(standing.until_s) else standing.until_s,
        why=standing.why,
        eviction_count=standing.eviction_count,
        doubtful_eviction_count=standing.doubtful_eviction_count,
        is_unreachable=host.is_unreachable,
        child_count=host.concurrent_upload_count,
        upload_count=host.upload_count,
        upload_failed_count=host.upload_failed_count,
        recent_failure_count=host.history.failure_count(now),
        served_rate_bytes_per_s=None if isnan(rate) else rate,
        task_count=len({peer.task.id for peer in peers}),
        peer_count=len(host.peers),
        piece_count=sum(len(peer.pieces) for peer in peers),
        announce_interval_s=host.announce_interval_s,
        announced_at_s=host.announced_at_s,
        heard_at_s=host.updated_at_s,
    )
