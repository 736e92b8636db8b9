"""What a world with faults looks like and what goes wrong in it: plain data, drawn by nobody here.

A plan is all there is to a run: the same plan gives the same run, event by event. Each fault stands
alone, so that a plan with fewer of them is a plan, too. Hosts go by name (`peer1`, `seed1`, ...);
`scheduler` and `source` are places as well. Times are seconds from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Literal

from msgspec.structs import replace

from odonata.units import format_size
from odonata.wire.message import Value
from scheduler.core.graph import GraphKind
from simulator.node import Lie, UploadTrouble
from simulator.scenario import Scenario
from simulator.source import SourceMood
from simulator.wire import SOURCE


class Fault(Value, frozen=True, kw_only=True):
    """Something that goes wrong, from `at_s` on."""

    at_s: float = 0.0

    @property
    def kind(self) -> str:
        """What it is called in a summary."""
        raise NotImplementedError

    def until_s(self) -> float:
        """When it is over; infinity: never."""
        return inf

    def moments(self) -> tuple[float, ...]:
        """When something changes by it."""
        return (self.at_s, self.until_s())

    def places(self) -> tuple[str, ...]:
        """Who is hit."""
        return ()


class Crash(Fault, frozen=True, kw_only=True, tag=True):
    """A host dies with all its processes, and may come back.

    "reset": its system lives on and ends the streams; "silent": nobody hears anything; "leaves": it
    takes its leave of the scheduler first.
    """

    host: str
    manner: Literal["reset", "silent", "leaves"]
    back_after_s: float | None
    keeps_data: bool = True

    def moments(self) -> tuple[float, ...]:
        back_s = inf if self.back_after_s is None else self.at_s + self.back_after_s
        return (self.at_s, back_s)

    @property
    def kind(self) -> str:
        return f"host {'leaves' if self.manner == 'leaves' else 'crash, ' + self.manner}"

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        back = "for good"
        if self.back_after_s is not None:
            data = "with" if self.keeps_data else "without"
            back = f"back after {self.back_after_s:.1f} s {data} its data"
        what = "leaves" if self.manner == "leaves" else f"dies ({self.manner})"
        return f"{self.host} {what}, {back}"


class SchedulerCrash(Fault, frozen=True, kw_only=True, tag=True):
    """The scheduler dies, and all it knew with it."""

    back_after_s: float | None

    def moments(self) -> tuple[float, ...]:
        back_s = inf if self.back_after_s is None else self.at_s + self.back_after_s
        return (self.at_s, back_s)

    @property
    def kind(self) -> str:
        return "scheduler crash"

    def __str__(self) -> str:
        back = self.back_after_s
        return f"the scheduler dies, {'for good' if back is None else f'back after {back:.1f} s'}"


class StreamBreak(Fault, frozen=True, kw_only=True, tag=True):
    """The stream between a host's download and the scheduler breaks; both hear of it."""

    host: str

    @property
    def kind(self) -> str:
        return "stream break"

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        return f"the stream between {self.host} and the scheduler breaks"


class Delay(Fault, frozen=True, kw_only=True, tag=True):
    """Messages between peers and scheduler take up to `up_to_s` longer; each stream keeps order."""

    up_to_s: float
    lasts_s: float

    @property
    def kind(self) -> str:
        return "message delay"

    def until_s(self) -> float:
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        return f"messages take up to {self.up_to_s:.2f} s, for {self.lasts_s:.1f} s"


class Cut(Fault, frozen=True, kw_only=True, tag=True):
    """Nothing gets from `one` side to the `other`; `one_way`: the other direction works."""

    one: tuple[str, ...]
    other: tuple[str, ...]
    lasts_s: float | None
    one_way: bool = False

    @property
    def kind(self) -> str:
        return "one-way partition" if self.one_way else "partition"

    def until_s(self) -> float:
        return inf if self.lasts_s is None else self.at_s + self.lasts_s

    def places(self) -> tuple[str, ...]:
        return (*self.one, *self.other)

    def __str__(self) -> str:
        end = "for good" if self.lasts_s is None else f"for {self.lasts_s:.1f} s"
        arrow = "->" if self.one_way else "|"
        return f"cut {','.join(self.one)} {arrow} {','.join(self.other)}, {end}"


