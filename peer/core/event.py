"""What can happen to one download. Past tense; each is handed to `DownloadCore.handle` with `now`.

The driver (runtime or simulator) has carried out an effect of `peer.core.effect` before it reports
its outcome here. Pieces are named by number; sizes are bytes; rates bytes per second.
"""

from __future__ import annotations

from enum import StrEnum

from odonata.wire.message import ByteRange, Piece, SchedulerAnswer, SourceAnswer, Value


class FailureReason(StrEnum):
    """Why a piece did not arrive from a parent; decides whom to blame."""

    REFUSED = "refused"  # no free slot: go elsewhere, no blame
    GIVEN = "given"  # asked for exclusively, and given to somebody else: no blame
    NOT_FOUND = "not_found"  # the parent does not hold it
    DIGEST = "digest"  # the bytes are wrong: blame, never ask again
    LISTED_DIGEST = "listed_digest"  # not by its own word, but by the scheduler's: the same
    UNREACHABLE = "unreachable"  # connect failed or connection broke
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    CANCELLED = "cancelled"  # by CancelPiece: no blame
    BROKEN_OFF = "broken_off"  # the parent was passing it on, and does not get it: no blame


class Begun(Value, frozen=True, kw_only=True, tag=True):
    """First event. What storage already holds, and which world the download lives in.

    `content_length` None: unknown yet. `held` are finished piece numbers. `scheduler` False: there
    is none to ask; `lost_s` seconds ago there still was one (None: there never was). `needs_size`:
    the scheduler is not ours and must be told the size when a peer registers. `tells_digests`: it
    takes questions for digests (`proof`). `ahead_host_id`: a seed that this host has met, and that
    can be asked before the scheduler has answered; "": none.
    """

    content_length: int | None = None
    piece_length: int | None = None
    held: tuple[int, ...] = ()
    scheduler: bool = True
    lost_s: float | None = None
    needs_size: bool = False
    tells_digests: bool = False
    ahead_host_id: str = ""


class Wanted(Value, frozen=True, kw_only=True, tag=True):
    """Another reader joined: `range` None means the whole content.

    `disable_back_to_source`: for its sake the source is not to be asked; for others' it may be.
    """

    range: ByteRange | None = None
    disable_back_to_source: bool = False


class ReaderWaiting(Value, frozen=True, kw_only=True, tag=True):
    """A reader stands at piece `number` and waits; None: no reader waits any more."""

    number: int | None


class SchedulerAnswered(Value, frozen=True, kw_only=True, tag=True):
    answer: SchedulerAnswer


class SchedulerLost(Value, frozen=True, kw_only=True, tag=True):
    """The stream broke, was refused, or ended before a terminal message of ours.

    `refused`: the scheduler is there, and does not want this download.
    """

    reason: str
    refused: bool = False


class SchedulerFound(Value, frozen=True, kw_only=True, tag=True):
    """A scheduler answers that this download may register with: the answer to SeekScheduler."""

    needs_size: bool = False
    tells_digests: bool = False


class ParentConnected(Value, frozen=True, kw_only=True, tag=True):
    """A parent told what it knows of the task (StatLocalTask). None: it does not know yet."""

    peer_id: str
    content_length: int | None = None
    piece_length: int | None = None
    response_header: dict[str, str] = {}


class ParentHolds(Value, frozen=True, kw_only=True, tag=True):
    """A parent offers pieces (SyncPieces)."""

    peer_id: str
    pieces: tuple[Piece, ...]


class ParentReceives(Value, frozen=True, kw_only=True, tag=True):
    """A parent is being sent these itself, and passes on what has come of them (SyncPieces)."""

    peer_id: str
    pieces: tuple[Piece, ...]


class ParentEnded(Value, frozen=True, kw_only=True, tag=True):
    """The parent's list is over: it offered all it ever will (`finished`), or the stream broke."""

    peer_id: str
    finished: bool
    reason: str = ""


