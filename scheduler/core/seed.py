"""Which seed is asked to fetch a task, and what is remembered of how it went.

A seed is picked on a consistent-hash ring, so that the same task meets the same seed as long as it
lives. At most one trigger per task is in flight. A seed whose call could not be delivered leaves
the ring at once, until it announces itself again, and so does one that is out of contact; a seed
that failed a task is not asked for that task for a while; the next seed on the ring is asked
instead. A seed that already has a live peer on the task is not asked again: whoever could not use
that peer will not like another one better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from odonata.ring import SeedRing
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
    if _is_in_flight(turn, task):
        return None
    host = _pick(turn, task, child, last_resort=last_resort)
    if host is None:
        return None
    task.seed_flight = SeedFlight(
        host_id=host.id,
        started_at_s=turn.now,
        deadline_s=turn.now + turn.limits.seed_start_timeout_s,
    )
    turn.state.expect(task)
    turn.effects.append(
        TriggerSeed(task_id=task.id, host=host.announced, download=seed_download(child.download))
    )
    return host


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
    if task.seed_flight is not None and task.seed_flight.host_id == host.id:
        task.seed_flight.has_arrived = True


def peer_failed(turn: Turn, peer: Peer) -> None:
    """A peer failed or vanished; if the triggered seed's, the trigger has come to nothing."""
    flight = peer.task.seed_flight
    if flight is not None and flight.has_arrived and flight.host_id == peer.host.id:
        land(turn, peer.task, peer.host.id, has_failed=True)


def land(turn: Turn, task: Task, host_id: str, *, has_failed: bool) -> None:
    """The trigger of `host_id` is over. A seed that failed is left alone for a while.

    What is heard of a trigger that was given up before says nothing of the seed any more.
    """
    if task.seed_flight is None or task.seed_flight.host_id != host_id:
        return
    if has_failed:
        task.seed_refused[host_id] = turn.now + turn.limits.seed_failed_timeout_s
    task.seed_flight = None
    turn.state.disturb(task)


def serves(task: Task, host_id: str) -> bool:
    """Whether a peer of that host could serve the task now."""
    return any(peer.host.id == host_id for peer in task.useful.values())


def host_evicted(turn: Turn, host_id: str) -> None:
    """Count on no trigger of that host any more."""
    for task in turn.state.tasks.values():
        flight = task.seed_flight
        if flight is not None and flight.host_id == host_id:
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
    flight = task.seed_flight
    return flight is not None and turn.now < flight.started_at_s + turn.limits.seed_flight_timeout_s


def _pick(turn: Turn, task: Task, child: Peer, *, last_resort: bool) -> KnownHost | None:
    by_address = {
        f"{host.announced.ip}:{host.announced.port}": host
        for host in turn.state.seeds.values()
        if (last_resort or host.standing.state is not HostState.EVICTED)
        and _can_be_asked(turn, task, child, host)
    }
    address = SeedRing(by_address).pick(task.id)
    return None if address is None else by_address[address]


def _can_be_asked(turn: Turn, task: Task, child: Peer, host: KnownHost) -> bool:
    if host.is_unreachable or host.is_lost or host.announced.disable_shared or host is child.host:
        return False
    if task.seed_refused.get(host.id, turn.now) > turn.now:
        return False
    return not any(
        peer.host is host and (peer.stream_is_open or peer.id in task.useful)
        for peer in task.peers.values()
    )
