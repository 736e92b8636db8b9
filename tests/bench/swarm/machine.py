"""What a run took of this machine: how idle its cores were, and CPU seconds of the swarm."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

IDLE_MIN: Final = 0.10
"""Below, the links were not the bottleneck and the figures say nothing of the swarm."""
SAMPLE_S: Final = 2.0
_IDLE_COLUMNS: Final = (3, 4)  # idle and waiting for a disk, of proc(5), /proc/stat


class CpuTimes(NamedTuple):
    """Ticks of all cores together since the start of the machine."""

    idle: int
    total: int


def cpu_times(text: str) -> CpuTimes:
    """From the text of /proc/stat."""
    ticks = [int(word) for word in text.partition("\n")[0].split()[1:9]]  # guests are in user
    return CpuTimes(idle=sum(ticks[column] for column in _IDLE_COLUMNS), total=sum(ticks))


def idle_share(before: CpuTimes, after: CpuTimes) -> float:
    """From 0 to 1, between two moments; 1 if no time has passed."""
    total = after.total - before.total
    return (after.idle - before.idle) / total if total else 1.0


class IdleWatch:
    """Samples while a run runs. `share`: over all of it; `worst`: its busiest two seconds."""

    def __init__(self) -> None:
        self._samples = [_now()]

    async def sample(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._samples.append(_now())

    def stop(self) -> tuple[float, float]:
        """Returns `share` and `worst`."""
        last, samples = _now(), self._samples
        whole = [*samples, last] if len(samples) < 2 else samples
        pairs = pairwise(whole)
        return idle_share(samples[0], last), min(idle_share(*pair) for pair in pairs)


def _now() -> CpuTimes:
    return cpu_times(Path("/proc/stat").read_text(encoding="ascii"))
