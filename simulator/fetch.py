"""One piece from one parent in a simulated world: asked for, sent, checked. It decides nothing.

    connect -> ask -> a slot, or passed on while it comes -> transfer -> check -> stored

What is passed on goes in parts: what has come to the parent and has not gone on yet, each time that
is enough to be worth sending. The last part waits until the parent has checked the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from peer.core.event import FailureReason, PieceNotFetched, PieceStored
from simulator.node import FORGED, WRONG_DIGEST, Node, Reception

if TYPE_CHECKING:
    from odonata.wire.message import Piece
    from peer.core.effect import FetchPiece
    from peer.core.run_record import Try
    from simulator.network import Network, Transfer
    from simulator.parts import Parts
    from simulator.wire import Wire
    from simulator.world import Timer, World

LEARN_S: Final = 0.001
"""How often what was asked for early looks whether the content is known by now."""
PIECE_CONNECT_S: Final = 2.0
"""How long a parent that does not answer is waited for: the daemon's piece client's time-out."""
TOLD_AFTER_S: Final = 0.1
"""A piece that has been coming for so long is told to those who might have it passed on, as a
daemon does (`peer.runtime.reception`)."""
PARTS: Final = 16
"""A piece is passed on in this many parts at most: a daemon's are smaller still."""
LOOK_S: Final = 0.005
"""The soonest look for more to pass on."""


class Place(Protocol):
    """What a fetch needs of its world."""

    world: World
    network: Network
    wire: Wire
    parts: Parts


class Taker(Protocol):
    """The download that it is for."""

    node: Node

    def fetched(self, fetch: Fetch, event: PieceStored | PieceNotFetched) -> None:
        """It came to its end."""
        ...


