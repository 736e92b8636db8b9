"""Scenario files: worlds in YAML as people write them, checked, with units. No simulation here.

Keys and values follow the rules of every settings file (`odonata.settings`): camelCase without the
unit, which the value carries ("40Mbit/s", "256MiB", "30s"). Whatever is wrong is told with file,
line, key and fix.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from odonata.errors import CallerError
from odonata.piece import MIB
from odonata.settings.loading import load
from odonata.settings.section import Section, Settings
from odonata.settings.value import ByteCount, BytesPerS, Count, PositiveCount, Seconds
from simulator.network import UNLIMITED
from simulator.scenario import MBIT, Degrading, Joining, Scenario, Vanishing

SCENARIOS: Final = Path(__file__).parent.parent / "datasets" / "scenarios"
"""The ones that come with a checkout, by name."""

GOLDEN: Final = (5**0.5 - 1) / 2

Share = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=1)]


class HiddenSlowSection(Section):
    """Peers whose uplinks are divided, which nobody is told."""

    share: Share = 0.0
    factor: Factor = 10.0


class DegradingSection(Section):
    """Peers whose uplinks are divided at a time."""

    share: Share = 0.0
    factor: Factor = 50.0
    at_s: Seconds = 0.0
    """From the beginning of the first file."""
    lasts_s: Seconds | None = None


class VanishingSection(Section):
    """Peers that crash around a time."""

    share: Share = 0.0
    at_s: Seconds = 0.0


class JoiningSection(Section):
    """Peers that come around a time, not at the beginning."""

    share: Share = 0.0
    at_s: Seconds = 0.0


class ContentsSection(Section):
    """Contents that are not alike: their sizes, or how many from which size to which."""

    sizes_bytes: tuple[ByteCount, ...] = ()
    count: Count = 0
    smallest_bytes: ByteCount = 1024
    largest_bytes: ByteCount = 4 * MIB
    at_once: PositiveCount = 1
    """That a host fetches at once."""
    shuffled: bool = False
    """Each host has an order of its own."""

    def sizes(self) -> tuple[int, ...]:
        """Of all of them. With a count: as many of each order of magnitude, small and large mixed.

        Every prefix of the sequence is spread over the whole range (multiples of the golden ratio,
        modulo 1), so that a host that fetches some at once has not only large ones at a time.
        """
        if self.sizes_bytes or not self.count:
            return self.sizes_bytes
        ratio = self.largest_bytes / self.smallest_bytes
        spread = [number * GOLDEN % 1.0 for number in range(self.count)]
        rank = {value: place for place, value in enumerate(sorted(spread))}
        last = max(1, self.count - 1)
        return tuple(round(self.smallest_bytes * ratio ** (rank[one] / last)) for one in spread)


class ScenarioSettings(Settings):
    """A scenario file. The fields are those of `simulator.scenario.Scenario`."""

    program: ClassVar[str] = "scenario"

    question: str
    size_bytes: ByteCount = 256 * MIB
    piece_length_bytes: ByteCount = 4 * MIB
    files: PositiveCount = 1
    judged_from: PositiveCount = 1
    pause_s: Seconds = 10.0
    peers: PositiveCount = 200
    seeds: Count = 1
    peer_uplink_bytes_per_s: BytesPerS = int(40 * MBIT)
    peer_downlink_bytes_per_s: BytesPerS = int(40 * MBIT)
    seed_uplink_bytes_per_s: BytesPerS = int(400 * MBIT)
    source_uplink_bytes_per_s: BytesPerS = int(200 * MBIT)
    uplink_sigma: Annotated[float, Field(ge=0)] = 0.0
    hidden_slow: HiddenSlowSection = HiddenSlowSection()
    degrading: DegradingSection = DegradingSection()
    vanishing: VanishingSection = VanishingSection()
    joining: JoiningSection = JoiningSection()
    contents: ContentsSection = ContentsSection()
    """Instead of `files` of `size`."""
    announced: Literal["nominal", "nothing"] = "nominal"
    announce_interval_s: Annotated[Seconds, Field(gt=0)] = 300.0
    idcs: PositiveCount = 1
    between_idcs_bytes_per_s: BytesPerS | None = None
    labelled: bool = True
    delay_s: Seconds = 0.001
    source_delay_s: Seconds | None = None
    loss_share: Share = 0.0
    arrival_s: Seconds = 0.0

    def scenario(self) -> Scenario:
        """The same as a value of the simulator. CallerError if it makes no sense as a whole."""
        hidden, degrading, vanishing = self.hidden_slow, self.degrading, self.vanishing
        sizes = self.contents.sizes()
        return Scenario(
            question=self.question,
            size=max(sizes, default=self.size_bytes),
            sizes=sizes,
            piece_length=self.piece_length_bytes or None,
            files=len(sizes) or self.files,
            at_once=self.contents.at_once,
            shuffled=self.contents.shuffled,
            judged_from=self.judged_from,
            pause_s=self.pause_s,
            peers=self.peers,
            seeds=self.seeds,
            peer_up=float(self.peer_uplink_bytes_per_s),
            peer_down=float(self.peer_downlink_bytes_per_s),
            seed_up=float(self.seed_uplink_bytes_per_s),
            source_up=float(self.source_uplink_bytes_per_s),
            uplink_sigma=self.uplink_sigma,
            hidden_slow_share=hidden.share,
            hidden_slow_factor=hidden.factor,
            degrading=_degrading(degrading) if degrading.share else None,
            vanishing=Vanishing(share=vanishing.share, at_s=vanishing.at_s)
            if vanishing.share
            else None,
            joining=Joining(share=self.joining.share, at_s=self.joining.at_s)
            if self.joining.share
            else None,
            announced=self.announced,
            announce_interval_s=self.announce_interval_s,
            idcs=self.idcs,
            between_idcs=float(self.between_idcs_bytes_per_s or UNLIMITED),
            labelled=self.labelled,
            delay_s=self.delay_s,
            source_delay_s=self.source_delay_s,
            loss_share=self.loss_share,
            arrival_s=self.arrival_s,
        )


def load_scenario(
    name: str, *, overrides: Mapping[str, Any] | None = None, folder: Path = SCENARIOS
) -> Scenario:
    """The scenario called `name` in `folder`, or of the file `name`.

    `overrides` maps keys of the file to values, which win. CallerError if there is no such scenario
    or it makes no sense, SettingsError if the file is wrong.
    """
    loaded = load(ScenarioSettings, file=_find(name, folder), overrides=overrides)
    return loaded.settings.scenario()


def scenario_names(folder: Path = SCENARIOS) -> list[str]:
    """What may be named, in order."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _find(name: str, folder: Path) -> Path:
    known = scenario_names(folder)
    if name in known:
        return folder / f"{name}.yaml"
    file = Path(name)
    if file.suffix in {".yaml", ".yml"}:
        return file
    raise CallerError(
        f"there is no scenario {name!r}: name one of {', '.join(known) or '(none)'}, "
        "or a file that ends in .yaml"
    )


def _degrading(section: DegradingSection) -> Degrading:
    return Degrading(
        share=section.share, factor=section.factor, at_s=section.at_s, lasts_s=section.lasts_s
    )
