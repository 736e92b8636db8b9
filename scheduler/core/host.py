"""A host the scheduler knows, with what was handed out on it.

It is announced, announces itself again and again, and is forgotten when it leaves or falls silent.
What it knows of a life cycle is its standing as a parent (`standing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from odonata.wire.message import Host
from scheduler.core.history import HostHistory, SwarmShare
from scheduler.core.honesty import Honesty
from scheduler.core.standing import Standing

if TYPE_CHECKING:
    from scheduler.core.graph import Booking
    from scheduler.core.peer import Peer
    from scheduler.core.shortlist import Standard


class Place(NamedTuple):
    """Where a host says it is: its data centre and its location, "" if it does not say."""

    idc: str
    location: str


NOWHERE = Place("", "")


@dataclass(slots=True, eq=False, kw_only=True)
class KnownHost:
    """A host and its load.

    `announced` is what the host said last. The counters sum the bookings of all edges that leave
    its peers; `upload_count` and `upload_failed_count` only ever grow. `history` is what it gave to
    others, `received` what it got from them; `swarm_share` is its part in the swarm's rate.
    `standing` is what it is worth as a parent. `shares_source`: it can fetch a part of a content.
    Of one that `is_lost` nobody hears any more, and nobody is sent to it (`contact`).
    `region` is the name of its data centre whatever its case, one string for all its peers.
    `reported_child_count`: children it had when it said `announced`. `row` is what rankers may know
    of it, packed at `row_at_s` (`facts`), None: it has changed since, `is_load_new`: its bookings
    have; `changes` counts how often either did. `log_rate_guess` is what it is thought to give by
    the standard `guessed_by`, None: to be guessed anew (`shortlist`).
    """

    announced: Host
    announce_interval_s: float
    created_at_s: float
    updated_at_s: float  # when anything was heard of it
    announced_at_s: float  # when it said `announced`
    shares_source: bool = False
    is_seed: bool = False
    place: Place = NOWHERE
    region: str = ""
    reported_child_count: int = 0
    row: bytes | None = None
    row_at_s: float = 0.0
    is_load_new: bool = False
    changes: int = 0
    log_rate_guess: float = 0.0
    guessed_by: Standard | None = None
    peers: dict[str, Peer] = field(default_factory=dict[str, "Peer"])
    is_unreachable: bool = (
        False  # a call to this seed failed, and it has not announced itself since
    )
    is_lost: bool = False
    holds_contact: bool = False  # it does, or did: what else is heard of it proves little
    failed_child_host_id: str = ""  # where a child failed at it last, and when
    failed_at_s: float = 0.0
    served_at_s: float = -1.0  # when somebody last told of a piece that it gave
    upload_count: int = 0
    upload_failed_count: int = 0
    concurrent_upload_count: int = 0
    concurrent_upload_piece_count: int = 0
    upload_content_length: int = 0
    booked_tx_bits_per_s: int = 0
    history: HostHistory = field(default_factory=HostHistory)
    received: HostHistory = field(default_factory=HostHistory)
    swarm_share: SwarmShare = field(default_factory=SwarmShare)
    standing: Standing = field(default_factory=Standing)
    honesty: Honesty = field(default_factory=Honesty)

    @property
    def id(self) -> str:
        return self.announced.id

    def changed(self) -> None:
        """Something in it has changed that is worth knowing to whoever chooses parents."""
        self.row = None
        self.changes += 1

    def announce(self, said: Host, interval_s: float, now: float) -> None:
        """Take over what the host says of itself."""
        self.announced = said
        self.is_seed = said.is_seed
        self.announce_interval_s = interval_s
        self.updated_at_s = self.announced_at_s = now
        self.is_unreachable = False
        self.reported_child_count = self.concurrent_upload_count
        self.guessed_by = None
        place = Place(said.idc, said.location)
        if place != self.place:
            self.place, self.region = place, said.idc.casefold()
        self.changed()

    def gave(self, now: float, length: int, cost_s: float) -> float:
        """It gave a piece to somebody; return the busy time that adds (see `HostHistory`)."""
        self.changed()
        self.guessed_by = None
        return self.history.served(now, length, cost_s)

    def failed(self, now: float) -> None:
        """It failed to give somebody a piece."""
        self.changed()
        self.history.failed(now)

    def book(self, booking: Booking) -> None:
        """Count one more child."""
        self.upload_count += 1
        self.concurrent_upload_count += 1
        self.concurrent_upload_piece_count += booking.piece_count
        self.upload_content_length += booking.content_length
        self.booked_tx_bits_per_s += booking.tx_bits_per_s
        self.is_load_new = True
        self.changes += 1

    def release(self, booking: Booking) -> None:
        """Count one child less."""
        self.concurrent_upload_count -= 1
        self.concurrent_upload_piece_count -= booking.piece_count
        self.upload_content_length -= booking.content_length
        self.booked_tx_bits_per_s -= booking.tx_bits_per_s
        self.is_load_new = True
        self.changes += 1
