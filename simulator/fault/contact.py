"""How a host keeps in touch with the scheduler, as the daemon does: health, announcements, reports.

It announces the host again and again, tries soon after the scheduler was lost, and tells a
scheduler that it has found, or found again, which whole content is held here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from odonata.piece import piece_count
from odonata.wire.message import Download, Failed, Finished, MetadataOnly, Register, Started
from peer.core.event import DownloadEvent, SchedulerAnswered
from scheduler.core.event import HostAnnounced
from simulator.host import BITS
from simulator.wire import SCHEDULER

if TYPE_CHECKING:
    from simulator.fault.place import HarshPlace
    from simulator.fault.stream import Stream
    from simulator.host import SimulatedHost
    from simulator.node import Node
    from simulator.world import Timer

CONNECT_S: Final = 3.0
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 10.0
ROUND_MIN_S: Final = 0.5
"""The daemon's time-outs (`peer.runtime.scheduler_link`)."""


class Contact:
    """One host's link to the scheduler. `is_well`: downloads may ask it."""

    def __init__(self, place: HarshPlace, host: SimulatedHost) -> None:
        self.is_well = False
        self._place = place
        self._host = host
        self._dice = place.world.rng(f"contact/{host.name}")
        self._is_found = False
        self._backoff_s = BACKOFF_FIRST_S
        self._next: Timer | None = None
        self._life = 0  # what was asked in an earlier one does not count

    def begin(self) -> None:
        """The daemon starts."""
        self._life += 1
        self.is_well = self._is_found = False
        self._backoff_s = BACKOFF_FIRST_S
        self._check()

    def end(self) -> None:
        """The daemon is no more."""
        self._life += 1
        self.is_well = False
        self._plan(None)

    def suspect(self) -> None:
        """The scheduler did not answer, or the connection broke: look soon."""
        self._is_found = False
        self._plan(ROUND_MIN_S)

    def announce(self, then: Callable[[bool], None]) -> None:
        """Say who this host is, and hear whether the scheduler took it."""
        place, host, life = self._place, self._host, self._life
        delay_s = place.wire.delay_s

        def answer(is_taken: bool) -> None:
            if life == self._life:
                then(is_taken)

        def arrive() -> None:
            if place.scheduler is None:
                place.world.after(delay_s, lambda: answer(False))
                return
            used = int(host.link.used * BITS) if host.told_up else 0
            said = replace(host.host, tx_bandwidth_bits_per_s=used)
            shares = place.scenario.seeds_share and host.is_seed and host.is_ours
            interval_s = place.scenario.announce_interval_s
            place.tell(HostAnnounced(host=said, interval_s=interval_s, shares_source=shares))
            place.world.after(delay_s, lambda: answer(True))

        if place.wire.joins(host.name, SCHEDULER):
            place.world.after(delay_s, arrive)
        else:
            place.world.after(CONNECT_S, lambda: answer(False))

    def _check(self) -> None:
        if self._host.alive and not self._place.is_closing:
            self._plan(None)
            self.announce(self._take)

    def _take(self, is_taken: bool) -> None:
        if is_taken:
            is_news = not self._is_found
            self.is_well = self._is_found = True
            self._backoff_s = BACKOFF_FIRST_S
            self._plan(self._place.scenario.announce_interval_s)
            if is_news:
                self._place.report_held(self._host)
        else:
            self.is_well = self._is_found = False
            self._plan(self._backoff_s * self._dice.uniform(0.75, 1.25))
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)

    def _plan(self, pause_s: float | None) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = None
        if pause_s is not None and self._host.alive and not self._place.is_closing:
            self._next = self._place.world.after(pause_s, self._check)


class HeldReport:
    """Tells the scheduler that a host holds a whole content, as `peer.runtime.held_report` does."""

    def __init__(self, place: HarshPlace, node: Node, task_id: str, peer_id: str) -> None:
        self.node = node
        self.task_id = task_id
        self.peer_id = peer_id
        self._stream: Stream = place.open_stream(self)

    def tell(self, download: Download) -> None:
        """Begin; `download` names the content."""
        length, piece_length = self.node.content_length, self.node.piece_length
        assert length is not None, "what is whole has a length"
        assert piece_length is not None, "and pieces"
        self._stream.say(
            Register(
                download=replace(
                    download,
                    metadata_only=True,
                    actual_content_length=length,
                    actual_piece_length=piece_length,
                    actual_piece_count=piece_count(length, piece_length),
                )
            )
        )

    def give(self, event: DownloadEvent) -> None:
        """Hear the scheduler's answer."""
        if isinstance(event, SchedulerAnswered):
            if isinstance(event.answer, MetadataOnly):
                self._stream.say(Started())
                self._stream.say(Finished())
            else:
                self._stream.say(Failed(description="only told what is held here"))
            self._stream.close()

    def stream_ended(self, reason: str) -> None:
        """It was not heard, or needs not be heard again."""
