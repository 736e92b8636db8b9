"""Which seed is asked to fetch a task, and what is remembered of how it went.

A seed is picked on a consistent-hash ring, so that the same task meets the same seed as long as it
lives. At most one trigger per task and seed is in flight, and while one is, no child's asking
starts another: only the seed itself can bring in others, to fetch the task together with it
(`seed_team`). A seed whose call could not be delivered leaves the ring at once, until it announces
itself again, and so does one that is out of contact; a seed that failed a task is not asked for
that task for a while; the next seed on the ring is asked instead. A seed that already has a live
peer on the task is not asked again: whoever could not use that peer will not like another one
better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from odonata.ring import SeedRing
from odonata.wire.message import SourceShare
from scheduler.core.effect import TriggerSeed
from scheduler.core.standing import HostState
from scheduler.core.task import SeedFlight

if TYPE_CHECKING:
    from odonata.wire.message import Download
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.task import Task
    from scheduler.core.turn import Turn

TRIGGERING_PRIORITIES = (0, 4, 5, 6)
"""Levels of a download for which a seed is asked; others go to the source themselves."""


def trigger(turn: Turn, child: Peer, *, last_resort: bool = False) -> KnownHost | None:
    """Ask a seed to fetch the child's task; return the seed, or None if none can be asked.

    A seed that was evicted can be asked as a `last_resort` only.
    """
    task = child.task
    if child.host.is_seed or child.download.priority not in TRIGGERING_PRIORITIES:
        return None
    if turn.state.cluster.why_blocked(child.download, is_seed=True) is not None:
        return None
    if _is_in_flight(turn, task):
        return None
    able = [
        host
        for host in turn.state.seeds.values()
        if (last_resort or host.standing.state is not HostState.EVICTED)
        and host is not child.host
        and can_be_asked(turn, task, host)
    ]
    host = next(iter(in_ring_order(able, task.id, 1)), None)
    if host is None:
        return None
    sharing = sum(one.shares_source for one in able)
    count = min(turn.limits.seeds_per_task, sharing) if host.shares_source else 1
    share = SourceShare(index=0, count=count) if count > 1 else None
    launch(turn, task, host, child.wanted(), share)
    return host


def launch(
    turn: Turn, task: Task, host: KnownHost, download: Download, share: SourceShare | None
) -> None:
    """Trigger `host`; `download` is what somebody else asked for."""
    task.seed_flights[host.id] = SeedFlight(
        host_id=host.id,
        started_at_s=turn.now,
        deadline_s=turn.now + turn.limits.seed_start_timeout_s,
        share=share,
    )
    turn.state.expect(task)
    wanted = replace(seed_download(download), source_share=share)
    turn.effects.append(TriggerSeed(task_id=task.id, host=host.announced, download=wanted))


def in_ring_order(hosts: list[KnownHost], task_id: str, count: int) -> list[KnownHost]:
    """The first `count` of `hosts` on the ring, for this task."""
    by_address = {f"{host.announced.ip}:{host.announced.port}": host for host in hosts}
    order: list[KnownHost] = []
    while by_address and len(order) < count:
        address = SeedRing(by_address).pick(task_id)
        if address is None:
            break
        order.append(by_address.pop(address))
    return order


def can_be_asked(turn: Turn, task: Task, host: KnownHost) -> bool:
    """Whether the seed can be reached, has not failed the task lately, and is not at it."""
    if host.is_unreachable or host.is_lost or host.announced.disable_shared:
        return False
    if host.id in task.seed_flights:
        return False
    if task.seed_refused.get(host.id, turn.now) > turn.now:
        return False
    return not any(
        peer.host is host and (peer.stream_is_open or peer.id in task.useful)
        for peer in task.peers.values()
    )


def seed_download(download: Download) -> Download:
    """Turn what a child asked for into what its seed shall fetch: all of it, from the source."""
    headers = {
        name: value for name, value in download.request_header.items() if name.lower() != "range"
    }
    return replace(
        download,
        range=None,
        request_header=headers,
        output_path=None,
        need_piece_content=False,
        force_hard_link=False,
        need_back_to_source=True,
        disable_back_to_source=False,
    )


def arrived(task: Task, host: KnownHost) -> None:
    """A peer of `host` came for the task: if triggered, that is the peer to hope for."""
    flight = task.seed_flights.get(host.id)
    if flight is not None:
        flight.has_arrived = True


def peer_failed(turn: Turn, peer: Peer) -> None:
    """A peer failed or vanished; if a triggered seed's, the trigger has come to nothing."""
    flight = peer.task.seed_flights.get(peer.host.id)
    if flight is not None and flight.has_arrived:
        land(turn, peer.task, peer.host.id, has_failed=True)


def land(turn: Turn, task: Task, host_id: str, *, has_failed: bool) -> None:
    """The trigger of `host_id` is over. A seed that failed is left alone for a while.

    What is heard of a trigger that was given up before says nothing of the seed any more.
    """
    if host_id not in task.seed_flights:
        return
    if has_failed:
        task.seed_refused[host_id] = turn.now + turn.limits.seed_failed_timeout_s
    del task.seed_flights[host_id]
    turn.state.disturb(task)


def serves(task: Task, host_id: str) -> bool:
    """Whether a peer of that host could serve the task now."""
    return any(peer.host.id == host_id for peer in task.useful.values())


def host_evicted(turn: Turn, host_id: str) -> None:
    """Count on no trigger of that host any more."""
    for task in turn.state.tasks.values():
        flight = task.seed_flights.get(host_id)
        if flight is not None:
            flight.is_overdue = True
            turn.state.disturb(task)


def host_lost(turn: Turn, host_id: str) -> None:
    """Hope for no trigger of a seed that nobody hears of any more. It may come back."""
    for task in turn.state.tasks.values():
        land(turn, task, host_id, has_failed=False)


def host_left(turn: Turn, host_id: str) -> None:
    """End every trigger of a host that is gone."""
    for task in turn.state.tasks.values():
        task.seed_refused.pop(host_id, None)
        land(turn, task, host_id, has_failed=False)


def _is_in_flight(turn: Turn, task: Task) -> bool:
    """Whether a trigger runs; one that ran for too long is forgotten."""
    bound_s = turn.limits.seed_flight_timeout_s
    for flight in tuple(task.seed_flights.values()):
        if turn.now >= flight.started_at_s + bound_s:
            del task.seed_flights[flight.host_id]
    return bool(task.seed_flights)
