"""A plan from a seed: which world, and what goes wrong when. The same seed draws the same plan.

Every fault is drawn within about twice the time that the world would take without any, since what
happens later hits nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Literal

from msgspec.structs import replace

from odonata.piece import PIECE_LENGTH_MIN, SHARE_PIECES_MIN
from scheduler.core.graph import GraphKind
from simulator.fault.plan import (
    AnyFault,
    Cancel,
    Crash,
    Cut,
    Delay,
    DiskFull,
    Jump,
    Liar,
    Plan,
    SchedulerCrash,
    SourceTrouble,
    StreamBreak,
    Uploads,
)
from simulator.node import UploadTrouble
from simulator.scenario import MBIT, Scenario
from simulator.source import SourceMood
from simulator.wire import SCHEDULER, SOURCE

PIECES_MAX: Final = 12
"""Enough for a swarm to have pieces of different rarity; a run takes some 50 ms."""
PEERS_MAX: Final = 9
TEAM_SHARE: Final = 0.12
"""Worlds in which two seeds of ours have enough pieces to fetch the content together."""
FAULTS_MAX: Final = 6
FORGER_SHARE: Final = 0.15
"""Worlds in which a host forges pieces, whatever else goes wrong."""
QUIET_SHARE: Final = 0.08
"""Worlds without a fault: there the source must be asked but once."""
POLICIES: Final = ("rule", "rule", "dragonfly", "random")
JUMPS_S: Final = (3.0, 30.0, 400.0, 1900.0, 7200.0)
"""Longer than a start time-out, a piece, missed announcements, a piece time-out, everything."""
UPLOADS: Final[tuple[UploadTrouble | Literal["slow"], ...]] = (
    "cut",
    "corrupt",
    "stall",
    "refuse",
    "slow",
)
MOODS: Final[tuple[SourceMood | Literal["slow"], ...]] = (
    "not found",
    "unavailable",
    "refuse",
    "cut",
    "stall",
    "slow",
)
DELAYS_S: Final = (0.05, 0.5, 5.0, 40.0)


def draw_plan(seed: int) -> Plan:
    """The plan of that seed."""
    dice = Random(f"faults/{seed}")  # noqa: S311  # chance, not secrecy
    scenario = _scenario(dice)
    # Dice of their own, lest the worlds of all seeds become other ones.
    more = Random(f"faults/{seed}/more")  # noqa: S311  # chance, not secrecy
    is_team = more.random() < TEAM_SHARE
    if is_team:
        length = PIECE_LENGTH_MIN
        size = more.randint(2 * SHARE_PIECES_MIN, PIECES_MAX) * length - more.choice(
            (0, 1, length // 2)
        )
        scenario = replace(scenario, seeds=2, size=size)
    peers = [f"peer{number}" for number in range(1, scenario.peers + 1)]
    seeds = [f"seed{number}" for number in range(1, scenario.seeds + 1)]
    stock_share = dice.choice((0.0, 0.0, 0.5, 1.0))
    plan = Plan(
        seed=seed,
        scenario=scenario,
        policy=dice.choice(POLICIES),
        stock=tuple(
            name
            for name in peers + seeds
            if dice.random() < stock_share and not (is_team and name in seeds)
        ),
        private=tuple(name for name in peers if dice.random() < 0.1),
        sized=dice.random() < 0.5,
        graph=more.choices((GraphKind.MESH, GraphKind.DAG), (3, 1))[0],
        mesh_parents=more.choice((8, 8, 4, 2)),
        faults=_Faults(dice, scenario, peers, seeds).draw(),
    )
    if more.random() >= FORGER_SHARE:
        return plan
    forger = Liar(host=more.choice(peers + seeds), lie="forgery")
    # The host's other lie, if it has one, would hide it.
    others = tuple(
        one for one in plan.faults if not (isinstance(one, Liar) and one.host == forger.host)
    )
    return replace(plan, faults=(forger, *others))


def _scenario(dice: Random) -> Scenario:
    length = PIECE_LENGTH_MIN
    size = dice.choice((dice.randint(1, PIECES_MAX), dice.randint(1, 4))) * length
    size += dice.choice((0, 0, 1, -1, dice.randrange(length)))
    size = dice.choices((size, 0, 1), (30, 1, 1))[0]
    peers = dice.choice((dice.randint(1, 4), dice.randint(2, PEERS_MAX)))
    return Scenario(
        size=size,
        piece_length=length,
        peers=peers,
        seeds=dice.choice((0, 1, 1, 2)),
        peer_up=dice.choice((40, 40, 200)) * MBIT,
        peer_down=dice.choice((40, 200)) * MBIT,
        seed_up=dice.choice((40, 400)) * MBIT,
        source_up=dice.choice((40, 200)) * MBIT,
        source_ranges=dice.random() < 0.8,
        source_says_length=dice.random() < 0.85,
        idcs=dice.choice((1, 1, 1, 2, 3)),
        delay_s=dice.choice((0.0005, 0.005, 0.05)),
        arrival_s=dice.choice((0.0, 0.0, 2.0, 20.0)),
        uplink_sigma=dice.choice((0.0, 0.8)),
        announced=dice.choice(("nominal", "nominal", "nothing")),
    )


class _Faults:
    """Draws the faults of one world."""

    def __init__(
        self, dice: Random, scenario: Scenario, peers: list[str], seeds: list[str]
    ) -> None:
        self._dice = dice
        self._peers = peers
        self._hosts = peers + seeds
        self._pieces = max(1, -(-scenario.size // PIECE_LENGTH_MIN))
        self._horizon_s = 2 * (scenario.bound_s() + 1.0) + scenario.arrival_s

    def draw(self) -> tuple[AnyFault, ...]:
        if self._dice.random() < QUIET_SHARE:
            return ()
        kinds: dict[Callable[[], AnyFault], int] = {
            self._crash: 4,
            self._scheduler_crash: 2,
            self._stream_break: 2,
            self._delay: 1,
            self._cut: 4,
            self._uploads: 4,
            self._liar: 2,
            self._source: 3,
            self._jump: 2,
            self._disk: 1,
            self._cancel: 2,
        }
        count = self._dice.randint(1, FAULTS_MAX)
        drawn = self._dice.choices(list(kinds), list(kinds.values()), k=count)
        faults = [one() for one in drawn]
        return tuple(sorted(faults, key=lambda fault: fault.at_s))

    def _at_s(self) -> float:
        # Early ones meet the first piece, on which everything hangs.
        share = self._dice.random() ** self._dice.choice((1, 3))
        return round(share * self._horizon_s, 3)

    def _host(self) -> str:
        return self._dice.choice(self._hosts)

    def _lasts_s(self) -> float | None:
        """Some seconds, longer than any time-out of a stream, or for good."""
        short = round(self._dice.uniform(0.2, self._horizon_s), 3)
        return self._dice.choice((short, short, 30.0, 100.0, 400.0, None))

    def _crash(self) -> Crash:
        return Crash(
            at_s=self._at_s(),
            host=self._host(),
            manner=self._dice.choice(("reset", "reset", "silent", "silent", "leaves")),
            back_after_s=self._dice.choice((None, 1.0, 5.0, 60.0, 400.0)),
            keeps_data=self._dice.random() < 0.6,
        )

    def _scheduler_crash(self) -> SchedulerCrash:
        back = self._dice.choice((None, 0.3, 3.0, 20.0, 200.0))
        return SchedulerCrash(at_s=self._at_s(), back_after_s=back)

    def _stream_break(self) -> StreamBreak:
        return StreamBreak(at_s=self._at_s(), host=self._host())

    def _delay(self) -> Delay:
        lasts_s = round(self._dice.uniform(1.0, self._horizon_s + 2.0), 3)
        return Delay(at_s=self._at_s(), up_to_s=self._dice.choice(DELAYS_S), lasts_s=lasts_s)

    def _cut(self) -> Cut:
        places = [*self._hosts, SCHEDULER, SOURCE]
        count = self._dice.choice((1, 1, self._dice.randint(1, len(places) - 1)))
        one = set(self._dice.sample(places, count))
        rest = [place for place in places if place not in one]
        if self._dice.random() < 0.5:
            rest = self._dice.sample(rest, self._dice.randint(1, len(rest)))
        return Cut(
            at_s=self._at_s(),
            one=tuple(place for place in places if place in one),
            other=tuple(place for place in places if place in rest),
            lasts_s=self._lasts_s(),
            one_way=self._dice.random() < 0.3,
        )

    def _uploads(self) -> Uploads:
        what = self._dice.choice(UPLOADS)
        return Uploads(at_s=self._at_s(), host=self._host(), what=what, lasts_s=self._lasts_s())

    def _liar(self) -> Liar:
        return Liar(host=self._host(), lie=self._dice.choice(("digest", "pieces", "length")))

    def _source(self) -> SourceTrouble:
        what = self._dice.choice(MOODS)
        return SourceTrouble(at_s=self._at_s(), what=what, lasts_s=self._lasts_s())

    def _jump(self) -> Jump:
        who = self._dice.choice((SCHEDULER, self._host()))
        return Jump(at_s=self._at_s(), who=who, by_s=self._dice.choice(JUMPS_S))

    def _disk(self) -> DiskFull:
        return DiskFull(host=self._host(), pieces=self._dice.randrange(self._pieces))

    def _cancel(self) -> Cancel:
        return Cancel(at_s=self._at_s(), host=self._dice.choice(self._peers))
