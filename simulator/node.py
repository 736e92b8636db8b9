"""A simulated host: what it holds, who follows its pieces, and its upload slots. No decisions.

It stands in for a daemon's storage, its piece server and its SyncPieces and StatLocalTask services.
Of a piece's bytes only their digests are kept: those of what really came, right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.errors import InternalError
from odonata.piece import piece_at, piece_count
from odonata.wire.message import Host, Piece
from peer.core.budget import Budget
from peer.core.event import ParentConnected, ParentEnded, ParentHolds, ParentLoad, ParentReceives
from peer.core.limits import DownloadLimits
from peer.core.patience import load_pauses_s
from peer.core.upload import WAITING_MAX, UploadQueue
from simulator.clock import Clock
from simulator.network import Link
from simulator.wire import Wire
from simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peer.core.effect import FetchPiece
    from peer.core.event import DownloadEvent

Lie = Literal["digest", "forgery", "pieces", "length"]
"""What a liar does: send bytes that are not what it says, or that are, but not what the source has;
offer pieces that it does not hold, or say a length that the content has not."""

UploadTrouble = Literal["cut", "corrupt", "stall", "refuse"]
"""What becomes of uploads: the connection breaks in the middle, bytes change on the way, nothing
comes any more, or nobody gets a slot."""

LOAD_INTERVAL_S = 1.0
"""How often a parent tells its load, as Dragonfly's SyncHost does..."""

LOAD_CHANGE = 0.02
"""...in a simulation the first few times, in quick succession, only if it differs by more than this
share of the uplink from what was told last..."""

LOAD_SILENCE_S = 0.75 * LOAD_INTERVAL_S
"""...but each interval all the same: children count on it (`peer.core.patience`)."""

WRONG_DIGEST = "crc32:wrong"
FORGED = b"forged".ljust(STRONG_DIGEST_BYTES)
"""The strong digest of bytes that somebody made up to fit the CRC-32 of the right ones."""


def right_digest(number: int) -> str:
    """Of the bytes that piece `number` has at the source."""
    return f"crc32:{number}"


def strong_digest(number: int) -> bytes:
    """The strong one of the bytes that piece `number` has at the source."""
    return b"right" + number.to_bytes(STRONG_DIGEST_BYTES - 5)


@dataclass(slots=True, eq=False)
class Follower:
    """A child's stream to this host. `give` hands an event to the child, whose host is `child`."""

    parent_id: str
    child: str
    give: Callable[[DownloadEvent], None]
    is_open: bool = True
    told_used: float = -inf  # bytes per second
    told_at_s: float = -inf
    pauses_s: Iterator[float] = field(default_factory=lambda: repeat(LOAD_INTERVAL_S))
    """Until the load is told next."""


class Reception(Protocol):
    """A piece on its way to this host."""

    effect: FetchPiece
    followers: dict[Any, None]
    """To whom it is passed on."""

    @property
    def received(self) -> int:
        """Bytes that have left its parent."""
        ...

    @property
    def piece(self) -> Piece | None:
        """What its parent says of it, None before it begins."""
        ...


class Upload(Protocol):
    """A child's request at this host."""

    def go(self) -> None:
        """It has a slot."""
        ...

    def broke(self) -> None:
        """The host died."""
        ...


