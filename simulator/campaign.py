"""One world that lives through several files: hosts keep their qualities, the scheduler its memory.

Each file is fetched by all peers from a cold start. What peers finished stays registered with the
scheduler, as a real daemon keeps it; it just is no use for another file. So all that carries over
from one file to the next is what the scheduler has learned of the hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.place import Place
from simulator.swarm import TaskSwarm

if TYPE_CHECKING:
    from odonata.telemetry.record import Recorder
    from simulator.client import Client
    from simulator.policy import Policy
    from simulator.report import SwarmReport
    from simulator.scenario import Scenario


class Campaign:
    """All files of one scenario in one world."""

    def __init__(
        self,
        scenario: Scenario,
        policy: Policy,
        client: Client,
        seed: int,
        recorder: Recorder | None = None,
        *,
        keep_log: bool = False,
    ) -> None:
        """`seed` draws the world; the same one is the same world under any policy and client.

        `recorder` takes what scheduler and peers record; None: nothing is recorded.
        """
        self.place = Place(
            client.on(scenario),
            seed=seed,
            scheduler_limits=policy.limits(records=recorder is not None),
            ranker=policy.ranker(),
            recorder=recorder,
            label=f"{policy.name}/{client.name}",
            keep_log=keep_log,
        )

    def run(self) -> list[SwarmReport]:
        """Fetch file after file; return a report of each."""
        place = self.place
        reports: list[SwarmReport] = []
        place.begin()
        for number in range(1, place.scenario.files + 1):
            if number > 1:
                self._pause(place.scenario.pause_s)
            place.world.note("world", f"begins file {number}")
            reports.append(TaskSwarm(place, number).run())
        return reports

    def _pause(self, pause_s: float) -> None:
        """What is still going on goes on: a seed's last pieces, announcements, sweeps."""
        over: list[bool] = []
        world = self.place.world
        world.after(pause_s, lambda: over.append(True))
        world.run(until_s=world.now + pause_s + 1.0, is_over=lambda: bool(over))
