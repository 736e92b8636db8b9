"""What is wrong with how a world with faults ended; nothing is, if nothing is said.

Strict: every download of a user ends in bounded time, with all bytes right, or with an error that
names a cause which really was there. The scheduler is left with nothing to remember once everybody
is gone, and believes of no stream that it is open when it is not. Where nothing went wrong, the
source was asked for one copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from odonata.errors import (
    DiskFullError,
    SourceError,
    UnavailableError,
)
from simulator.fault.plan import Cancel, Crash, Cut, DiskFull, SourceTrouble
from simulator.wire import SOURCE

if TYPE_CHECKING:
    from simulator.fault.ending import Ending
    from simulator.fault.plan import AnyFault, Plan
    from simulator.fault.swarm import HarshSwarm

STATUS_MOODS: Final = {404: "not found", 503: "unavailable"}
COPIES_MAX: Final = 1.001
"""From the source, where nothing went wrong."""


def findings_of(swarm: HarshSwarm) -> list[str]:
    """All that is wrong, in the order it is found."""
    findings = [
        finding for ending in swarm.endings if (finding := _of_ending(swarm.plan, ending))
    ]
    findings += _of_users(swarm)
    findings += _of_scheduler(swarm)
    findings += _of_copies(swarm)
    return findings


# --- downloads ------------------------------------------------------------------------------------


def _of_ending(plan: Plan, ending: Ending) -> str:
    who = f"{ending.host} ({ending.peer_id[-12:]})"
    if ending.wrong:
        return f"{who} holds wrong bytes in pieces {list(ending.wrong)}"
    if ending.crashed:
        return ""
    if ending.is_stuck:
        return f"{who} is stuck: {ending.state}, {len(ending.missing)} pieces missing"
    if not ending.error:
        lacks = list(ending.missing)
        return f"{who} completed without pieces {lacks}" if lacks else ""
    return "" if _is_honest(plan, ending) else f"{who} failed without a cause: {ending.detail}"


def _is_honest(plan: Plan, ending: Ending) -> bool:
    """Whether the error names something that really was so for this download."""
    hits = [fault for fault in plan.faults if _overlaps(fault, ending)]
    host, error, detail = ending.host, ending.error, ending.detail
    if error == DiskFullError.code:
        return any(isinstance(fault, DiskFull) and fault.host == host for fault in hits)
    if error == SourceError.code:
        return _is_source_bad(hits, ending)
    if error != UnavailableError.code:
        return False
    if detail.startswith("the download was cancelled"):
        return any(isinstance(fault, Cancel) and fault.host == host for fault in hits)
    is_private = "disable_back_to_source" in detail and host in plan.private
    # Who may not ask the source depends on others, and whatever hits them may hit it.
    others = any(not isinstance(fault, Cancel | DiskFull) or fault.host == host for fault in hits)
    world = plan.scenario
    # A stock peer does not register without a length.
    is_unsized = host in plan.stock and plan.sized and not world.source_says_length
    return is_private and (others or is_unsized or not world.seeds)


def _is_source_bad(hits: list[AnyFault], ending: Ending) -> bool:
    moods = {fault.what for fault in hits if isinstance(fault, SourceTrouble)}
    if ending.status_code is not None:
        return STATUS_MOODS.get(ending.status_code) in moods
    is_apart = any(isinstance(fault, Cut) and _separates(fault, ending.host) for fault in hits)
    return bool(moods - {"slow"}) or is_apart


def _separates(cut: Cut, host: str) -> bool:
    ends = {host, SOURCE}
    return bool(ends & set(cut.one)) and bool(ends & set(cut.other))


def _overlaps(fault: AnyFault, ending: Ending) -> bool:
    """It was there in the life of the download."""
    is_before = ending.ended_at_s is not None and ending.ended_at_s < fault.at_s
    return not is_before and fault.until_s() >= ending.started_at_s


def _of_users(swarm: HarshSwarm) -> list[str]:
    """Every user's download began, unless its host was dead."""
    begun = {ending.host for ending in swarm.endings}
    dead = {fault.host for fault in swarm.plan.faults if isinstance(fault, Crash)}
    return [
        f"the download of {node.name} never began"
        for node in swarm.peers
        if node.name not in begun | dead
    ]


# --- the scheduler and the source -----------------------------------------------------------------


def _of_scheduler(swarm: HarshSwarm) -> list[str]:
    """It has forgotten everybody, and waits for nothing."""
    core = swarm.place.scheduler
    if core is None:
        return []
    state = core.state
    findings = [
        f"the scheduler still knows {len(known)} {name}: {next(iter(known))}"
        for name, known in (
            ("hosts", state.hosts),
            ("tasks", state.tasks),
            ("peers", state.peers),
            ("waiting tasks", state.waiting_tasks),
            ("bereft peers", state.bereft),
            ("hosts on trial", state.trials),
            ("seeds", state.seeds),
        )
        if known
    ]
    findings += [f"{name} has an upload for nobody" for name in _left_uploads(swarm)]
    return findings + swarm.ghosts


def _left_uploads(swarm: HarshSwarm) -> list[str]:
    return [node.name for node in swarm.nodes.values() if node.alive and node.uploads]


def _of_copies(swarm: HarshSwarm) -> list[str]:
    plan, size = swarm.plan, swarm.scenario.size
    if plan.faults or not size:
        return []
    copies = swarm.source.link.sent / size
    if copies <= COPIES_MAX:
        return []
    return [f"the source gave {copies:.2f} copies although nothing went wrong"]

