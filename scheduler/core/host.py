"""A host the scheduler knows, with what was handed out on it.

It is announced, announces itself again and again, and is forgotten when it leaves or falls silent.
What it knows of a life cycle is its standing as a parent (`standing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odonata.wire.message import Host
from scheduler.core.history import HostHistory, SwarmShare
from scheduler.core.standing import Standing

if TYPE_CHECKING:
    from scheduler.core.graph import Booking
    from scheduler.core.peer import Peer


@dataclass(slots=True, eq=False, kw_only=True)
class KnownHost:
    """A host and its load.

    `announced` is what the host said last. The counters sum the bookings of all edges that leave
    its peers; `upload_count` and `upload_failed_count` only ever grow. `history` is what it gave to
    others, `received` what it got from them; `swarm_share` is its part in the swarm's rate.
    `standing` is what it is worth as a parent. Of one that `is_lost` nobody hears any more, and
    nobody is sent to it (`contact`).
    """

    announced: Host
    announce_interval_s: float
    created_at_s: float
    updated_at_s: float  # when anything was heard of it
    announced_at_s: float  # when it said `announced`
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

    @property
    def id(self) -> str:
        return self.announced.id

    @property
    def is_seed(self) -> bool:
        return self.announced.is_seed

    def book(self, booking: Booking) -> None:
        """Count one more child."""
        self.upload_count += 1
        self.concurrent_upload_count += 1
        self.concurrent_upload_piece_count += booking.piece_count
        self.upload_content_length += booking.content_length
        self.booked_tx_bits_per_s += booking.tx_bits_per_s

    def release(self, booking: Booking) -> None:
        """Count one child less."""
        self.concurrent_upload_count -= 1
        self.concurrent_upload_piece_count -= booking.piece_count
        self.upload_content_length -= booking.content_length
        self.booked_tx_bits_per_s -= booking.tx_bits_per_s