class ParentLoad(Value, frozen=True, kw_only=True, tag=True):
    """The parent's own word on its uplink (SyncHost)."""

    peer_id: str
    max_rate_bytes_per_s: float
    used_rate_bytes_per_s: float


class PieceStored(Value, frozen=True, kw_only=True, tag=True):
    """A piece came from `peer_id`, its digest was right, it is on disk and in the index.

    `began_s`: how many seconds ago its first byte came; `wait_s`: how long after it was asked for
    that was, the connection not counted: a round trip, and the wait in the parent's queue. None:
    nobody looked.
    """

    peer_id: str
    piece: Piece
    began_s: float | None = None
    wait_s: float | None = None


class PieceNotFetched(Value, frozen=True, kw_only=True, tag=True):
    """A fetch from `peer_id` failed. If because it is GIVEN: so are `given`."""

    peer_id: str
    number: int
    reason: FailureReason
    detail: str = ""
    given: tuple[int, ...] = ()


class PieceChecked(Value, frozen=True, kw_only=True, tag=True):
    """A held piece was read again and checked against what the scheduler told.

    If it was not right it is not held any more.
    """

    number: int
    is_right: bool


class WholeChecked(Value, frozen=True, kw_only=True, tag=True):
    """The whole content was checked; `reason`: why it is not what it should be, "" if it is."""

    reason: str = ""


class PieceProgress(Value, frozen=True, kw_only=True, tag=True):
    """How far a fetch is. `began_s`: how many seconds ago the parent began to send; None: not yet.

    Before that the piece waits in the parent's queue, for which nobody is to blame. `received`:
    bytes that have come.
    """

    peer_id: str
    number: int
    began_s: float | None = None
    received: int = 0


class SourceOpened(Value, frozen=True, kw_only=True, tag=True):
    """The source began to answer. `content_length` None: it will not say until the end.

    `ranges`: it honours Range, so parts can be asked for alone.
    """

    content_length: int | None
    ranges: bool
    response_header: dict[str, str] = {}


class SourcePieceStored(Value, frozen=True, kw_only=True, tag=True):
    piece: Piece


class SourceEnded(Value, frozen=True, kw_only=True, tag=True):
    """The run [first, last] asked for by FetchSource is complete.

    If the length was unknown, `content_length` now says.
    """

    first: int
    content_length: int | None = None


class SourceFailed(Value, frozen=True, kw_only=True, tag=True):
    """The run that began at `first` failed. `answer`: what the source said, if it said anything.

    `fatal`: trying again can't help (401, 403, 404, 410, disk full, ...).
    """

    first: int
    reason: str
    answer: SourceAnswer | None = None
    fatal: bool = False


class StorageFailed(Value, frozen=True, kw_only=True, tag=True):
    """A piece could not be kept (disk full, permissions): the download must end."""

    reason: str
    disk_full: bool = False


class Cancelled(Value, frozen=True, kw_only=True, tag=True):
    """Nobody wants it any more."""


class Ticked(Value, frozen=True, kw_only=True, tag=True):
    """Time passed: the answer to a WakeAt effect."""


ParentNews = ParentConnected | ParentHolds | ParentReceives | ParentEnded | ParentLoad
ParentEvent = ParentNews | PieceStored | PieceNotFetched | PieceProgress
SourceEvent = SourceOpened | SourcePieceStored | SourceEnded | SourceFailed
OtherEvent = (
    Begun
    | Wanted
    | ReaderWaiting
    | SchedulerAnswered
    | SchedulerLost
    | SchedulerFound
    | StorageFailed
    | Cancelled
    | Ticked
)
DownloadEvent = ParentEvent | SourceEvent | OtherEvent | PieceChecked | WholeChecked


def summary(event: DownloadEvent) -> str:
    """Name and who or what it is about, for stories; never a header, never a URL."""
    about = [
        f"{name}={getattr(event, name)}"
        for name in ("peer_id", "number", "first", "reason")
        if hasattr(event, name)
    ]
    return " ".join([type(event).__name__, *about])
