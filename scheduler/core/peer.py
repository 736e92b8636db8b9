"""One peer: a download of one task on one host, as the scheduler sees it.

The entity holds facts and moves along its life cycle. Who may be whose parent, and what a
transition means for others, is decided elsewhere (`candidate`, `state`).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odonata.wire.message import ByteRange, Download
from scheduler.core.finished_pieces import FinishedPieces
from scheduler.core.lifecycle import PeerState, PeerTrigger, next_peer_state

if TYPE_CHECKING:
    from scheduler.core.account import Account
    from scheduler.core.cost import CostWindow
    from scheduler.core.host import KnownHost
    from scheduler.core.task import Task

UNKNOWN_RANGE = ByteRange(start=0, length=0)
"""Some part of the content, we can't tell which: good for nobody, served only by whole copies."""

_CLOSED_RANGE = re.compile(
    r"\s*bytes\s*=\s*(\d{1,18})\s*-\s*(\d{1,18})\s*", re.ASCII | re.IGNORECASE
)


@dataclass(slots=True, eq=False, kw_only=True)
class Peer:
    """A peer and what it reported.

    `serial` tells lives apart that share an id. `blocked` maps parents this child must not be
    given to the serial they were blocked under. `range` None: the whole content. `content_end` is
    where the farthest of its pieces ends, in bytes. `is_ours`: it takes answers it did not ask for.
    `resumes`: it had another scheduler for this download, or this one before a restart.
    In this life it got `decision_count` answers with parents and was sent to the source
    `source_count` times. `account` is kept of peers that don't write telemetry themselves.
    """

    id: str
    serial: int
    task: Task
    host: KnownHost
    download: Download
    range: ByteRange | None
    concurrent_piece_count: int
    costs: CostWindow
    history: deque[str]
    created_at_s: float
    updated_at_s: float
    piece_at_s: float  # when the latest piece arrived; at first, when the peer came
    state: PeerState = PeerState.PENDING
    stream_is_open: bool = True
    source_refused: bool = False  # the source answered this peer with an error
    pieces: FinishedPieces = field(default_factory=FinishedPieces)
    content_end: int = 0
    blocked: dict[str, int] = field(default_factory=dict[str, int])
    is_ours: bool = False
    resumes: bool = False
    is_asking: bool = True  # whether it asked for the answer that it waits for
    decision_count: int = 0
    source_count: int = 0
    account: Account | None = None

    def move(self, trigger: PeerTrigger, now: float) -> None:
        """Take `trigger`; IllegalTransitionError tells the story if there is no such step."""
        target = next_peer_state(self.state, trigger, self.story())
        self.history.append(f"{now:.3f} s {trigger}: {self.state} -> {target}")
        self.state = target
        self.updated_at_s = now

    def story(self) -> str:
        """Tell this peer's latest transitions in one line."""
        steps = "; ".join(self.history) or "nothing yet"
        return f"peer {self.id} of task {self.task.id} on host {self.host.id}: {steps}"

    def blocks(self, parent: Peer) -> bool:
        """Whether `parent` failed this child in its present life, and must not be named to it."""
        return self.blocked.get(parent.id) == parent.serial

    def block(self, parent: Peer, limit: int) -> None:
        """Never name `parent` to this child again; of more than `limit` the oldest is forgotten."""
        self.blocked.pop(parent.id, None)
        self.blocked[parent.id] = parent.serial
        if len(self.blocked) > limit:
            del self.blocked[next(iter(self.blocked))]


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
