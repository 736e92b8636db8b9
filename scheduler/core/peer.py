"""One peer: a download of one task on one host, as the scheduler sees it.

The entity holds facts and moves along its life cycle. Who may be whose parent, and what a
transition means for others, is decided elsewhere (`candidate`, `state`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from odonata.wire.message import ByteRange, Download, FarShare
from scheduler.core.credentials import joined
from scheduler.core.finished_pieces import FinishedPieces
from scheduler.core.lifecycle import PEER_TRANSITIONS, PeerState, PeerTrigger, next_peer_state
from scheduler.core.steps import told, with_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.core.account import Account
    from scheduler.core.cost import CostWindow
    from scheduler.core.credentials import Credentials
    from scheduler.core.host import KnownHost
    from scheduler.core.shortlist import Listing
    from scheduler.core.task import Task

UNKNOWN_RANGE = ByteRange(start=0, length=0)
"""Some part of the content, we can't tell which: good for nobody, served only by whole copies."""

NOBODY: Mapping[str, int] = MappingProxyType({})
"""Blocked by those who block nobody, as most do: one for all."""

_CLOSED_RANGE = re.compile(
    r"\s*bytes\s*=\s*(\d{1,18})\s*-\s*(\d{1,18})\s*", re.ASCII | re.IGNORECASE
)


@dataclass(slots=True, eq=False, kw_only=True)
class Peer:
    """A peer and what it reported.

    `download` is what it wants, without the `credentials`; the peers of a task share it (`task`).
    `serial` tells lives apart that share an id. `blocked` maps parents this child must not be
    given to the serial they were blocked under. `range` None: the whole content. `content_end` is
    where the farthest of its pieces ends, in bytes. `is_ours`: it takes answers it did not ask for,
    and leaves parents that an answer does not name. `is_source` and `supplier` are `supply`'s.
    `review_at_s`: when its parents are looked at anew (`rota`), None: not at all; `arrivals_seen`:
    the task's `arrival_count` when they last were. `resumes`: it had another scheduler for this
    download, or this one before a restart.
    In this life it got `decision_count` answers with parents and was sent to the source
    `source_count` times. `account` is kept of peers that don't write telemetry themselves.
    `digests_told`: up to which change it was told strong digests (`proof`), None: it takes none.
    `far_share`: its part as a gateway, as it was told; told only if it `shares_far` (`gateway`).
    `named_at_turn` is the number of the latest edge to a child, among all edges that the scheduler
    ever made. `row` is what rankers may know of it, packed (`facts`), None: it has changed since;
    `changes` counts how often it did, and `listing` is its place in its task's shortlist.
    """

    id: str
    serial: int
    task: Task
    host: KnownHost
    download: Download
    range: ByteRange | None
    concurrent_piece_count: int
    costs: CostWindow
    created_at_s: float
    updated_at_s: float
    piece_at_s: float  # when the latest piece arrived; at first, when the peer came
    state: PeerState = PeerState.PENDING
    steps: bytes = b""
    stream_is_open: bool = True
    source_refused: bool = False  # the source answered this peer with an error
    pieces: FinishedPieces = field(default_factory=FinishedPieces)
    content_end: int = 0
    blocked: Mapping[str, int] = field(default_factory=lambda: NOBODY)
    credentials: Credentials | None = None
    is_ours: bool = False
    is_source: bool = False
    supplier: Peer | None = None
    review_at_s: float | None = None
    arrivals_seen: int = 0
    resumes: bool = False
    is_asking: bool = True  # whether it asked for the answer that it waits for
    decision_count: int = 0
    source_count: int = 0
    account: Account | None = None
    digests_told: int | None = None
    shares_far: bool = False
    far_share: FarShare | None = None
    named_at_turn: int = 0
    row: bytes | None = None
    changes: int = 0
    listing: Listing | None = None

    def changed(self) -> None:
        """Something in it has changed that is worth knowing to whoever chooses parents."""
        self.row = None
        self.changes += 1

    def got_piece(self, number: int, end: int, cost_s: float | None, now: float) -> None:
        """Piece `number`, which ends at byte `end` of the content, arrived and took `cost_s`.

        None: it was on this host's disk already.
        """
        self.pieces.add(number)
        self.content_end = max(self.content_end, end)
        if cost_s is not None:
            self.costs.append(cost_s)
        self.updated_at_s = self.piece_at_s = now
        self.changed()

    def move(self, trigger: PeerTrigger, now: float) -> None:
        """Take `trigger`; IllegalTransitionError tells the story if there is no such step."""
        target = PEER_TRANSITIONS.get((self.state, trigger))
        if target is None:
            next_peer_state(self.state, trigger, self.story())  # raises
            return
        self.steps = with_step(self.steps, now, trigger, self.state, target)
        self.state = target
        self.updated_at_s = now
        self.changed()

    def wanted(self) -> Download:
        """Return what it asked for, with its credentials as long as it has not ended."""
        return joined(self.download, self.credentials)

    def story(self) -> str:
        """Tell this peer's latest transitions in one line."""
        where = f"peer {self.id} of task {self.task.id} on host {self.host.id}"
        return f"{where}: {told(self.steps)}"

    def blocks(self, parent: Peer) -> bool:
        """Whether `parent` failed this child in its present life, and must not be named to it."""
        return self.blocked.get(parent.id) == parent.serial

    def block(self, parent: Peer, limit: int) -> None:
        """Never name `parent` to this child again; of more than `limit` the oldest is forgotten."""
        blocked = dict(self.blocked)
        blocked.pop(parent.id, None)
        blocked[parent.id] = parent.serial
        if len(blocked) > limit:
            del blocked[next(iter(blocked))]
        self.blocked = blocked


def covers(held: ByteRange | None, wanted: ByteRange | None) -> bool:
    """Whether a peer that fetches `held` will have all of `wanted`; None is the whole content."""
    if held is None:
        return True
    if wanted is None or held.length == 0 or wanted.length == 0:
        return False
    return held.start <= wanted.start and wanted.start + wanted.length <= held.start + held.length


def requested_range(download: Download) -> ByteRange | None:
    """Return which part of the content a download is after; None is all of it.

    A client may say it in `range` or leave it in the request's Range header, of which only the
    plain form `bytes=FIRST-LAST` names a part that can be compared with others.
    """
    if download.range is not None:
        return download.range
    header = range_header(download.request_header)
    if header is None:
        return None
    match = _CLOSED_RANGE.fullmatch(header)
    if match is None or int(match[2]) < int(match[1]):
        return UNKNOWN_RANGE
    return ByteRange(start=int(match[1]), length=int(match[2]) - int(match[1]) + 1)


def range_header(headers: dict[str, str]) -> str | None:
    """Return the value of the Range header, whatever the case of its name."""
    return next((value for name, value in headers.items() if name.lower() == "range"), None)