@dataclass(eq=False)
class Node:
    """One host with one content."""

    world: World
    host: Host
    link: Link
    wire: Wire
    clock: Clock
    slots: int
    limits: DownloadLimits
    """Of its downloads."""
    budget: Budget = field(default_factory=Budget)
    waiting_max: int = WAITING_MAX
    is_ours: bool = True
    told_up: float = 0.0
    """Bytes per second it says its uplink is; 0: it does not say."""
    lie: Lie | None = None
    trouble: UploadTrouble | None = None
    """Of its uploads, just now."""
    room: float = inf
    """Pieces that fit on its disk."""
    alive: bool = True
    learned: bool = False
    active: bool = False  # a download is going on
    dies_with: int = 0  # pieces held
    on_crash: Callable[[], None] | None = None
    content_length: int | None = None
    piece_length: int | None = None
    held: dict[int, Piece] = field(default_factory=dict[int, Piece])
    listed: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Strong digests that the scheduler told."""
    content: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Strong digests of the bytes that are really held."""
    uploads: dict[int, Upload] = field(default_factory=dict[int, "Upload"])
    receptions: dict[int, Reception] = field(default_factory=dict[int, "Reception"])
    """Pieces on their way here that it would pass on."""
    _followers: list[Follower] = field(default_factory=list[Follower])

    def __post_init__(self) -> None:
        self._queue = UploadQueue(self.slots, waiting_max=self.waiting_max)

    @property
    def name(self) -> str:
        return self.host.hostname

    @property
    def delay_s(self) -> float:
        """One way, to anybody."""
        return self.wire.delay_s

    @property
    def knows_task(self) -> bool:
        """Something could be said of the content: a download goes on, or it is held, if empty."""
        return self.active or bool(self.held) or self.whole

    @property
    def whole(self) -> bool:
        """Everything is held."""
        if self.content_length is None or self.piece_length is None:
            return False
        return len(self.held) * self.piece_length >= self.content_length

    # --- uploads --------------------------------------------------------------------------------

    def given(self, number: int, child: str) -> tuple[int, ...]:
        """What is given to others than `child`; nothing if `number` is not among it."""
        pieces = self._queue.given(number, child, self.world.now)
        return tuple(piece for piece in pieces if isinstance(piece, int))

    def ask(
        self, number: int, upload: Upload, *, child: str = "", is_patient: bool = True
    ) -> int | None:
        """A child asks for a piece; its ticket, or None if it is refused."""
        if self.trouble == "refuse":
            return None
        ticket = self._queue.ask(number, self.world.now, child=child, is_patient=is_patient)
        if ticket is not None:
            self.uploads[ticket] = upload
            if self._queue.goes(ticket):
                upload.go()
        return ticket

    def leave(self, ticket: int, *, is_whole: bool) -> None:
        """An upload is over, or is not wanted any more (not `is_whole`): the next one may go."""
        if self.uploads.pop(ticket, None) is None:
            return
        following = self._queue.leave(ticket, self.world.now, is_whole=is_whole)
        if following is not None and self.alive:
            self.uploads[following].go()

    # --- pieces and those who follow them -------------------------------------------------------

    def learn(self, content_length: int | None, piece_length: int) -> None:
        self.learned = True
        self.content_length, self.piece_length = content_length, piece_length

    def store(self, piece: Piece, content: bytes) -> None:
        """Keep a piece, whose digest is that of its bytes, and tell everybody who follows.

        `content`: their strong digest, whether anybody here looked at it or not.
        """
        if piece.number in self.held:
            raise InternalError(f"{self.name} must not store {piece}: it holds it already")
        self.held[piece.number] = piece
        self.content[piece.number] = content
        if self.on_crash is not None and len(self.held) >= self.dies_with:
            self.world.after(0.0, self.on_crash)
        for follower in self._open_followers():
            holds = ParentHolds(peer_id=follower.parent_id, pieces=(piece,))
            self._tell(follower, holds)

    def receives(self, reception: Reception) -> None:
        """A piece has been coming for a while: everybody who follows may have what comes of it."""
        piece = reception.piece
        if piece is None or not self.is_ours or piece.number in self.receptions:
            return
        if not reception.effect.is_told:
            return
        self.receptions[piece.number] = reception
        for follower in self._open_followers():
            self._tell(follower, ParentReceives(peer_id=follower.parent_id, pieces=(piece,)))

    def receives_no_more(self, reception: Reception) -> None:
        """It is here, or does not come."""
        number = reception.effect.number
        if self.receptions.get(number) is reception:
            del self.receptions[number]

    def pass_on(self, number: int) -> bool:
        """One more child may have this piece while it comes."""
        return self.trouble != "refuse" and self._queue.pass_on(number)

    def passed_on(self, number: int) -> None:
        """It has gone out to one of them, or does not go any more."""
        self._queue.passed_on(number)

    def is_listed_wrong(self, number: int) -> bool:
        """It holds other bytes than the scheduler told it that the source sends."""
        listed = self.listed.get(number)
        return number in self.held and listed is not None and self.content[number] != listed

    def forget(self, number: int) -> None:
        """Its bytes were wrong."""
        del self.held[number], self.content[number]

    def follow(self, follower: Follower) -> None:
        """A child opened its streams."""
        if not self.alive or not self.knows_task:
            reason = "unknown task" if self.alive else "connection refused"
            ended = ParentEnded(peer_id=follower.parent_id, finished=False, reason=reason)
            self._tell(follower, ended)
            follower.is_open = False
            return
        self._followers.append(follower)
        if self.is_ours:
            follower.pauses_s = load_pauses_s(LOAD_INTERVAL_S)
        self._tell(follower, self.facts(follower.parent_id))
        self._tell_load(follower)
        pieces = self._offers()
        if pieces:
            self._tell(follower, ParentHolds(peer_id=follower.parent_id, pieces=pieces))
        coming = tuple(piece for one in self.receptions.values() if (piece := one.piece))
        if coming:
            self._tell(follower, ParentReceives(peer_id=follower.parent_id, pieces=coming))
        if not self.active:
            self.end_lists(finished=True)

    def _offers(self) -> tuple[Piece, ...]:
        if self.lie != "pieces" or self.content_length is None or self.piece_length is None:
            return tuple(self.held[number] for number in sorted(self.held))
        length = self.piece_length
        places = (
            (number, *piece_at(number, self.content_length, length))
            for number in range(piece_count(self.content_length, length))
        )
        return tuple(Piece(number=n, offset=offset, length=size) for n, offset, size in places)

    def tell_facts(self, follower: Follower) -> None:
        """Answer a child's StatLocalTask, if there is anything to say."""
        if self.alive and self.knows_task:
            self._tell(follower, self.facts(follower.parent_id))

    def facts(self, parent_id: str) -> ParentConnected:
        """What StatLocalTask says."""
        if not self.learned:
            return ParentConnected(peer_id=parent_id)
        length = self.content_length
        if self.lie == "length" and length is not None and self.piece_length is not None:
            length += self.piece_length
        return ParentConnected(
            peer_id=parent_id, content_length=length, piece_length=self.piece_length
        )

    def end_lists(self, *, finished: bool, reason: str = "") -> None:
        """Nothing more will be offered. Who was told all goes on to hear of the load."""
        for follower in self._open_followers():
            ended = ParentEnded(peer_id=follower.parent_id, finished=finished, reason=reason)
            self._tell(follower, ended)
            follower.is_open = finished
        self._followers.clear()

    def die(self, *, silently: bool = False) -> None:
        """A crash: streams break, transfers stop. `silently`: nobody is told, they just hang."""
        self.alive = self.active = False
        if silently:
            return
        self.end_lists(finished=False, reason="connection reset")
        for upload in list(self.uploads.values()):
            upload.broke()
        self.uploads.clear()
        self.receptions.clear()

    def revive(self, *, keeps_data: bool) -> None:
        """The host is back, as a new process: old streams and transfers are reset."""
        if not self.alive:
            self.die()
        self.alive = True
        self._queue = UploadQueue(self.slots, waiting_max=self.waiting_max)
        self.listed.clear()
        self.budget = Budget()
        if not keeps_data:
            self.held.clear()
            self.content.clear()
            self.learned, self.content_length, self.piece_length = False, None, None

    def _open_followers(self) -> list[Follower]:
        self._followers = [follower for follower in self._followers if follower.is_open]
        return self._followers

    def _tell(self, follower: Follower, event: DownloadEvent) -> None:
        self.wire.carry(self.name, follower.child, lambda: follower.give(event))

    def _tell_load(self, follower: Follower) -> None:
        if not follower.is_open or not self.alive:
            return
        now, used = self.world.now, self.link.used
        changed = abs(used - follower.told_used) > LOAD_CHANGE * self.link.up
        if changed or now - follower.told_at_s >= LOAD_SILENCE_S:
            follower.told_used, follower.told_at_s = used, now
            load = ParentLoad(
                peer_id=follower.parent_id,
                max_rate_bytes_per_s=self.told_up,
                used_rate_bytes_per_s=used,
            )
            self._tell(follower, load)
        self.world.after(next(follower.pauses_s), lambda: self._tell_load(follower))