class Fetch:
    """One piece from one parent."""

    def __init__(
        self,
        around: Place,
        download: Taker,
        parent: Node,
        effect: FetchPiece,
        attempt: Try,
    ) -> None:
        self.effect = effect
        self.attempt = attempt
        self.parent = parent
        self.began_at_s: float | None = None
        self._around = around
        self._download = download
        self._asked_at_s = around.world.now
        self._transfer: Transfer | None = None
        self._sent = 0  # bytes that have left the parent, without those of `_transfer`
        self._part = 0  # bytes of `_transfer`
        self._is_passed_on = False
        self._reception: Reception | None = None  # what is passed on to us
        self.followers: dict[Fetch, None] = {}
        """To whom this one is passed on."""
        self._ticket: int | None = None
        self._piece: Piece | None = None  # as the parent says
        self._came = ""  # the digest that its bytes will have...
        self.content = b""  # ...and the strong one
        self._given: tuple[int, ...] = ()
        self._over = False
        # Connect and ask take a round trip each; the answer's last byte another way.
        attempt.times.requested_at_s = around.world.now + 2 * parent.delay_s
        self._timer = around.world.after(3 * parent.delay_s, self._arrive)
        self._timeout = download.node.clock.after(effect.timeout_s, self._time_out)
        self._telling: Timer | None = None

    @property
    def received(self) -> int:
        """Bytes that have left the parent."""
        transfer = self._transfer
        if transfer is None:
            return self._sent
        passed_s = self._around.world.now - transfer.since_s
        return int(self._sent + self._part - transfer.left + transfer.rate * passed_s)

    @property
    def piece(self) -> Piece | None:
        """What the parent says of it, None before it begins to send."""
        return self._piece

    def stop(self) -> None:
        self._over = True
        self._timer.cancel()
        self._timeout.cancel()
        if self._telling is not None:
            self._telling.cancel()
        self._download.node.receives_no_more(self)
        for follower in list(self.followers):
            self._around.world.after(0.0, follower.look)
        if self._transfer is not None:
            self._around.network.stop(self._transfer)
        self._free_slot()

    def go(self) -> None:
        """The parent has a slot for it."""
        parent, network = self.parent, self._around.network
        self._begin(parent.held[self.effect.number])
        length, then = self._judge(), self._check
        if parent.trouble == "cut":
            length, then = length // 2, self.broke
        self._part = length
        self._transfer = network.send(parent.link, self._download.node.link, length, then)
        if parent.trouble == "stall":
            network.hold(self._transfer)

    def _begin(self, piece: Piece) -> None:
        """The first byte is on its way."""
        world, node = self._around.world, self._download.node
        self._piece = piece
        self.began_at_s = world.now
        self.attempt.times.first_byte_at_s = world.now + self.parent.delay_s
        self._telling = world.after(TOLD_AFTER_S, lambda: node.receives(self))

    def _judge(self) -> int:
        """What its bytes will turn out to be; how many they are."""
        parent = self.parent
        piece = parent.held[self.effect.number]
        is_wrong = parent.lie == "digest" or parent.trouble == "corrupt"
        self._came = WRONG_DIGEST if is_wrong else piece.digest
        self.content = FORGED if parent.lie == "forgery" else parent.content[piece.number]
        return piece.length

    def _pass_on(self) -> None:
        """Send what has come to the parent meanwhile; all, once it has the piece."""
        parent, number, piece = self.parent, self.effect.number, self._piece
        reception = self._reception
        self._transfer = None
        if self._over:
            return
        assert piece is not None, "it began"
        if number in parent.held:
            left, then = self._judge() - self._sent, self._check
        else:
            assert reception is not None, "or it broke off"
            left, then = min(reception.received, piece.length - 1) - self._sent, self._passed
            if left < max(1, piece.length // PARTS):
                self._timer = self._around.world.after(LOOK_S, self._pass_on)
                return
        if left <= 0:
            then()
            return
        self._part = left
        self._transfer = self._around.network.send(
            parent.link, self._download.node.link, left, then
        )

    def look(self) -> None:
        """What is passed on to us has ended: the parent has it now, or it broke off."""
        if not self._over and self.effect.number not in self.parent.held:
            self._free_slot()
            self._fail(FailureReason.BROKEN_OFF)

    def _passed(self) -> None:
        self._sent += self._part
        self._pass_on()

    def broke(self) -> None:
        """The connection broke, or the parent died."""
        self._free_slot()
        self._fail(FailureReason.UNREACHABLE)

    def _arrive(self) -> None:
        """The request reaches the parent."""
        parent = self.parent
        if not self._around.wire.joins(self._download.node.name, parent.name):
            unreachable = FailureReason.UNREACHABLE
            self._timer = self._around.world.after(
                PIECE_CONNECT_S, lambda: self._answer(unreachable)
            )
        elif not parent.alive:
            self._fail(FailureReason.UNREACHABLE)
        elif self.effect.number not in parent.held:
            self._join_reception(parent)
        else:
            self._join(parent, self.effect)

    def _join_reception(self, parent: Node) -> None:
        """It is not there yet, and is passed on if that was asked for."""
        reception = parent.receptions.get(self.effect.number)
        piece = None if reception is None else reception.piece
        if not self.effect.is_passed_on or reception is None or piece is None:
            self._fail(FailureReason.NOT_FOUND)
        elif not parent.pass_on(piece.number):
            self._fail(FailureReason.REFUSED)
        else:
            self._is_passed_on, self._reception = True, reception
            reception.followers[self] = None
            self._begin(piece)
            self._pass_on()

    def _join(self, parent: Node, effect: FetchPiece) -> None:
        """A slot, or a place in the queue; or why there is none."""
        child = self._download.node.host.id
        self._given = parent.given(effect.number, child) if effect.is_exclusive else ()
        if self._given:
            self._fail(FailureReason.GIVEN)
            return
        self._ticket = parent.ask(effect.number, self, child=child, is_patient=effect.is_patient)
        if self._ticket is None:
            self._fail(FailureReason.REFUSED)

    def _free_slot(self, *, is_whole: bool = False) -> None:
        if self._is_passed_on:
            self._is_passed_on = False
            if self._reception is not None:
                self._reception.followers.pop(self, None)
            self.parent.passed_on(self.effect.number)
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self.parent.leave(ticket, is_whole=is_whole)

    def _check(self) -> None:
        """The last byte has left; a delay later it is here, and its digest is looked at."""
        self._transfer = None
        self._sent += self._part
        self._free_slot(is_whole=True)
        self._around.wire.carry(self.parent.name, self._download.node.name, self._store)

    def _store(self) -> None:
        if self._over:
            return
        assert self._piece is not None, "what comes was sent"
        if not self._download.node.learned:  # asked early
            self._timer = self._around.world.after(LEARN_S, self._store)
            return
        if not self._around.parts.accepts(self._piece.digest, self._came):
            self._answer(FailureReason.DIGEST)
            return
        listed = self._download.node.listed.get(self._piece.number, b"")
        if listed and not self._around.parts.is_listed(listed, self.content):
            self._answer(FailureReason.LISTED_DIGEST)
            return
        took_s = self._around.world.now - self._asked_at_s
        stored = replace(
            self._piece,
            digest=self._came,
            strong_digest=listed,
            parent_id=self.effect.peer_id,
            cost_s=took_s,
        )
        self.stop()
        stored_event = PieceStored(
            peer_id=self.effect.peer_id,
            piece=stored,
            began_s=self._since(self.attempt.times.first_byte_at_s),
            wait_s=self._wait_s(),
        )
        self._download.fetched(self, stored_event)

    def _since(self, at_s: float | None) -> float | None:
        return None if at_s is None else self._around.world.now - at_s

    def _wait_s(self) -> float | None:
        """From asking to the first byte, the connection not counted."""
        asked_s, first_s = self.attempt.times.requested_at_s, self.attempt.times.first_byte_at_s
        return None if asked_s is None or first_s is None else first_s - asked_s

    def _time_out(self) -> None:
        self._answer(FailureReason.TIMEOUT)

    def _fail(self, reason: FailureReason) -> None:
        """Known to the parent's side now, to the child a delay later."""
        if self._transfer is not None:
            self._around.network.stop(self._transfer)
            self._transfer = None
        self._timer.cancel()
        self._around.wire.carry(
            self.parent.name, self._download.node.name, lambda: self._answer(reason)
        )

    def _answer(self, reason: FailureReason) -> None:
        if self._over:
            return
        self.stop()
        number, peer_id = self.effect.number, self.effect.peer_id
        event = PieceNotFetched(peer_id=peer_id, number=number, reason=reason, given=self._given)
        self._download.fetched(self, event)
