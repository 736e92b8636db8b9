"""A simulated host: what it holds, who follows its pieces, and its upload slots. No decisions.

It stands in for a daemon's storage, its piece server and its SyncPieces and StatLocalTask services.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from odonata.errors import InternalError
from odonata.wire.message import Host, Piece
from peer.core.event import ParentConnected, ParentEnded, ParentHolds, ParentLoad
from peer.core.upload import UploadQueue
from simulator.network import Link
from simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer.core.event import DownloadEvent

LOAD_INTERVAL_S = 1.0
"""How often a parent tells its load, as Dragonfly's SyncHost does..."""

LOAD_CHANGE = 0.02
"""...in a simulation only if it differs by more than this share of the uplink from what was told
last: most tellings of a busy swarm repeat each other, and they are two thirds of all events."""

LOAD_SILENCE_S = 10.0
"""But at least so often, lest a parent be thought dead (`stall_timeout_s` of peer.core.limits)."""

RIGHT_DIGEST = "crc32:1"
WRONG_DIGEST = "crc32:666"


@dataclass(slots=True, eq=False)
class Follower:
    """A child's stream to this host. `give` hands an event to the child."""

    parent_id: str
    give: Callable[[DownloadEvent], None]
    is_open: bool = True
    told_used: float = -inf  # bytes per second
    told_at_s: float = -inf


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
    slots: int
    delay_s: float
    told_up: float = 0.0
    """Bytes per second it says its uplink is; 0: it does not say."""
    lies: bool = False
    alive: bool = True
    learned: bool = False
    active: bool = False  # a download is going on
    dies_with: int = 0  # pieces held
    on_crash: Callable[[], None] | None = None
    content_length: int | None = None
    piece_length: int | None = None
    held: dict[int, Piece] = field(default_factory=dict[int, Piece])
    uploads: dict[int, Upload] = field(default_factory=dict[int, "Upload"])
    _followers: list[Follower] = field(default_factory=list[Follower])

    def __post_init__(self) -> None:
        self._queue = UploadQueue(self.slots)

    @property
    def name(self) -> str:
        return self.host.hostname

    @property
    def knows_task(self) -> bool:
        """Something could be said of the content: a download goes on, or pieces are held."""
        return self.active or bool(self.held)

    @property
    def whole(self) -> bool:
        """Everything is held."""
        if self.content_length is None or self.piece_length is None:
            return False
        return len(self.held) * self.piece_length >= self.content_length

    # --- uploads --------------------------------------------------------------------------------

    def ask(self, number: int, upload: Upload) -> int | None:
        """A child asks for a piece; its ticket, or None if it is refused."""
        ticket = self._queue.ask(number, self.world.now)
        if ticket is not None:
            self.uploads[ticket] = upload
            if self._queue.goes(ticket):
                upload.go()
        return ticket

    def leave(self, ticket: int) -> None:
        """An upload is over, or is not wanted any more: the next one may go."""
        if self.uploads.pop(ticket, None) is None:
            return
        following = self._queue.leave(ticket, self.world.now)
        if following is not None and self.alive:
            self.uploads[following].go()

    # --- pieces and those who follow them -------------------------------------------------------

    def learn(self, content_length: int | None, piece_length: int) -> None:
        self.learned = True
        self.content_length, self.piece_length = content_length, piece_length

    def store(self, piece: Piece) -> None:
        """Keep a piece and tell everybody who follows."""
        if piece.number in self.held or piece.digest != RIGHT_DIGEST:
            raise InternalError(f"{self.name} must not store {piece}: held, or of a wrong digest")
        self.held[piece.number] = piece
        if self.on_crash is not None and len(self.held) >= self.dies_with:
            self.world.after(0.0, self.on_crash)
        for follower in self._open_followers():
            holds = ParentHolds(peer_id=follower.parent_id, pieces=(piece,))
            self._tell(follower, holds)

    def follow(self, follower: Follower) -> None:
        """A child opened its streams."""
        if not self.alive or not self.knows_task:
            reason = "unknown task" if self.alive else "connection refused"
            ended = ParentEnded(peer_id=follower.parent_id, finished=False, reason=reason)
            self._tell(follower, ended)
            follower.is_open = False
            return
        self._followers.append(follower)
        self._tell(follower, self.facts(follower.parent_id))
        self._tell_load(follower)
        if self.held:
            pieces = tuple(self.held[number] for number in sorted(self.held))
            self._tell(follower, ParentHolds(peer_id=follower.parent_id, pieces=pieces))
        if not self.active:
            self.end_lists(finished=True)

    def facts(self, parent_id: str) -> ParentConnected:
        """What StatLocalTask says."""
        if not self.learned:
            return ParentConnected(peer_id=parent_id)
        return ParentConnected(
            peer_id=parent_id,
            content_length=self.content_length,
            piece_length=self.piece_length,
        )

    def end_lists(self, *, finished: bool, reason: str = "") -> None:
        """Nothing more will be offered."""
        for follower in self._open_followers():
            ended = ParentEnded(peer_id=follower.parent_id, finished=finished, reason=reason)
            self._tell(follower, ended)
            follower.is_open = False
        self._followers.clear()

    def die(self) -> None:
        """A crash: streams break, transfers stop."""
        self.alive = self.active = False
        self.end_lists(finished=False, reason="connection reset")
        for upload in list(self.uploads.values()):
            upload.broke()
        self.uploads.clear()

    def _open_followers(self) -> list[Follower]:
        self._followers = [follower for follower in self._followers if follower.is_open]
        return self._followers

    def _tell(self, follower: Follower, event: DownloadEvent) -> None:
        self.world.after(self.delay_s, lambda: follower.give(event))

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
        self.world.after(LOAD_INTERVAL_S, lambda: self._tell_load(follower))
