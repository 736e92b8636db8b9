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
from peer.core.limits import DownloadLimits
from simulator.fault.plan import (
    Cancel,
    Crash,
    Cut,
    Delay,
    DiskFull,
    Jump,
    Liar,
    SourceTrouble,
    StreamBreak,
    Uploads,
)
from simulator.wire import SCHEDULER, SOURCE

if TYPE_CHECKING:
    from simulator.fault.ending import Ending
    from simulator.fault.plan import AnyFault, Plan
    from simulator.fault.swarm import HarshSwarm

STATUS_MOODS: Final = {404: "not found", 503: "unavailable"}
QUIET_FACTOR: Final = 10.0
"""Times the physical bound in which a download ends where nothing goes wrong (the worst of 366 was
7.4, with stock clients)..."""
QUIET_S: Final = 10.0
"""...and so much longer, for what does not depend on the size."""
OWN_S: Final = 3600.0
"""In which one of ours ends after the last thing went wrong or well again. Four attempts at a
source that falls silent take 2,500 s."""
STOCK_S: Final = 3 * 3600.0 + 5 * 1810.0 + 4 * 640.0
"""The same of a stock client: it waits three hours for an answer of the scheduler, half an hour for
a piece from the parents of each of five answers, and falls back on a silent source four times."""
FORGETTING_S: Final = 600.0
"""Two announcements of a host, five minutes apart, that the scheduler has missed."""
COPIES_SLACK: Final = 0.001
"""Rounding, in copies of the content."""
MEMORY_S: Final = 60.0
"""Four attempts of 10 s without an answer and the pauses between them, with some room..."""
SILENT_MEMORY_S: Final = 4 * 640.0
"""...and four that fall silent in the middle."""
CHANGED: Final = "source failed: the content changed at the source"
"""What a download says when it learns at the source that a peer lied to it about the length."""


def findings_of(swarm: HarshSwarm) -> list[str]:
    """All that is wrong, in the order it is found."""
    thinnest_s = swarm.scenario.size / min(node.link.up for node in swarm.nodes.values())
    found = [of_ending(swarm.plan, ending, thinnest_s=thinnest_s) for ending in swarm.endings]
    findings = [finding for finding in found if finding]
    findings += _of_users(swarm)
    findings += _of_scheduler(swarm)
    findings += _of_copies(swarm)
    return findings


# --- downloads ------------------------------------------------------------------------------------


def of_ending(plan: Plan, ending: Ending, *, thinnest_s: float = 0.0) -> str:
    """What is wrong with how one download ended; "" if nothing is.

    The content takes `thinnest_s` through the thinnest uplink: whoever comes first, and is the only
    one that has it for a while, may be the host with that.
    """
    who = f"{ending.host} ({ending.peer_id[-12:]})"
    late_s = _late_s(plan, ending, thinnest_s)
    if late_s > 0:
        return f"{who} ended, but {late_s:.0f} s too late"
    if ending.wrong or (ending.forged and _must_notice(plan, ending)):
        return f"{who} holds wrong bytes in pieces {list(ending.wrong + ending.forged)}"
    if ending.crashed:
        return ""
    if ending.is_stuck:
        return f"{who} is stuck: {ending.state}, {len(ending.missing)} pieces missing"
    if not ending.error:
        lacks = list(ending.missing)
        return f"{who} completed without pieces {lacks}" if lacks else ""
    return "" if _is_honest(plan, ending) else f"{who} failed without a cause: {ending.detail}"


def _must_notice(plan: Plan, ending: Ending) -> bool:
    """Whether a host that says it is whole must have found out that pieces are forged.

    It must if it was told what they should be. It is told if everybody is ours and nothing happens
    to the scheduler, to those who tell it, or to the way between: stock hosts neither tell strong
    digests nor check them.
    """
    if ending.error or ending.crashed or ending.ended_at_s is None:
        return False
    if ending.detected:
        return True
    return not plan.stock and all(isinstance(fault, Liar) for fault in plan.faults)


def _late_s(plan: Plan, ending: Ending, thinnest_s: float) -> float:
    """How much longer it took than it may, after the last thing that happened to the world."""
    if ending.ended_at_s is None:
        return 0.0
    if not plan.faults:
        allowed_s = QUIET_FACTOR * plan.scenario.bound_s() + QUIET_S + thinnest_s
    else:
        allowed_s = STOCK_S if ending.host in plan.stock else OWN_S
    moments = [moment for fault in plan.faults for moment in fault.moments()]
    begun_s = max([m for m in moments if m <= ending.ended_at_s], default=0.0)
    return ending.ended_at_s - max(begun_s, ending.started_at_s) - allowed_s


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
    world = plan.scenario
    # A stock peer does not register without a length, nor does a stock seed.
    mute = plan.stock if plan.sized and not world.source_says_length else ()
    seeds = {f"seed{number}" for number in range(1, world.seeds + 1)} - set(mute)
    is_deprived = any(_deprives(fault, host) for fault in hits)
    return is_private and (is_deprived or host in mute or not seeds)


def _deprives(fault: AnyFault, host: str) -> bool:
    """Whether a fault can take the parents from a host, or keep them from it, for good."""
    match fault:
        case Jump(who=who, by_s=by_s):
            # It forgets all hosts: as far as it can tell they have missed their announcements.
            return who == SCHEDULER and by_s > FORGETTING_S
        case Delay() | Uploads(what="slow"):
            return False
        case StreamBreak():
            return fault.host == host
        case _:
            return True


def _is_source_bad(hits: list[AnyFault], ending: Ending) -> bool:
    hits = [fault for fault in hits if fault.until_s() >= _ended_s(ending) - _memory_s(fault)]
    moods = {fault.what for fault in hits if isinstance(fault, SourceTrouble)}
    if ending.detail.startswith(CHANGED):
        return any(isinstance(fault, Liar) and fault.lie == "length" for fault in hits)
    if ending.status_code is not None:
        return STATUS_MOODS.get(ending.status_code) in moods
    is_apart = any(isinstance(fault, Cut) and _separates(fault, ending.host) for fault in hits)
    return bool(moods - {"slow"}) or is_apart


def _ended_s(ending: Ending) -> float:
    assert ending.ended_at_s is not None, "an error is an end"
    return ending.ended_at_s


def _memory_s(fault: AnyFault) -> float:
    """How long after its end a trouble of the source may still be the reason to give it up."""
    is_silent = isinstance(fault, Cut) or (
        isinstance(fault, SourceTrouble) and fault.what == "stall"
    )
    return SILENT_MEMORY_S if is_silent else MEMORY_S


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
    copies, allowed = swarm.source.link.sent / size, 1 + _going_alone(plan)
    if copies <= allowed + COPIES_SLACK:
        return []
    return [f"the source gave {copies:.2f} copies, not {allowed}, although nothing went wrong"]


def _going_alone(plan: Plan) -> int:
    """Stock hosts that do not ask the scheduler: it must be told a length, and a large one."""
    world = plan.scenario
    is_asked = world.source_says_length and world.size > DownloadLimits().small_content_bytes
    return 0 if is_asked or not plan.sized else len(plan.stock)
