"""Which hosts fetch which contents ahead of time: the plan of a preheat, and what came of it.

Three scopes. *single_seed_peer*: each content goes to the seed that pulls of it would be led to, by
the same ring; if that one can't, to the next. *all_seed_peers*, *all_peers*: each content goes to
every host of that kind, or to a part of them: those with the addresses in `ips`, else `count` of
them, else `percentage` of them (rounded down, at least one), else all. The part is drawn by a hash
of host and content list, so that it is spread over the hosts and the same for the same request.

How the bytes travel is not planned here: each host registers like any other peer, so that the swarm
takes one copy from the source, however many preheats and pulls there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from odonata.errors import PreconditionError
from odonata.ids import task_id_of
from odonata.ring import SeedRing
from odonata.wire.message import Download, Host, Value
from scheduler.core.standing import HostState

if TYPE_CHECKING:
    from scheduler.core.host import KnownHost

SEED_TRIES = 3
"""Seeds that are asked for one content, one after the other: the ring's choice and two more. If
three in a row can't, it is no seed's fault."""


class Scope(StrEnum):
    """Whose daemons fetch."""

    SINGLE_SEED_PEER = "single_seed_peer"
    ALL_SEED_PEERS = "all_seed_peers"
    ALL_PEERS = "all_peers"


class HostChoice(Value, frozen=True, kw_only=True):
    """Which hosts of a scope: `ips` wins over `count`, that over `percentage` (1 to 100)."""

    scope: Scope = Scope.SINGLE_SEED_PEER
    ips: tuple[str, ...] = ()
    count: int | None = None
    percentage: int | None = None


class Assignment(Value, frozen=True, kw_only=True):
    """One content to fetch: by all `hosts`, or, if `is_either`, by the first of them that can."""

    task_id: str
    download: Download
    hosts: tuple[Host, ...]
    is_either: bool = False


def plan(
    downloads: Iterable[Download], hosts: Sequence[Host], choice: HostChoice
) -> list[Assignment]:
    """Plan who fetches what; contents of one task id are fetched once.

    Raises PreconditionError if there is nobody to do it.
    """
    wanted: dict[str, Download] = {}
    for one in downloads:
        wanted.setdefault(task_id_of(one), one)
    if choice.scope is Scope.SINGLE_SEED_PEER:
        return _by_ring(wanted, hosts)
    chosen = choose_hosts(hosts, choice, salt="".join(wanted))
    return [
        Assignment(task_id=task_id, download=download, hosts=chosen)
        for task_id, download in wanted.items()
    ]


def hosts_in_question(known: Iterable[KnownHost], scope: Scope) -> list[Host]:
    """Return who may be asked: everybody, but of seeds that stand for all only the good ones.

    A seed that was evicted, or did not answer lately, is not what pulls are led to. If there is no
    other, it is better than none.
    """
    everybody = list(known)
    if scope is Scope.SINGLE_SEED_PEER:
        good = [one for one in everybody if one.is_seed and _is_good(one)]
        everybody = good or everybody
    return [one.announced for one in everybody]


def choose_hosts(hosts: Sequence[Host], choice: HostChoice, *, salt: str) -> tuple[Host, ...]:
    """Choose the hosts of a scope that is for many. Raises PreconditionError if there is none."""
    in_scope = [one for one in hosts if one.is_seed or choice.scope is Scope.ALL_PEERS]
    if not in_scope:
        raise PreconditionError(
            f"scope {choice.scope} has no host: none of that kind has announced itself here"
        )
    if choice.ips:
        named = frozenset(choice.ips)
        chosen = tuple(one for one in in_scope if one.ip in named)
        if not chosen:
            raise PreconditionError(
                f"no host of scope {choice.scope} has one of the {len(named)} addresses in ips "
                f"(first: {choice.ips[0]}): name hosts that have announced themselves here"
            )
        return chosen
    wanted = len(in_scope)
    if choice.count is not None:
        wanted = choice.count
    elif choice.percentage is not None:
        wanted = max(1, len(in_scope) * choice.percentage // 100)
    if wanted >= len(in_scope):
        return tuple(in_scope)
    return tuple(sorted(in_scope, key=lambda one: _draw(salt, one))[:wanted])


def seeds_in_turn(task_id: str, hosts: Iterable[Host], tries: int = SEED_TRIES) -> list[Host]:
    """Return the seeds to ask for a task, the ring's choice first; none if there is no seed."""
    return _Seeds(hosts).in_turn(task_id, tries)


class _Seeds:
    """The ring of the seeds that share, as pulls see it."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        seeds = (one for one in hosts if one.is_seed and not one.disable_shared)
        self._by_address = {f"{one.ip}:{one.port}": one for one in seeds}
        self._ring = SeedRing(self._by_address)

    def in_turn(self, task_id: str, tries: int = SEED_TRIES) -> list[Host]:
        turn: list[str] = []
        while len(turn) < tries and (address := self._ring.pick(task_id, turn)) is not None:
            turn.append(address)
        return [self._by_address[address] for address in turn]


def _by_ring(wanted: dict[str, Download], hosts: Sequence[Host]) -> list[Assignment]:
    seeds = _Seeds(hosts)
    assignments = [
        Assignment(
            task_id=task_id,
            download=download,
            hosts=tuple(seeds.in_turn(task_id)),
            is_either=True,
        )
        for task_id, download in wanted.items()
    ]
    if not all(assignment.hosts for assignment in assignments):
        raise PreconditionError(
            "there is no seed peer to preheat: start one (seedPeer.enable), or use scope "
            f"{Scope.ALL_PEERS}"
        )
    return assignments


def _is_good(host: KnownHost) -> bool:
    if host.is_unreachable or host.is_lost:
        return False
    return host.standing.state is not HostState.EVICTED


def _draw(salt: str, host: Host) -> bytes:
    return hashlib.sha256(f"{salt}{host.id}".encode()).digest()
