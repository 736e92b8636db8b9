"""A download against a world that does whatever it likes, watched by a naive model of the rules.

The model holds plain sets: what is stored, who is connected, what is on its way. It checks every
effect against them; the world then reports successes, failures and nonsense in any order. In the
end nothing is reported any more and only timers fire: the download must end all the same.
"""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from support.download import PIECE, URL, parent_of, piece_of
from support.wire_strategy import far_shares

from odonata.errors import CallerError
from odonata.piece import piece_count, pieces_of_range
from odonata.wire.digest_list import pack
from odonata.wire.message import (
    AskDigests,
    BackToSourceFailed,
    BackToSourceFinished,
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    FarShare,
    Finished,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    PeerMessage,
    Piece,
    PieceDigests,
    PieceFailed,
    Register,
    SchedulerAnswer,
)
from peer.core.budget import Budget
from peer.core.download import DownloadCore
from peer.core.effect import (
    AskAhead,
    AskParentMeta,
    AskProgress,
    CancelPiece,
    CancelReason,
    CheckPiece,
    CheckWhole,
    CloseStream,
    Complete,
    ConnectParent,
    DownloadEffect,
    DropParent,
    FetchPiece,
    FetchSource,
    GiveUp,
    LearnDigests,
    LearnMeta,
    OpenSource,
    SeekScheduler,
    Send,
    StopSource,
    WakeAt,
)
from peer.core.event import (
    Begun,
    Cancelled,
    DownloadEvent,
    FailureReason,
    ParentConnected,
    ParentEnded,
    ParentHolds,
    ParentLoad,
    PieceChecked,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
    ReaderWaiting,
    SchedulerAnswered,
    SchedulerFound,
    SchedulerLost,
    SourceEnded,
    SourceFailed,
    SourceOpened,
    SourcePieceStored,
    StorageFailed,
    Ticked,
    Wanted,
    WholeChecked,
)
from peer.core.lifecycle import State
from peer.core.limits import DownloadLimits
from peer.core.source_streams import Verdict

# One piece is measure enough here, so that parents are found past hope in a short run, too.
LIMITS = DownloadLimits(hopeless_after_pieces=1)
AVOIDED_S = LIMITS.hopeless_avoid_s - 1e-6  # sums of times are rounded
NAMES = ("a", "b", "c", "seed1", "seed2")
TERMINAL = Finished | Failed | BackToSourceFinished | BackToSourceFailed
TICKS_TO_THE_END = 3000
DEADLY = 11
"""Of sixteen numbers; not the lowest or highest, which Hypothesis likes to draw."""
BESIDE = frozenset({State.SWARMING, State.RESCHEDULING, State.ALONE})
"""Where a download lives on parents, and the source may be asked beside them."""
ALL = -1
DIGEST = "sha256:" + 64 * "0"
BLOB = f"http://registry.test/v2/thing/blobs/{DIGEST}"
BLAMED = frozenset({FailureReason.DIGEST, FailureReason.LISTED_DIGEST, FailureReason.PROTOCOL})

names = st.sampled_from(NAMES)
numbers = st.integers(0, 6)
told_digests = st.dictionaries(numbers, st.sampled_from([b"", b"a" * 32, b"b" * 32]))
AHEAD = "host-seed1"
"""Where a seed was met before."""

pauses = st.sampled_from([0.0, 0.01, 0.3, 2.0, 25.0])
ranges = st.none() | st.builds(
    ByteRange, start=st.integers(0, 7 * PIECE), length=st.integers(0, 3 * PIECE)
)


