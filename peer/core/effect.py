"""What a download wants done. Imperative; the driver carries them out in order, without waiting."""

from __future__ import annotations

from enum import StrEnum

from odonata.errors import OdonataError
from odonata.wire.message import Parent, PeerMessage, Value


class CancelReason(StrEnum):
    """Why a transfer was stopped, for the record."""

    LATE = "late"  # it took too long: somebody else is asked, or the parent is past hope
    HEDGED = "hedged"  # another parent brought the piece first
    SOURCE = "source"  # the source brought it, or is about to
    TIMEOUT = "timeout"  # the driver owed an answer for too long
    BLAMED = "blamed"  # the parent did what no honest one does, by this piece or another
    FAILED = "failed"  # the parent failed too often
    DROPPED = "dropped"  # the parent is not needed any more
    ENDED = "ended"  # the download is over


class Send(Value, frozen=True, kw_only=True, tag=True):
    """Say `message` to the scheduler; a Register opens a new stream."""

    message: PeerMessage


class SeekScheduler(Value, frozen=True, kw_only=True, tag=True):
    """After `pause_s`, find a scheduler for the task that answers (answer: SchedulerFound).

    However long that takes: the core minds its own patience.
    """

    pause_s: float


class CloseStream(Value, frozen=True, kw_only=True, tag=True):
    """Nothing more will be said: wait (bounded) for the scheduler to end the stream."""


class ConnectParent(Value, frozen=True, kw_only=True, tag=True):
    """Ask the parent what it knows, follow its pieces and its load.

    On the wire: StatLocalTask, SyncPieces, SyncHost. `interested` empty: every piece (used
    while the length is unknown). Answers: ParentConnected or ParentEnded. A parent that was dropped
    may be connected anew.
    """

    parent: Parent
    interested: tuple[int, ...] = ()


class AskAhead(Value, frozen=True, kw_only=True, tag=True):
    """Ask the seed on this host for the piece and the facts of a short content (no answer).

    Its scheduler has not named any parent yet. If that seed becomes one, and its piece is fetched
    early, both are on their way by then, or there.
    """

    host_id: str


class AskParentMeta(Value, frozen=True, kw_only=True, tag=True):
    """Ask a connected parent again for length and headers (answer: ParentConnected)."""

    peer_id: str


class DropParent(Value, frozen=True, kw_only=True, tag=True):
    """Forget the parent: end its streams, cancel what is in flight from it (no answer)."""

    peer_id: str
    reason: str = ""
    """A `CancelReason`, of what was in flight."""


class FetchPiece(Value, frozen=True, kw_only=True, tag=True):
    """Fetch one piece from a connected parent (answer: PieceStored or PieceNotFetched).

    `offset` and `length` are None while unknown; then the parent's own metadata is trusted.
    """

    peer_id: str
    number: int
    offset: int | None = None
    length: int | None = None
    timeout_s: float = 60.0
    decision: int = 0
    """The latest answer with parents (counted from 1) that named this parent."""
    concurrency: int = 0
    """Pieces in flight from parents, this one included."""
    is_patient: bool = True
    """Whether to wait at the parent for a slot; if not, to be refused is better."""
    is_exclusive: bool = False
    """To hear that the parent is giving it to somebody else is better than a second copy of it."""
    is_passed_on: bool = False
    """The parent is being sent it, too, and passes on what has come of it so far."""
    is_told: bool = True
    """Our own children hear of it while it comes."""
    is_early: bool = False
    """The parent has not listed it yet, and `length` is what the scheduler says. Where it serves
    its pieces is remembered, or comes with its list; nothing is stored before LearnMeta."""


class AskProgress(Value, frozen=True, kw_only=True, tag=True):
    """Say how far the fetch of `number` from `peer_id` is (answer: PieceProgress, at once).

    None if it has ended: then its own answer is on its way.
    """

    peer_id: str
    number: int


class CancelPiece(Value, frozen=True, kw_only=True, tag=True):
    """Stop fetching `number` from `peer_id` (answer: PieceNotFetched with CANCELLED)."""

    peer_id: str
    number: int
    reason: str = ""
    """A `CancelReason`."""


class OpenSource(Value, frozen=True, kw_only=True, tag=True):
    """Ask the source for everything from piece `first` on, but read nothing beyond the head yet.

    Answer: SourceOpened, then it waits for FetchSource with the same `first`; or SourceFailed.
    `offset` and `end`: the bytes to ask for instead, where the caller knows what is not learned
    yet, the length of a piece.
    """

    first: int = 0
    offset: int | None = None
    end: int | None = None


class FetchSource(Value, frozen=True, kw_only=True, tag=True):
    """Fetch pieces `first`..`last` (inclusive; None: to the end) from the source in one request.

    Continues an OpenSource of the same `first` if one is open. Answers: SourceOpened (if it was not
    open), SourcePieceStored for each piece in order, then SourceEnded or SourceFailed.
    Pieces listed in `skip` are held already: read past them, do not store them again.
    A source that ignores Range begins at byte 0: report SourceOpened with `ranges` False first and
    wait for what comes of it (the run may be stopped for one that begins at 0).
    """

    first: int
    last: int | None = None
    skip: tuple[int, ...] = ()


class StopSource(Value, frozen=True, kw_only=True, tag=True):
    """Stop the run that began at `first` (no answer)."""

    first: int


class LearnDigests(Value, frozen=True, kw_only=True, tag=True):
    """Check these pieces against these strong digests from now on; empty bytes: no more."""

    digests: dict[int, bytes]


class CheckPiece(Value, frozen=True, kw_only=True, tag=True):
    """Read a held piece again, and forget it if it is not what was told (answer: PieceChecked)."""

    number: int


class CheckWhole(Value, frozen=True, kw_only=True, tag=True):
    """Check the whole content, which is held, against all of these (answer: WholeChecked)."""

    digests: tuple[str, ...]


class LearnMeta(Value, frozen=True, kw_only=True, tag=True):
    """The content is known now: make room for it, tell the readers. None: still unknown length."""

    content_length: int | None
    piece_length: int
    response_header: dict[str, str] = {}


class Complete(Value, frozen=True, kw_only=True, tag=True):
    """Everything wanted is held. `whole`: the entire content is, so the task is finished."""

    whole: bool


class GiveUp(Value, frozen=True, kw_only=True, tag=True):
    """The download failed for good; readers get `error`."""

    error: OdonataError


class WakeAt(Value, frozen=True, kw_only=True, tag=True):
    """Hand in `Ticked` at `at_s` (same clock as `now`). A later WakeAt replaces an earlier one."""

    at_s: float


DownloadEffect = (
    Send
    | CloseStream
    | SeekScheduler
    | AskAhead
    | ConnectParent
    | AskParentMeta
    | DropParent
    | FetchPiece
    | AskProgress
    | CancelPiece
    | OpenSource
    | FetchSource
    | StopSource
    | LearnDigests
    | CheckPiece
    | CheckWhole
    | LearnMeta
    | Complete
    | GiveUp
    | WakeAt
)
