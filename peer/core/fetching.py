"""Pieces from parents: asking, what follows from success and failure, transfers that are late.

Theory of operation
===================

The piece of a failed transfer needs no list of its own: it is missing and not on its way, so the
next choice sees it. The parent is treated by what the failure says about it:

| reason               | the parent                                                            |
|----------------------|-----------------------------------------------------------------------|
| refused              | left alone for a moment, longer each time; no blame                   |
| given                | nothing: the piece is not asked for again for a moment                |
| not found            | does not hold the piece; too many of them: blamed                     |
| digest, protocol     | blamed: never again in this download, and reported, as what it is     |
| unreachable, timeout | a strike: left alone; dropped and reported after the second in a row  |
| cancelled            | nothing if we stopped it, else as if refused                          |

Of a piece that a parent was being sent itself: refused, it is asked to pass nothing on for a while;
not found, it has lost it; broken off, it did not get it; late, it is had in another way. No blame.

A transfer is late when it has taken several times this download's own mean (and, with `spare_late`,
will not be there soon). If all slots are taken, a late one is stopped and asked from somebody else.
If slots are free and nothing new is left to ask for, a second holder is asked as well, the first to
bring it wins, and the other is stopped.

A parent is past hope when it used to bring pieces, and has brought none for far longer than that
(`lateness` says when). Then it is left alone for a while and the scheduler is told, as of a piece
that failed. What is on its way from it is stopped if somebody else could bring it. If nobody could,
it goes on, for a trickle is better than nothing and what has come would be lost; but the scheduler
is told all the same, since it may know another parent, and somebody must tell it.

Not here: the scheduler's answers, the source, and the states of the download (`download`); choosing
(`selection`).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from odonata.piece import PIECE_LENGTH_MAX
from odonata.wire.message import FarShare, Parent, Piece, PieceFailed
from peer.core.content import Content
from peer.core.conversation import Conversation
from peer.core.effect import (
    AskAhead,
    AskParentMeta,
    AskProgress,
    CancelPiece,
    CancelReason,
    ConnectParent,
    DownloadEffect,
    DropParent,
    FetchPiece,
)
from peer.core.event import FailureReason, PieceNotFetched, PieceProgress
from peer.core.far_part import FarPart
from peer.core.flights import Flights
from peer.core.lateness import ANSWER_S, Lateness
from peer.core.limits import DownloadLimits
from peer.core.parents import Flight, Parents, ParentState
from peer.core.passing import choose_passed_on, tells_coming
from peer.core.reserve import HAS_ALL, Reserve
from peer.core.selection import Reader, Situation, choose, choose_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_NOT_PASSED_ON = (FailureReason.REFUSED, FailureReason.NOT_FOUND, FailureReason.BROKEN_OFF)
"""By who is being sent the piece itself: no reason to think anything of it."""


class Fetching:
    """The swarm side of one download. Every method appends its effects to `out`."""

    def __init__(
        self,
        *,
        limits: DownloadLimits,
        slots: int,
        may_widen: bool = False,
        content: Content,
        conversation: Conversation,
        at_source: Callable[[int], bool],
        rng: Random,
        idc: str = "",
        downloads: Callable[[], int] = lambda: 1,
    ) -> None:
        """`slots`: pieces in flight in all. `at_source`: the source is bringing this piece.

        `may_widen`: there may be twice as many where that helps, and fewer where `downloads`, as
        many as go on at this daemon, share its link. `idc`: the data centre we are in, "" if that
        is not known.
        """
        self.parents = Parents(limits, idc)
        self.reader: Reader | None = None
        self._limits = limits
        self._fewest = slots
        self._most = min(2 * slots, limits.max_concurrent_piece_count) if may_widen else slots
        self._downloads = downloads if may_widen and limits.share_slots else lambda: 1
        self._wait_s = inf  # the shortest wait for a first byte: a round trip, if nobody queued
        self._waits = 0
        self._content = content
        self._conversation = conversation
        self._at_source = at_source
        self._rng = rng
        self._flights = Flights()
        self._replaced: dict[int, int] = {}
        self._busy_at = 0.0  # when something was last on its way
        self._was_busy = False  # after the latest `fill`, or had nothing to ask for
        self._far = FarPart(limits.far_help_after)
        self._lateness = Lateness(limits, self.parents)
        self._reserve = Reserve(
            limits.reserve_patience_s, limits.reserve_patience_max_s, limits.max_parents
        )

    # --- parents come and go --------------------------------------------------------------------

    def ask_ahead(self, host_id: str, out: list[DownloadEffect]) -> None:
        """A seed on this host may have all of the content, if it is a short one."""
        if host_id and self._limits.ask_ahead and not self._content.learned:
            self._reserve.prefer(host_id)
            out.append(AskAhead(host_id=host_id))

    def connect(
        self,
        named: tuple[Parent, ...],
        decision: int,
        now: float,
        out: list[DownloadEffect],
        *,
        was_asked: bool = True,
    ) -> None:
        """Take in the parents that the scheduler's answer number `decision` named.

        Not `was_asked`: the answer repeats those that stay. They keep the decision that gave them.
        """
        fresh: list[Parent] = []
        self.parents.named((p.peer_id for p in named), decision, was_asked=was_asked)
        for parent in named:
            known = self.parents.get(parent.peer_id)
            if known is None:
                fresh += [] if self.parents.is_blamed(parent.peer_id) else [parent]
                continue
            known.leaving = False
            if known.finished and was_asked:
                # It had told all, and the scheduler thinks that it has more by now.
                known.finished, known.listing = False, True
                self._connect(parent, out)
        for parent in self._reserve.divide(fresh, self._room_for(fresh), now):
            self._admit(parent, now, out)

    def _room_for(self, named: list[Parent]) -> int:
        """How many more parents the content is worth."""
        pieces = self._content.count or max((p.task.piece_count for p in named), default=0)
        if not self._limits.few_first or not pieces:
            return len(named)
        return pieces - len(self.parents)

    def _call_in(self, now: float, out: list[DownloadEffect]) -> None:
        """Connect those who were not needed at first."""
        if now < self._reserve.due_at:
            return
        missing = self._content.each_missing()
        all_comes = bool(missing) and all(map(self._flights.__contains__, missing))
        for parent in self._reserve.call_in(now, all_comes=all_comes):
            if not self.parents.is_blamed(parent.peer_id):
                self._admit(parent, now, out)

    def _admit(self, parent: Parent, now: float, out: list[DownloadEffect]) -> None:
        self._make_room(now, out)
        admitted = self.parents.admit(parent, now)
        if admitted is not None:
            self._connect(parent, out)
            self._foresee(admitted)

    def _connect(self, parent: Parent, out: list[DownloadEffect]) -> None:
        interested = tuple(self._content.missing() or ())
        out.append(ConnectParent(parent=parent, interested=interested))

    def _foresee(self, state: ParentState) -> None:
        """It has all of a content of one piece: it can be asked while it still tells its list."""
        length = state.parent.task.content_length or 0
        is_whole = state.parent.state == HAS_ALL and state.parent.task.piece_count == 1
        if not (self._limits.ask_early and is_whole and 0 < length <= PIECE_LENGTH_MAX):
            return
        piece = Piece(number=0, offset=0, length=length)
        if self._content.lacks(0) and self._misfit(piece) is None:
            state.foreseen = True
            self.parents.offer(state, piece, state.heard_at)

    def reader_at(self, number: int | None, now: float) -> None:
        """Somebody waits for this piece; None: nobody does."""
        if number is None:
            self.reader = None
        elif self.reader is None or self.reader.number != number:
            self.reader = Reader(number, now)

    def take_share(self, share: FarShare, now: float) -> None:
        """From far parents fetch this part, and leave the rest to other gateways.

        They have as long to bring something as if something had been on its way until now.
        """
        if self._limits.far_shares and self._limits.far_once:
            self._far.tell(share, now)
            self._busy_at = now

    def let_go(self, named: tuple[Parent, ...]) -> None:
        """Whom an answer does not name any more brings what is on its way, and goes (`fill`)."""
        stays = frozenset(parent.peer_id for parent in named)
        for state in self.parents:
            state.leaving = state.peer_id not in stays
        self._reserve.keep(stays)

    def on_connected(self, state: ParentState, now: float) -> None:
        """A parent said what it knows of the content."""
        state.heard_at = now
        state.is_met = True
        state.meta_asked_at = None

    def on_holds(
        self, state: ParentState, pieces: tuple[Piece, ...], now: float, out: list[DownloadEffect]
    ) -> None:
        """A parent offers pieces."""
        state.heard_at = now
        state.foreseen = state.foreseen and not pieces
        for piece in pieces:
            misfit = self._misfit(piece)
            if misfit is not None:
                self.blame(state, piece.number, misfit, out)
                return
            if piece.number not in self._content.held:
                self.parents.offer(state, piece, now)
        if not self._content.learned:
            self.ask_meta(state, now, out)

    def on_receives(
        self, state: ParentState, pieces: tuple[Piece, ...], now: float, out: list[DownloadEffect]
    ) -> None:
        """A parent is being sent pieces, and would pass them on."""
        state.heard_at = now
        misfit = next(filter(None, map(self._misfit, pieces)), None)
        if misfit is not None:
            self.blame(state, None, misfit, out)
            return
        news = (p for p in pieces if self._content.lacks(p.number) and p.number not in state.offers)
        state.coming.update((p.number, p) for p in news)

    def on_ended(
        self, state: ParentState, *, finished: bool, now: float, out: list[DownloadEffect]
    ) -> None:
        """A parent's list is over. A broken one is opened once more; twice is too often."""
        state.heard_at = now
        state.listing = False
        state.finished = finished
        state.coming.clear()
        if finished:
            if self._content.content_length is None:
                self.ask_meta(state, now, out)
            return
        self._reserve.hurry(now)
        state.reconnect_at = now + self._limits.reconnect_s
        self._strike(state, None, out)

    def ask_meta(self, state: ParentState, now: float, out: list[DownloadEffect]) -> None:
        """Ask once more how long the content is; not while the last question is young."""
        asked_at = state.meta_asked_at
        if asked_at is None or now - asked_at >= self._limits.meta_interval_s:
            state.meta_asked_at = now
            out.append(AskParentMeta(peer_id=state.peer_id))

    def blame(
        self,
        state: ParentState,
        number: int | None,
        why: str,
        out: list[DownloadEffect],
        *,
        wrong_digest: bool = False,
        by_list: bool = False,
    ) -> None:
        """It did what no honest parent does: never again in this download."""
        self._leave(state, CancelReason.BLAMED, out)
        self.parents.blame(state.peer_id, why)
        self._report(state, number, out, wrong_digest=wrong_digest, by_list=by_list)

    def disown(self, peer_id: str, number: int, out: list[DownloadEffect]) -> None:
        """A piece that `peer_id` brought some time ago is not what the source sent.

        What the others hold of it they have offered already, so they are asked for their lists.
        """
        state = self.parents.get(peer_id)
        if state is not None:
            self.blame(state, number, "its piece was wrong", out, wrong_digest=True, by_list=True)
        elif peer_id:
            self._accuse(peer_id, number, out)
        interested = tuple(self._content.missing() or ())
        for other in self.parents:
            other.finished, other.listing, other.reconnect_at = False, True, None
            out.append(ConnectParent(parent=other.parent, interested=interested))

    def _accuse(self, peer_id: str, number: int, out: list[DownloadEffect]) -> None:
        message = PieceFailed(
            parent_id=peer_id, number=number, temporary=True, wrong_digest=True, by_list=True
        )
        self._conversation.say(message, out)

    def drop_all(self, out: list[DownloadEffect]) -> None:
        """The download needs no parents any more."""
        self._reserve.keep(())
        for state in list(self.parents):
            self._leave(state, CancelReason.ENDED, out)
            self.parents.remove(state.peer_id)

    def check_offers(self, out: list[DownloadEffect]) -> None:
        """The grid is known now: whose earlier offers do not fit is to blame."""
        for state in list(self.parents):
            misfits = (self._misfit(piece) for piece in state.offers.values())
            misfit = next((m for m in misfits if m is not None), None)
            if misfit is not None:
                self.blame(state, None, misfit, out)

    # --- pieces come, or do not -----------------------------------------------------------------

    def on_stored(
        self,
        peer_id: str,
        piece: Piece,
        now: float,
        out: list[DownloadEffect],
        wait_s: float | None = None,
    ) -> None:
        """A piece is on the disk, from `peer_id`; its first byte was waited for so long."""
        was_stopped = self._flights.was_stopped(peer_id, piece.number)
        state = self.parents.get(peer_id)
        flight = None if state is None or was_stopped else self._flights.land(state, piece.number)
        if state is not None and flight is not None:
            # From asking to storing, the wait in the parent's queue included: what matters to us,
            # and what the age of a transfer in flight is compared with.
            took_s = now - flight.asked_at
            state.heard_at = now
            if wait_s is not None:
                self._waits += 1
                self._wait_s = min(self._wait_s, wait_s)
            state.begin_anew(now)
            if not flight.is_passed_on:  # else its own parent is measured
                state.measure(piece.length, took_s, self._limits.goodput_memory)
            concurrency = (flight.concurrency + self._flights.full + 1) / 2
            self._lateness.brought(state, took_s, now, concurrency=concurrency)
        self.forget(piece.number, CancelReason.HEDGED, now, out)

    def forget(self, number: int, why: CancelReason, now: float, out: list[DownloadEffect]) -> None:
        """A piece is held now: whoever else is bringing it may stop."""
        for state in self.parents:
            if number in state.in_flight:
                self._cancel(state, number, why, now, out)
        self.parents.forget_everywhere(number)
        self._replaced.pop(number, None)

    def on_progress(self, event: PieceProgress, now: float) -> None:
        """How far a fetch is: asked for because its parent was in doubt."""
        state = self.parents.get(event.peer_id)
        flight = None if state is None else state.in_flight.get(event.number)
        if flight is not None and event.began_s is not None:
            flight.began_at = now - event.began_s
            flight.looks.append((now, event.received))
        if flight is not None and flight.doubted_at is not None:
            is_new = not self.parents.near_holders(event.number)
            self._lateness.judge(flight, self._flights.full, now, is_new=is_new)

    def on_not_fetched(self, event: PieceNotFetched, now: float, out: list[DownloadEffect]) -> None:
        """A fetch failed. See the table above."""
        ours = self._flights.was_stopped(event.peer_id, event.number)
        state = self.parents.get(event.peer_id)
        if state is None:
            return
        state.heard_at = now
        if not ours and self._ends_well(state, event, now):
            return
        limits = self._limits
        match event.reason:
            case FailureReason.REFUSED | FailureReason.CANCELLED | FailureReason.BROKEN_OFF:
                if not ours or event.reason is FailureReason.REFUSED:
                    state.has_refused(now, self._limits, self._rng)
            case FailureReason.GIVEN:
                state.told_given((event.number, *event.given), now, limits.given_pause_s)
            case FailureReason.NOT_FOUND:
                self.parents.forget(state, event.number)
                state.not_found += 1
                if state.not_found > limits.max_not_found:
                    self.blame(state, event.number, "offers what it does not hold", out)
            case FailureReason.DIGEST | FailureReason.LISTED_DIGEST | FailureReason.PROTOCOL:
                self.blame(
                    state,
                    event.number,
                    event.detail or event.reason,
                    out,
                    wrong_digest=event.reason is not FailureReason.PROTOCOL,
                    by_list=event.reason is FailureReason.LISTED_DIGEST,
                )
            case FailureReason.UNREACHABLE | FailureReason.TIMEOUT:
                state.avoid_until = max(state.avoid_until, now + limits.strike_avoid_s)
                self._strike(state, event.number, out)

    def _ends_well(self, state: ParentState, event: PieceNotFetched, now: float) -> bool:
        """A failed fetch has ended; True: that says nothing of its parent, which passed it on."""
        flight = self._flights.land(state, event.number)
        if flight is None or not flight.is_passed_on or event.reason not in _NOT_PASSED_ON:
            self._reserve.hurry(now)
            return False
        if event.reason is FailureReason.REFUSED:
            state.will_not_pass(now, self._limits, self._rng)
        else:
            is_broken_off = event.reason is FailureReason.BROKEN_OFF
            self.parents.does_not_pass(state, event.number, is_broken_off=is_broken_off)
        return True

    # --- asking ---------------------------------------------------------------------------------

    def fill(self, now: float, out: list[DownloadEffect]) -> None:
        """Ask for as much as may be in flight, then look after what is late."""
        self._see_off(out)
        self._call_in(now, out)
        if not self._content.learned and not self._may_ask_early():
            return
        # What landed just now was on its way until now.
        if self.flights or self._was_busy:
            self._busy_at = now
        elif now - self._busy_at >= self._limits.far_patience_s:
            self._far.give_up()
        self._far.look(self._content.each_missing(), self._is_taken, now)
        slots = self._slots if self._content.learned else 1
        while self._flights.full < slots:
            choice = choose(self._situation(now), self._rng, now)
            if choice is None:
                break
            self._ask(choice.parent, choice.number, now, out, is_exclusive=choice.is_exclusive)
        self._fill_passed_on(now, out)
        self._help_late(now, out)
        self._was_busy = self.flights > 0 or self._awaits_far

    def _fill_passed_on(self, now: float, out: list[DownloadEffect]) -> None:
        """Where all that parents have does not take all slots: what they are being sent, too."""
        limits, flights = self._limits, self._flights
        has_room = limits.pass_on and flights.full < self._slots
        while has_room and flights.passed_on < limits.max_passed_on:
            choice = choose_passed_on(self._situation(now), self._rng, now)
            if choice is None:
                return
            self._ask(choice.parent, choice.number, now, out, is_passed_on=True)

    def tend(self, now: float, out: list[DownloadEffect]) -> None:
        """Time passed: give up what nobody answers, open broken streams once more."""
        for state in list(self.parents):
            overdue = [n for n, f in state.in_flight.items() if now >= f.deadline]
            for number in overdue:
                if number not in state.in_flight:
                    break  # an earlier one was a strike too many: the parent has left with them all
                self._cancel(state, number, CancelReason.TIMEOUT, now, out)
                self._reserve.hurry(now)
                state.avoid_until = max(state.avoid_until, now + self._limits.strike_avoid_s)
                self._strike(state, number, out)
            gone = self.parents.get(state.peer_id) is not state
            if not gone and state.reconnect_at is not None and now >= state.reconnect_at:
                state.reconnect_at = None
                state.listing = True
                interested = tuple(self._content.missing() or ())
                out.append(ConnectParent(parent=state.parent, interested=interested))
        self._leave_hopeless(now, out)

    def ask_progress(self, out: list[DownloadEffect]) -> list[tuple[str, int]]:
        """Ask the driver how far all transfers are; returns them: parent and piece."""
        flights = [(state.peer_id, number) for state in self.parents for number in state.in_flight]
        out += [AskProgress(peer_id=who, number=number) for who, number in flights]
        return flights

    def leave_to_source(self, now: float, out: list[DownloadEffect]) -> None:
        """Stop what the source is bringing, too: it reads past what it does not need to store."""
        for state in self.parents:
            for number in [n for n in state.in_flight if self._at_source(n)]:
                self._cancel(state, number, CancelReason.SOURCE, now, out)

    # --- questions ------------------------------------------------------------------------------

    @property
    def flights(self) -> int:
        """Pieces on their way, copies counted."""
        return self._flights.count

    @property
    def has_seeds(self) -> bool:
        """A seed is among the parents."""
        return any(state.is_seed for state in self.parents)

    def is_coming(
        self, number: int, now: float, patience_s: float, enough_bytes_per_s: float
    ) -> bool:
        """Some parent is sending it, with its part of what is enough from all, or may still do so.

        Whoever has owed us pieces for `patience_s`, one or several, and brought none, does not.
        """
        flights = self.flights
        if number not in self._flights:
            return False
        return any(
            flight.keeps_up(enough_bytes_per_s / flights) or state.fruitless(now) < patience_s
            for state in self.parents
            if (flight := state.in_flight.get(number)) is not None
        )

    @property
    def late_s(self) -> float | None:
        """After how long a transfer is late, None while there is nothing to compare with."""
        return self._lateness.late_s(self._flights.full)

    def offered(self) -> set[int]:
        """Missing pieces that some parent offers."""
        return {n for state in self.parents for n in state.offers if self._content.lacks(n)}

    def promised(self, now: float) -> set[int]:
        """Missing pieces that some parent offers who is not past hope."""
        within_hope = (state for state in self.parents if state.hopeless_until <= now)
        return {n for state in within_hope for n in state.offers if self._content.lacks(n)}

    def hopeful(self, now: float) -> bool:
        """Something may still come from the parents: on its way, offered, or yet to be offered."""
        return (
            self.flights > 0
            or self._reserve.due_at < inf
            or any(
                p.listing or p.reconnect_at is not None or p.meta_asked_at is not None
                for p in self.parents
            )
            or any(not self._at_source(n) for n in self.promised(now))
        )

    def suffices(self) -> bool:
        """The parents offer all that is missing."""
        missing = self._content.missing()
        offered = self.offered()
        return missing is not None and all(number in offered for number in missing)

    def silent(self, now: float) -> tuple[str, ...]:
        """Parents that have not been heard of for as long as a stall takes."""
        since = now - self._limits.stall_timeout_s
        return tuple(p.peer_id for p in self.parents if p.heard_at <= since)

    def next_wake(self, now: float) -> float | None:
        """When `fill` or `tend` may have something to do although nothing happens."""
        late_s, in_earnest_s = self._late_s, self._lateness.late_s(self._flights.full)
        moments: list[float] = []
        for state in self.parents:
            moments.extend(self._lateness.moments(state, now))
            for flight in state.in_flight.values():
                moments.append(flight.deadline)
                if late_s is not None and in_earnest_s is not None:
                    moments.append(flight.asked_at + in_earnest_s)
                    moments.append(max(flight.asked_at + late_s, flight.spared_until))
                if flight.doubted_at is not None:
                    moments.append(flight.doubted_at + ANSWER_S)
            moments.extend(state.moments())
        if not self.flights and any(p.is_far and p.offers for p in self.parents):
            moments.append(self._busy_at + self._limits.far_patience_s)
        moments.extend(at for at in (self._reserve.due_at, self._far.helps_at) if at < inf)
        if self.reader is not None:
            moments.append(self.reader.since + self._limits.reader_patience_s)
        return min((m for m in moments if m > now), default=None)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _slots(self) -> int:
        """How many pieces may be in flight: more where each of them takes few of many round trips.

        The shortest wait counts: behind a queue all waits are long, and more pieces would make them
        longer still. Fewer where several downloads share a link that is full, or may be.
        """
        limits = self._limits
        is_far = (
            self._waits >= limits.wide_after_pieces and self._wait_s >= limits.wide_round_trip_s
        )
        is_long = (self._content.count or 0) >= limits.wide_piece_count
        slots = self._most if is_far or is_long else self._fewest
        usual_s = self._lateness.usual_s
        if usual_s is not None and usual_s < limits.quick_piece_s:
            return slots
        return -(-slots // max(1, self._downloads()))

    def _situation(self, now: float) -> Situation:
        return Situation(
            content=self._content,
            parents=self.parents,
            limits=self._limits,
            taken=self._is_taken,
            reader=self.reader,
            flights=self.flights,
            dry_since=self._busy_at,
            far_share=self._far.share,
            may_help=self._far.helps_at <= now,
        )

    @property
    def _awaits_far(self) -> bool:
        """A gateway to which nobody far offers anything: its idling is not the others' fault."""
        return self._far.share is not None and not any(p.is_far and p.offers for p in self.parents)

    def _see_off(self, out: list[DownloadEffect]) -> None:
        """Those who leave and have nothing on its way any more are gone."""
        for state in [p for p in self.parents if p.leaving and not p.in_flight]:
            self._leave(state, CancelReason.DROPPED, out)
            self.parents.remove(state.peer_id, has_failed=False)

    def _is_taken(self, number: int) -> bool:
        return number in self._flights or self._at_source(number)

    def _misfit(self, piece: Piece) -> str | None:
        if piece.number >= self._limits.max_piece_count:
            return f"piece {piece.number} is beyond any content"
        return self._content.misfit(piece)

    def _ask(
        self,
        state: ParentState,
        number: int,
        now: float,
        out: list[DownloadEffect],
        *,
        is_exclusive: bool = False,
        is_passed_on: bool = False,
    ) -> None:
        offered = state.coming[number] if is_passed_on else state.offers[number]
        limits = self._limits
        timeout_s = limits.piece_timeout_s + offered.length / limits.slowest_rate_bytes_per_s
        timeout_s *= limits.passed_on_patience if is_passed_on else 1.0
        deadline = now + timeout_s + limits.guard_s
        flight = Flight(
            number=number,
            asked_at=now,
            deadline=deadline,
            length=offered.length,
            concurrency=self._flights.full + 1,
            is_passed_on=is_passed_on,
        )
        self._flights.begin(state, flight)
        out.append(
            FetchPiece(
                peer_id=state.peer_id,
                number=number,
                offset=offered.offset,
                length=offered.length,
                timeout_s=timeout_s,
                decision=self.parents.decision_of(state.peer_id),
                concurrency=self.flights,
                is_patient=not (self._limits.impatient and self._has_other(state)),
                is_exclusive=is_exclusive,
                is_passed_on=is_passed_on,
                is_told=limits.pass_on and tells_coming(self.parents),
                is_early=state.foreseen or not self._content.learned,
            )
        )

    def _may_ask_early(self) -> bool:
        """Nothing is on its way, and a parent of a content of one piece has it all."""
        return not self.flights and any(p.foreseen for p in self.parents)

    def _has_other(self, state: ParentState) -> bool:
        """Another parent offers something that is missing."""
        lacks = self._content.lacks
        return any(any(map(lacks, p.offers)) for p in self.parents if p is not state)

    def _cancel(
        self,
        state: ParentState,
        number: int,
        why: CancelReason,
        now: float,
        out: list[DownloadEffect],
    ) -> None:
        state.count_fruitless(now)
        if self._flights.stop(state, number):
            out.append(CancelPiece(peer_id=state.peer_id, number=number, reason=why))

    def _leave(self, state: ParentState, why: CancelReason, out: list[DownloadEffect]) -> None:
        self._flights.leave(state)
        out.append(DropParent(peer_id=state.peer_id, reason=why))

    def _report(
        self,
        state: ParentState,
        number: int | None,
        out: list[DownloadEffect],
        *,
        wrong_digest: bool = False,
        by_list: bool = False,
    ) -> None:
        message = PieceFailed(
            parent_id=state.peer_id,
            number=number,
            temporary=True,
            wrong_digest=wrong_digest,
            by_list=by_list,
        )
        self._conversation.say(message, out)

    def _strike(self, state: ParentState, number: int | None, out: list[DownloadEffect]) -> None:
        state.strikes += 1
        if state.strikes >= self._limits.max_strikes:
            self._leave(state, CancelReason.FAILED, out)
            self.parents.remove(state.peer_id)
            self._report(state, number, out)

    def _make_room(self, now: float, out: list[DownloadEffect]) -> None:
        """Parents that have nothing more to give, or are past hope, make room for new ones."""
        if len(self.parents) < self._limits.max_parents:
            return
        idle = [state for state in self.parents if not state.in_flight]
        useless = [state for state in idle if state.finished and not state.offers]
        useless += [state for state in idle if state.hopeless_until > now]
        if useless:
            self._leave(useless[0], CancelReason.DROPPED, out)
            self.parents.remove(useless[0].peer_id)

    # --- late transfers, and parents past hope --------------------------------------------------

    @property
    def _late_s(self) -> float | None:
        """As `late_s`, but with `spare_late` sooner where nothing is left to ask for."""
        return self._lateness.late_s(self._flights.full, at_end=self._flights.full < self._slots)

    def _help_late(self, now: float, out: list[DownloadEffect]) -> None:
        late_s = self._late_s
        if late_s is None:
            return
        late = sorted(
            (f.asked_at, p.peer_id, n)
            for p in self.parents
            for n, f in p.in_flight.items()
            if now >= max(f.asked_at + late_s, f.spared_until) and self._flights.copies(n) == 1
        )
        for _, peer_id, number in late:
            slow = self.parents.get(peer_id)
            if slow is not None and self._is_judged(slow, number, now, out):
                self._help(slow, number, now, out)

    def _is_judged(
        self, slow: ParentState, number: int, now: float, out: list[DownloadEffect]
    ) -> bool:
        """How far a late transfer is has been asked, and told, or it is not known."""
        if not self._limits.spare_late:
            return True
        flight = slow.in_flight[number]
        if flight.doubted_at is None:
            flight.doubted_at = now
            out.append(AskProgress(peer_id=slow.peer_id, number=number))
        return now >= flight.doubted_at + ANSWER_S

    def _help(self, slow: ParentState, number: int, now: float, out: list[DownloadEffect]) -> None:
        if slow.in_flight[number].is_passed_on:  # had in another way, as if it had broken off
            self.parents.does_not_pass(slow, number, is_broken_off=True)
            self._cancel(slow, number, CancelReason.LATE, now, out)
            return
        limits = self._limits
        full = self._flights.full >= self._slots
        replaced = self._replaced.get(number, 0)
        if full and not (limits.replace_slow and replaced < limits.max_replacements):
            return
        if not full and not limits.hedge:
            return
        in_earnest_s = self._lateness.late_s(self._flights.full)
        helper = choose_helper(self._situation(now), number, slow, self._rng, now, in_earnest_s)
        if helper is None:
            return
        if full:
            self._cancel(slow, number, CancelReason.LATE, now, out)
            slow.avoid_until = max(slow.avoid_until, now + limits.slow_avoid_s)
            self._replaced[number] = replaced + 1
        self._ask(helper, number, now, out)

    def _leave_hopeless(self, now: float, out: list[DownloadEffect]) -> None:
        for state in self.parents:
            flight = state.oldest
            look_at = self._lateness.look_at(state, now)
            if flight is not None and look_at is not None and look_at <= now:
                flight.looked_at = now
                out.append(AskProgress(peer_id=state.peer_id, number=flight.number))
            if flight is None or not self._lateness.is_hopeless(state, now):
                continue
            state.avoid_until = state.hopeless_until = now + self._limits.hopeless_avoid_s
            self._report(state, flight.number, out)
            for number in list(state.in_flight):
                if self._is_held_elsewhere(number, state, now):
                    self._cancel(state, number, CancelReason.LATE, now, out)
            state.begin_anew(now)
            state.weight = 1.0 / self._limits.hopeless_factor

    def _is_held_elsewhere(self, number: int, state: ParentState, now: float) -> bool:
        """Somebody else among the parents could bring it, who is not past hope, too."""
        others = (other for other in self.parents if other is not state)
        return any(number in other.offers and other.hopeless_until <= now for other in others)