class DownloadMachine(RuleBasedStateMachine):
    """The driver and the world of one download."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.length = 0
        self.wanted: list[ByteRange | None] = []
        self.held: set[int] = set()
        self.learned = False
        self.known_length: int | None = None
        self.connected: set[str] = set()
        self.blamed: set[str] = set()
        self.flying: set[tuple[str, int]] = set()
        self.stopped: list[tuple[str, int]] = []  # cancelled, answer still to come
        self.runs: dict[int, FetchSource] = {}
        self.following: dict[int, int] = {}  # the piece that a run brings next
        self.opened: int | None = None
        self.wake_at: float | None = None
        self.looked_at: set[tuple[str, int]] = set()
        self.was_beside = False  # before the latest event
        self.named: dict[str, int] = {}  # the answer that a parent comes from
        self.decisions = 0
        self.reported_at: dict[str, float] = {}  # connected parents, found past hope
        self.registered = self.terminal = self.closed = self.ended = False
        self.sought = False
        self.tells_digests = self.was_asked = False
        self.listed: dict[int, bytes] = {}
        self.checking: int | None = None  # ALL: the whole
        self.brought: dict[int, str] = {}

    # --- the model ------------------------------------------------------------------------------

    def give(self, event: DownloadEvent) -> None:
        was_over = self.ended
        self.was_beside = self.is_beside
        effects = self.core.handle(event, self.now)
        assert not (was_over and effects), f"{effects} after the end"
        for effect in effects:
            assert not self.ended, f"{effect} after the end"
            self.perform(effect)

    def perform(self, effect: DownloadEffect) -> None:  # noqa: C901, PLR0912  # one case per effect
        match effect:
            case Send():
                self.hear(effect.message)
            case CloseStream():
                assert (self.terminal, self.closed) == (True, False)
                self.closed = True
            case SeekScheduler():
                assert self.lost
                assert not self.sought
                assert 0 <= effect.pause_s <= LIMITS.search_pause_max_s
                self.sought = True
            case AskAhead():
                assert self.registered, effect
            case ConnectParent():
                assert effect.parent.peer_id not in self.blamed
                self.connected.add(effect.parent.peer_id)
                assert len(self.connected) <= LIMITS.max_parents
            case AskParentMeta():
                assert effect.peer_id in self.connected
            case DropParent():
                assert effect.reason in set(CancelReason)
                assert effect.peer_id in self.connected
                self.connected.discard(effect.peer_id)
                self.flying = {key for key in self.flying if key[0] != effect.peer_id}
                self.stopped = [key for key in self.stopped if key[0] != effect.peer_id]
            case FetchPiece():
                self.fetch(effect)
            case AskProgress():
                assert (effect.peer_id, effect.number) in self.flying
                self.looked_at.add((effect.peer_id, effect.number))
            case CancelPiece():
                assert effect.reason in set(CancelReason)
                self.flying.remove((effect.peer_id, effect.number))
                self.stopped.append((effect.peer_id, effect.number))
            case OpenSource():
                assert self.opened is None
                assert not self.runs
                self.opened = effect.first
            case FetchSource():
                self.fetch_source(effect)
            case StopSource():
                assert effect.first in self.runs or self.opened == effect.first
                self.runs.pop(effect.first, None)
                self.opened = None if self.opened == effect.first else self.opened
            case LearnDigests():
                self.listed.update(effect.digests)
            case CheckPiece():
                assert self.checking is None
                assert effect.number in self.held
                assert self.listed.get(effect.number)
                self.checking = effect.number
            case CheckWhole():
                assert self.checking is None
                assert self.held >= set(range(self.count()))
                assert effect.digests == (DIGEST,)
                self.checking = ALL
            case LearnMeta():
                assert effect.content_length in {None, self.length}
                assert effect.piece_length == PIECE
                self.learned = True
                self.known_length = effect.content_length
            case Complete():
                self.complete(effect)
            case GiveUp():
                assert effect.error.detail
                self.ended = True
            case WakeAt():
                assert effect.at_s > self.now
                self.wake_at = effect.at_s

    def hear(self, message: PeerMessage) -> None:
        assert not self.terminal, f"{message} after the last word"
        if isinstance(message, Register):
            assert not self.registered
            assert not message.resumes or self.was_lost
        else:
            assert self.registered, message
            assert not self.lost, message
        if isinstance(message, AskDigests):
            assert self.tells_digests
            assert not self.was_asked, "one question at a time"
            self.was_asked = True
        self.registered = True
        self.terminal = isinstance(message, TERMINAL)
        if isinstance(message, PieceFailed) and message.parent_id in self.connected:
            self.check_past_hope(message)

    def check_past_hope(self, message: PieceFailed) -> None:
        """A parent that is still connected is reported only for bringing nothing, now and then."""
        who = message.parent_id
        assert message.number is not None
        assert (who, message.number) in self.looked_at
        assert self.now - self.reported_at.get(who, -1e9) >= AVOIDED_S
        self.reported_at[who] = self.now

    def fetch(self, effect: FetchPiece) -> None:
        key = (effect.peer_id, effect.number)
        assert self.learned
        assert effect.peer_id in self.connected
        assert effect.number not in self.held, "held already"
        assert effect.number in self.numbers_wanted(), "nobody wants it"
        assert key not in self.flying, "on its way from there already"
        assert not any(self.claims(run, effect.number) for run in self.runs.values())
        self.flying.add(key)
        live = self.flying
        assert len(live) <= 2 * LIMITS.concurrent_piece_count
        assert sum(n == effect.number for _, n in live) <= 2
        assert sum(p == effect.peer_id for p, _ in live) <= LIMITS.quick_pieces_per_parent
        assert effect.concurrency == len(live)
        assert effect.decision == self.named[effect.peer_id]
        assert self.now - self.reported_at.get(effect.peer_id, -1e9) >= AVOIDED_S
        assert effect.offset == effect.number * PIECE
        assert 0 < effect.timeout_s < 100

    def fetch_source(self, effect: FetchSource) -> None:
        assert self.may_use_source
        assert self.core.state is State.SOURCING or self.is_beside
        assert set(effect.skip) <= self.held
        assert effect.last is None or effect.last >= effect.first
        for number in range(self.count()):
            if self.covers(effect, number):
                assert not any(self.covers(run, number) for run in self.runs.values())
                assert (number in self.held) == (number in effect.skip)
        self.runs[effect.first] = effect
        self.following[effect.first] = effect.first
        if self.opened is not None:
            assert self.opened == effect.first
            self.opened = None
        assert len(self.runs) <= LIMITS.source_streams

    def complete(self, effect: Complete) -> None:
        assert self.known_length == self.length or self.held >= self.numbers_wanted()
        assert self.held >= self.numbers_wanted()
        assert self.checking is None
        if None in self.wanted:
            assert effect.whole
        assert effect.whole == (
            self.known_length == self.length and self.held >= set(range(self.count()))
        )
        assert self.closed or not self.registered or self.lost
        self.ended = True

    def count(self) -> int:
        return piece_count(self.length, PIECE)

    def numbers_wanted(self) -> set[int]:
        found: set[int] = set()
        for wanted in self.wanted:
            try:
                found |= set(pieces_of_range(wanted, self.length, PIECE))
            except CallerError:
                continue  # outside the content
        return found

    @staticmethod
    def covers(run: FetchSource, number: int) -> bool:
        return run.first <= number and (run.last is None or number <= run.last)

    def claims(self, run: FetchSource, number: int) -> bool:
        """Nobody else is to be asked for it; of a run beside the swarm that is what comes next."""
        following = self.following[run.first]
        # What is asked for before the core leaves peers for the source is stopped with the others.
        is_beside = self.is_beside or self.was_beside
        is_next = not is_beside or number < following + LIMITS.beside_ahead
        return self.covers(run, number) and is_next

    @property
    def is_beside(self) -> bool:
        """The source, if it is asked, is asked beside the swarm.

        As in a download that was alone and has found a scheduler, while that owes its answer.
        """
        state = self.core.state
        return state in BESIDE or (state is State.REGISTERING and self.was_lost)

    # --- the beginning --------------------------------------------------------------------------

    @initialize(
        length=st.sampled_from([0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 6 * PIECE + 7]),
        seed=st.integers(0, 9),
        held=st.sets(numbers),
        knows=st.booleans(),
        scheduler=st.booleans() | st.just(True),
        lost_s=st.none() | st.sampled_from([0.0, 5.0, 100.0]),
        needs_size=st.booleans(),
        triggered=st.booleans(),
        disable=st.booleans(),
        wanted=ranges,
        tells_digests=st.booleans(),
        names_digest=st.booleans(),
        pays=st.booleans(),
    )
    def begin(
        self,
        length: int,
        seed: int,
        held: set[int],
        knows: bool,
        scheduler: bool,
        lost_s: float | None,
        needs_size: bool,
        triggered: bool,
        disable: bool,
        wanted: ByteRange | None,
        tells_digests: bool,
        names_digest: bool,
        pays: bool,
    ) -> None:
        self.length = length
        self.tells_digests = tells_digests
        self.lost = not scheduler
        self.was_lost = False
        self.may_use_source = triggered or not disable
        self.wanted = [wanted]
        self.held = {n for n in held if n < self.count()}
        self.learned = knows or bool(self.held)
        self.known_length = length if knows else None
        download = Download(
            url=BLOB if names_digest else URL,
            range=wanted,
            need_back_to_source=triggered,
            disable_back_to_source=disable,
        )
        budget = Budget()
        if pays:  # to have several requests at once, as was found before
            for host in ("origin.test", "registry.test"):
                budget.origins.settle(host, Verdict(LIMITS.source_streams, 0.0, inf))
        self.core = DownloadCore(LIMITS, download, Random(seed), budget=budget)
        self.give(
            Begun(
                content_length=length if knows else None,
                piece_length=PIECE if knows or self.held else None,
                held=tuple(sorted(self.held)),
                scheduler=scheduler,
                lost_s=lost_s,
                needs_size=needs_size,
                tells_digests=tells_digests,
                ahead_host_id=AHEAD,
            )
        )

    # --- the world ------------------------------------------------------------------------------

    @rule(pause_s=pauses)
    def time_passes(self, pause_s: float) -> None:
        self.now += pause_s
        if self.wake_at is not None and self.wake_at <= self.now:
            self.tick()

    def tick(self) -> None:
        self.wake_at = None
        self.give(Ticked())

    @precondition(lambda self: self.registered and not self.closed and not self.lost)
    @rule(who=st.lists(names, min_size=1, max_size=4, unique=True), kind=st.integers(0, 9))
    def scheduler_answers(self, who: list[str], kind: int) -> None:
        parents = tuple(parent_of(name, seed=name.startswith("seed")) for name in who)
        answer: SchedulerAnswer = NormalTask(parents=parents)
        if kind == 0:
            answer = NeedBackToSource(description="told so")
        elif kind == 1:
            answer = MetadataOnly()
        elif kind == 2 and self.length == 0:
            answer = EmptyTask()
        elif not self.ended:
            self.decisions += 1
            repeats = self.named if self.core.state is State.SWARMING else {}
            new = [name for name in who if name not in repeats]
            self.named.update(dict.fromkeys(new, self.decisions))
        self.give(SchedulerAnswered(answer=answer))
        assert self.core.decisions == self.decisions

    @precondition(lambda self: self.registered and not self.lost and not self.closed)
    @rule(refused=st.booleans())
    def scheduler_is_lost(self, refused: bool) -> None:
        self.lost = self.was_lost = True
        self.registered = self.was_asked = False
        self.give(SchedulerLost(reason="broken", refused=refused))
        assert not (refused and self.sought)

    @precondition(lambda self: self.sought)
    @rule(needs_size=st.booleans(), tells_digests=st.booleans())
    def scheduler_is_found(self, needs_size: bool, tells_digests: bool) -> None:
        self.sought = self.lost = False
        self.was_lost = True
        self.tells_digests = tells_digests
        self.give(SchedulerFound(needs_size=needs_size, tells_digests=tells_digests))

    @precondition(lambda self: self.registered and not self.closed and not self.lost)
    @rule(
        which=st.dictionaries(numbers, st.sampled_from([b"", b"a" * 32, b"b" * 32])),
        last=st.booleans(),
    )
    def digests_are_told(self, which: dict[int, bytes], last: bool) -> None:
        self.was_asked = self.was_asked and not last
        self.give(SchedulerAnswered(answer=PieceDigests(packed=pack(which), is_last=last)))

    @precondition(lambda self: self.registered and not self.closed and not self.lost)
    @rule(share=far_shares)
    def far_share_is_told(self, share: FarShare) -> None:
        self.give(SchedulerAnswered(answer=share))

    @precondition(lambda self: self.checking is not None)
    @rule(is_right=st.booleans())
    def check_is_done(self, is_right: bool) -> None:
        number, self.checking = self.checking, None
        if number == ALL:
            self.give(WholeChecked(reason="" if is_right else "it is not"))
            return
        assert number is not None
        if not is_right:
            self.held.discard(number)
            who = self.brought.get(number, "")
            if who in self.connected:
                self.blamed.add(who)
        self.give(PieceChecked(number=number, is_right=is_right))

    @rule(who=names, knows=st.booleans())
    def parent_connects(self, who: str, knows: bool) -> None:
        self.give(
            ParentConnected(
                peer_id=who,
                content_length=self.length if knows else None,
                piece_length=PIECE if knows else None,
            )
        )

    @rule(who=names, which=st.sets(numbers, min_size=1))
    def parent_offers(self, who: str, which: set[int]) -> None:
        pieces = tuple(piece_of(n, self.length) for n in sorted(which) if n < self.count())
        self.give(ParentHolds(peer_id=who, pieces=pieces))

    @precondition(lambda self: not self.ended and self.is_beside)
    @rule()
    def nobody_brings_anything(self) -> None:
        """Long enough for the source to be asked beside them, if it may be."""
        until = self.now + 6.0
        while not self.ended and self.wake_at is not None and self.wake_at <= until:
            self.now = self.wake_at
            self.tick()

    @rule(who=names, number=numbers)
    def parent_offers_nonsense(self, who: str, number: int) -> None:
        if who in self.connected and self.learned:
            self.blamed.add(who)
        offset = number * PIECE + 1
        self.give(
            ParentHolds(peer_id=who, pieces=(Piece(number=number, offset=offset, length=PIECE),))
        )

    @rule(who=names, finished=st.booleans())
    def parent_ends(self, who: str, finished: bool) -> None:
        self.give(ParentEnded(peer_id=who, finished=finished))

    @rule(who=names, used=st.floats(0, 2e9))
    def parent_tells_its_load(self, who: str, used: float) -> None:
        load = ParentLoad(peer_id=who, max_rate_bytes_per_s=1e9, used_rate_bytes_per_s=used)
        self.give(load)

    @precondition(lambda self: self.looked_at)
    @rule(data=st.data(), began_s=st.none() | st.sampled_from([0.0, 1.0, 30.0]))
    def progress_is_told(self, data: st.DataObject, began_s: float | None) -> None:
        who, number = data.draw(st.sampled_from(sorted(self.looked_at)))
        self.give(PieceProgress(peer_id=who, number=number, began_s=began_s))

    @precondition(lambda self: self.flying or self.stopped)
    @rule(data=st.data(), reason=st.none() | st.sampled_from(FailureReason))
    def piece_arrives_or_not(self, data: st.DataObject, reason: FailureReason | None) -> None:
        """Answers to one piece from one parent come in the order in which it was asked for."""
        key = data.draw(st.sampled_from(sorted({*self.flying, *self.stopped})))
        alive, (who, number) = key not in self.stopped, key
        if alive:
            self.flying.remove(key)
        else:
            self.stopped.remove(key)
        if reason is None:
            if number not in self.held:
                self.brought[number] = who
            self.held.add(number)
            piece = piece_of(number, self.length)
            self.give(PieceStored(peer_id=who, piece=piece, began_s=0.1, wait_s=0.02))
            return
        reason = reason if alive else FailureReason.CANCELLED
        if reason in BLAMED:
            self.blamed.add(who)
        self.give(PieceNotFetched(peer_id=who, number=number, reason=reason))

    @precondition(lambda self: self.opened is not None or self.runs)
    @rule(says=st.booleans(), honours=st.booleans())
    def source_opens(self, says: bool, honours: bool) -> None:
        self.give(SourceOpened(content_length=self.length if says else None, ranges=honours))

    @precondition(lambda self: self.learned and self.runs)
    @rule(data=st.data())
    def source_brings_a_piece(self, data: st.DataObject) -> None:
        run = self.runs[data.draw(st.sampled_from(sorted(self.runs)))]
        left = [n for n in range(self.count()) if self.covers(run, n) and n not in self.held]
        if left:
            self.held.add(left[0])
            self.following[run.first] = left[0] + 1
            self.brought.pop(left[0], None)
            self.give(SourcePieceStored(piece=piece_of(left[0], self.length)))

    @precondition(lambda self: self.learned and self.runs)
    @rule(data=st.data(), says=st.booleans())
    def source_ends(self, data: st.DataObject, says: bool) -> None:
        first = data.draw(st.sampled_from(sorted(self.runs)))
        del self.runs[first]
        self.give(SourceEnded(first=first, content_length=self.length if says else None))

    @precondition(lambda self: self.opened is not None or self.runs)
    @rule(data=st.data(), fatal=st.booleans())
    def source_fails(self, data: st.DataObject, fatal: bool) -> None:
        firsts = [*self.runs, *([] if self.opened is None else [self.opened])]
        first = data.draw(st.sampled_from(sorted(firsts)))
        self.runs.pop(first, None)
        self.opened = None if self.opened == first else self.opened
        self.give(SourceFailed(first=first, reason="reset", fatal=fatal))

    @rule(wanted=ranges, disable=st.booleans())
    def another_reader(self, wanted: ByteRange | None, disable: bool) -> None:
        if not self.ended:
            self.wanted.append(wanted)
            self.may_use_source = self.may_use_source or not disable
        self.give(Wanted(range=wanted, disable_back_to_source=disable))

    @rule(number=st.none() | numbers)
    def reader_waits(self, number: int | None) -> None:
        self.give(ReaderWaiting(number=number))

    @rule(die=st.integers(0, 15), full=st.booleans())
    def storage_fails(self, die: int, full: bool) -> None:
        if die == DEADLY:
            self.give(StorageFailed(reason="no space left", disk_full=full))
            assert self.ended

    @rule(die=st.integers(0, 15))
    def cancelled(self, die: int) -> None:
        if die == DEADLY:
            self.give(Cancelled())
            assert self.ended

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def somebody_will_wake_it(self) -> None:
        assert self.ended or self.wake_at is not None

    def teardown(self) -> None:
        """Silence from now on: timers alone must bring it to an end."""
        for _ in range(TICKS_TO_THE_END):
            if self.ended or not hasattr(self, "core"):
                return
            assert self.wake_at is not None
            # A fetch that nobody answers stays with the driver; the core has stopped waiting.
            self.now = max(self.now, self.wake_at)
            self.tick()
        raise AssertionError(f"it never ends; story: {self.core.story()}")


class SwarmMachine(DownloadMachine):
    """The same from where it has parents, of which one has something: most downloads live here."""

    @initialize(
        seed=st.integers(0, 9),
        held=st.sets(numbers, max_size=2),
        disable=st.booleans(),
        offers=st.sets(numbers, min_size=1),
        knows=st.booleans(),
    )
    def begin(
        self, seed: int, held: set[int], disable: bool, offers: set[int], knows: bool
    ) -> None:
        self.length = 6 * PIECE + 7
        self.lost = self.was_lost = False
        self.may_use_source = not disable
        self.wanted = [None]
        self.held = set(held)
        self.learned = bool(held)
        download = Download(url=URL, disable_back_to_source=disable)
        self.core = DownloadCore(LIMITS, download, Random(seed))
        piece_length = PIECE if held else None
        self.give(Begun(piece_length=piece_length, held=tuple(sorted(held))))
        self.scheduler_answers(["a", "b", "seed1"], 9)
        self.parent_connects("a", knows)
        self.parent_offers("a", offers)


DownloadMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=50, deadline=None
)
TestDownloadMachine = DownloadMachine.TestCase
SwarmMachine.TestCase.settings = DownloadMachine.TestCase.settings
TestSwarmMachine = SwarmMachine.TestCase
