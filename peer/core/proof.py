"""What of a download is proved, and what must still be before it may be called whole.

Theory of operation
===================

A parent's own word on its bytes, the CRC-32 beside each piece, keeps accidents out and no liar. The
scheduler knows better: whoever had a piece from the source has told it a strong digest. Our peers
have the list from the scheduler alone, never from a parent, and check a piece against it before the
bytes are written. So for a piece on the list there is nothing to do here.

The list may come later than the piece: the source is still being read, and everybody passes on
what has come. Such a piece is taken on its parent's word and is *unproved*. As soon as its digest
is told the driver reads it again and checks it (CheckPiece, one at a time, beside the download). If
it is wrong it is forgotten and fetched anew, and whoever sent it is accused. Nothing proves pieces
that nobody told a digest of: a stock client brought them from the source, or the scheduler has
forgotten.

Asking. A download asks when it is about to fetch pieces of which it knows no digest: at once for
the first, then after `ask_pieces` of them or `ask_interval_s`, one question at a time. Once
everything is held it asks a last time if a piece is unproved and has been asked for since the last
question; for that answer it waits, but not for long.

The whole. If the URL names the digest of its content, or the user does, the driver checks that once
before the end (CheckWhole). Wrong content is never called whole, and nobody is told that it is
here.

Nothing here says what becomes of a download whose content is wrong (`download`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.errors import StorageError, WrongContentError
from odonata.ids import blob_digest
from odonata.wire.digest_list import unpack
from odonata.wire.message import AskDigests, PieceDigests, PieceFailed, TaskType
from peer.core.effect import CheckPiece, CheckWhole, DownloadEffect, FetchPiece, LearnDigests
from peer.core.event import PieceChecked, WholeChecked

if TYPE_CHECKING:
    from odonata.errors import OdonataError
    from odonata.wire.message import Download, Piece
    from peer.core.content import Content
    from peer.core.conversation import Conversation
    from peer.core.fetching import Fetching
    from peer.core.limits import DownloadLimits


def digests_of_whole(download: Download) -> tuple[str, ...]:
    """What the whole content must have: by its URL, and by its user. Mostly none or one."""
    named = blob_digest(download.url)
    wanted = download.digest if download.range is None else None
    return tuple(dict.fromkeys(digest for digest in (named, wanted) if digest))


class Proof:
    """Of one download."""

    def __init__(
        self,
        limits: DownloadLimits,
        content: Content,
        conversation: Conversation,
        download: Download,
    ) -> None:
        self.told_by_scheduler = False
        """The scheduler takes questions for digests."""
        self.error: OdonataError | None = None
        """Why the download must end, although everything is held."""
        self.own_digests: dict[int, bytes] = {}
        """Of what this download had from the source: for a scheduler that has lost them."""
        self._limits = limits
        self._content = content
        self._conversation = conversation
        self._is_standard = download.type is TaskType.STANDARD
        self._whole = digests_of_whole(download) if limits.verify_whole else ()
        self._known: set[int] = set()  # pieces of which the driver was told the digest
        self._bringers: dict[int, str] = {}  # pieces that a parent brought: its peer id
        self._unproved: set[int] = set()
        self._checking: int | None = None
        self._check_until: float | None = None  # how long the driver may take for it
        self._whole_state = "due" if self._whole else "done"
        self._unasked = 0  # pieces that were asked for since the last question
        self._early: set[int] = set()  # asked of a parent while the scheduler may still tell them
        self._asked_at: float | None = None  # a question that was not answered yet
        self._last_asked_at: float | None = None

    # --- what happens ---------------------------------------------------------------------------

    def meet_scheduler(self, *, tells_digests: bool) -> None:
        """There is a scheduler. Of persistent tasks none tells digests: they have no source."""
        self.told_by_scheduler = tells_digests and self._is_standard

    def resume(self) -> None:
        """What is held already was checked when it came, but by what nobody remembers."""
        self._unproved = set(self._content.held)

    def lose(self) -> None:
        """The scheduler is gone, and a question with it."""
        self._asked_at = None

    def on_digests(self, told: PieceDigests, out: list[DownloadEffect]) -> None:
        """The scheduler tells digests, or takes some back."""
        if told.is_last:
            self._asked_at = None
        digests = unpack(told.packed)
        if not digests:
            return
        for number, digest in digests.items():
            if not digest:
                self._known.discard(number)
            elif number < self._limits.max_piece_count:
                self._known.add(number)
                if number in self._bringers and number in self._content.held:
                    self._unproved.add(number)  # it was proved by another one, if at all
        out.append(LearnDigests(digests=digests))

    def on_stored(self, piece: Piece, peer_id: str) -> None:
        """A parent brought a piece. With a strong digest: that is what the list says."""
        self._bringers[piece.number] = peer_id
        if not piece.strong_digest:
            self._unproved.add(piece.number)

    def on_source_piece(self, piece: Piece) -> None:
        """What comes from the source needs no proof, and is one for others."""
        self._bringers.pop(piece.number, None)
        self._unproved.discard(piece.number)
        if piece.strong_digest:
            self.own_digests[piece.number] = piece.strong_digest

    def on_checked(
        self, event: PieceChecked | WholeChecked, fetching: Fetching, out: list[DownloadEffect]
    ) -> None:
        """Something was read again."""
        self._check_until = None
        if isinstance(event, WholeChecked):
            self._on_whole_checked(event.reason, out)
            return
        self._checking = None
        self._unproved.discard(event.number)
        if not event.is_right:
            self._content.forget(event.number)
            self.doubt()
            fetching.disown(self._bringers.pop(event.number, ""), event.number, out)

    def doubt(self) -> None:
        """A parent sent other bytes than the list says: one of the two is wrong. Ask anew."""
        self._unasked = max(self._unasked, self._limits.ask_pieces)

    # --- what is to be done ---------------------------------------------------------------------

    def tend(self, now: float, out: list[DownloadEffect]) -> None:
        """After every event: ask for what is missing, check what can be checked now."""
        for effect in out:
            if isinstance(effect, FetchPiece) and effect.number not in self._known:
                if effect.is_early:
                    self._early.add(effect.number)
                else:
                    self._unasked += 1
        last, limits = self._last_asked_at, self._limits
        is_due = last is None or now - last >= limits.ask_interval_s
        if self._unasked and (is_due or self._unasked >= limits.ask_pieces):
            self._ask(now, out)
        self._check_next(now, out)

    def is_settled(self, now: float, out: list[DownloadEffect]) -> bool:
        """Everything wanted is held. Is it proved, as far as it can be? If not, see to it.

        It is not, and never will be, if there is an `error`.
        """
        self._check_next(now, out)
        if self._check_until is not None and now >= self._check_until:
            self.error = StorageError("what is stored could not be read again in time")
        if self._checking is not None:
            return False
        if self._unproved and (self._unasked or self._unproved & self._early):
            self._ask(now, out)
        if self._unproved and self._asked_at is not None:
            if now - self._asked_at < self._limits.digest_patience_s:
                return False
            self._asked_at = None
        if self._content.whole and self._whole_state == "due":
            self._whole_state = "checking"
            self._check_until = now + self._patience_s(self._content.content_length)
            out.append(CheckWhole(digests=self._whole))
        return not (self._content.whole and self._whole_state == "checking")

    def next_wake(self) -> float | None:
        """When it is no use any more to wait for an answer."""
        moments = [] if self._check_until is None else [self._check_until]
        if self._asked_at is not None:
            moments.append(self._asked_at + self._limits.digest_patience_s)
        return min(moments, default=None)

    # --- inside ---------------------------------------------------------------------------------

    def _on_whole_checked(self, reason: str, out: list[DownloadEffect]) -> None:
        self._whole_state = "done"
        if reason:
            self._report_suspects(out)
            self.error = WrongContentError(reason)

    def _patience_s(self, length: int | None) -> float:
        limits = self._limits
        return limits.check_patience_s + (length or 0) / limits.slowest_disk_bytes_per_s

    def _report_suspects(self, out: list[DownloadEffect]) -> None:
        """Of those who brought what nothing proves, a single one lied; of several, one of them."""
        brought = (self._bringers.get(number, "") for number in sorted(self._unproved))
        suspects = tuple(dict.fromkeys(peer_id for peer_id in brought if peer_id))
        for peer_id in suspects:
            failed = PieceFailed(parent_id=peer_id, wrong_digest=len(suspects) == 1)
            self._conversation.say(failed, out)

    def _ask(self, now: float, out: list[DownloadEffect]) -> None:
        if self._asked_at is None and self.told_by_scheduler and self._conversation.answered:
            self._asked_at = self._last_asked_at = now
            self._unasked = 0
            self._early.clear()
            self._conversation.say(AskDigests(), out)

    def _check_next(self, now: float, out: list[DownloadEffect]) -> None:
        if self._checking is not None or self._whole_state == "checking":
            return
        provable = self._unproved & self._known & self._content.held
        if provable:
            self._checking = min(provable)
            self._check_until = now + self._patience_s(self._content.piece_length)
            out.append(CheckPiece(number=self._checking))