class Uploads(Fault, frozen=True, kw_only=True, tag=True):
    """A host's uploads are in trouble."""

    host: str
    what: UploadTrouble | Literal["slow"]
    lasts_s: float | None

    @property
    def kind(self) -> str:
        return f"uploads {self.what}"

    def until_s(self) -> float:
        return inf if self.lasts_s is None else self.at_s + self.lasts_s

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        end = "for good" if self.lasts_s is None else f"for {self.lasts_s:.1f} s"
        return f"uploads of {self.host}: {self.what}, {end}"


class Liar(Fault, frozen=True, kw_only=True, tag=True):
    """A host lies to its children, from the beginning."""

    host: str
    lie: Lie

    @property
    def kind(self) -> str:
        return f"liar, {self.lie}"

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        return f"{self.host} lies about its {self.lie}"


class SourceTrouble(Fault, frozen=True, kw_only=True, tag=True):
    """The source is in trouble."""

    what: SourceMood | Literal["slow"]
    lasts_s: float | None

    @property
    def kind(self) -> str:
        return f"source {self.what}"

    def until_s(self) -> float:
        return inf if self.lasts_s is None else self.at_s + self.lasts_s

    def places(self) -> tuple[str, ...]:
        return (SOURCE,)

    def __str__(self) -> str:
        end = "for good" if self.lasts_s is None else f"for {self.lasts_s:.1f} s"
        return f"the source: {self.what}, {end}"


class Jump(Fault, frozen=True, kw_only=True, tag=True):
    """The clock of a host or the scheduler jumps ahead."""

    who: str
    by_s: float

    @property
    def kind(self) -> str:
        return "clock jump"

    def places(self) -> tuple[str, ...]:
        return (self.who,)

    def __str__(self) -> str:
        return f"the clock of {self.who} jumps ahead by {self.by_s:.0f} s"


class DiskFull(Fault, frozen=True, kw_only=True, tag=True):
    """A host's disk takes only so many pieces."""

    host: str
    pieces: int

    @property
    def kind(self) -> str:
        return "disk full"

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        return f"the disk of {self.host} takes {self.pieces} pieces"


class Cancel(Fault, frozen=True, kw_only=True, tag=True):
    """A user does not want the download of a host any more."""

    host: str

    @property
    def kind(self) -> str:
        return "cancel"

    def places(self) -> tuple[str, ...]:
        return (self.host,)

    def __str__(self) -> str:
        return f"the user of {self.host} cancels"


AnyFault = (
    Crash
    | SchedulerCrash
    | StreamBreak
    | Delay
    | Cut
    | Uploads
    | Liar
    | SourceTrouble
    | Jump
    | DiskFull
    | Cancel
)


class Plan(Value, frozen=True, kw_only=True):
    """A world and its faults. `stock` hosts follow the rules of Dragonfly's client.

    `private` hosts may not ask the source. `sized`: stock hosts learn the length before they
    register, as Dragonfly's do. `graph`: what the scheduler keeps acyclic; `mesh_parents`: how many
    a peer of ours may have in a mesh.
    """

    seed: int
    scenario: Scenario
    policy: str
    stock: tuple[str, ...]
    private: tuple[str, ...]
    sized: bool
    graph: GraphKind = GraphKind.MESH
    mesh_parents: int = 8
    faults: tuple[AnyFault, ...]

    def only(self, numbers: Iterable[int]) -> Plan:
        """The same world with these faults, counted from 1, and no others."""
        return replace(self, faults=tuple(self.faults[number - 1] for number in numbers))

    def lines(self) -> list[str]:
        """The plan in words."""
        world = self.scenario
        length = world.piece_length or 1
        told = "" if world.source_says_length else ", length not told"
        ranges = "" if world.source_ranges else ", no ranges"
        hosts = f"{world.peers} peers and {world.seeds} seeds in {world.idcs} data centres"
        content = f"{format_size(world.size)} in {-(-world.size // length)} pieces{told}{ranges}"
        graph = f"{self.graph} of {self.mesh_parents}" if self.graph is GraphKind.MESH else "dag"
        lines = [f"seed {self.seed}: {hosts}, {content}; ranker {self.policy}, {graph}"]
        if self.stock:
            lines.append(f"stock: {', '.join(self.stock)}{' (sized)' if self.sized else ''}")
        if self.private:
            lines.append(f"may not ask the source: {', '.join(self.private)}")
        ordered = sorted(enumerate(self.faults, 1), key=lambda pair: pair[1].at_s)
        lines += [f"{number:>3}. {fault.at_s:7.1f} s  {fault}" for number, fault in ordered]
        return lines
