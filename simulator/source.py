"""The simulated origin: one content behind one uplink, and the requests for it.

A request reads the content piece by piece in order. The origin may ignore ranges, may not say its
length before the end, and may die after so many bytes; then every request fails. It may also be in
trouble for a while.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from odonata.errors import is_retryable_status
from odonata.piece import piece_at, piece_count
from odonata.wire.message import Piece, SourceAnswer, TrafficType
from peer.core.effect import FetchSource
from peer.core.event import (
    DownloadEvent,
    SourceEnded,
    SourceFailed,
    SourceOpened,
    SourcePieceStored,
)
from peer.core.run_record import STOPPED, RunRecord, Try
from simulator.network import Link, Network, Transfer
from simulator.node import Node, right_digest, strong_digest
from simulator.scenario import Scenario
from simulator.wire import SOURCE, Wire
from simulator.world import World

SourceMood = Literal["not found", "unavailable", "refuse", "cut", "stall"]
"""What becomes of requests: 404, 503, no connection, a body that breaks off or comes to a halt."""

_STATUSES = {"not found": 404, "unavailable": 503}

HEAD_S = 10.0
"""How long a source that does not answer is waited for: the daemon's time-out."""

SOURCE_ERROR = "source"
"""Why a try failed: what the origin's errors are called."""


class Asker(Protocol):
    """A download that asks the source."""

    node: Node

    def give(self, event: DownloadEvent) -> None:
        """Take the source's answer."""
        ...

    def fails_to_keep(self) -> bool:
        """Whether the next piece finds no room."""
        ...


class Source:
    """The origin of a world."""

    def __init__(self, world: World, network: Network, wire: Wire, scenario: Scenario) -> None:
        idc = "idc1" if scenario.idcs > 1 else ""
        far_s = scenario.source_delay_s
        delay_s = scenario.delay_s if far_s is None else far_s
        self.link = Link(SOURCE, up=scenario.source_up, delay_s=delay_s, idc=idc)
        self.requests = 0
        self.askers: set[str] = set()  # by name of the node
        self.alive = True
        self.mood: SourceMood | None = None
        self.world = world
        self.network = network
        self.wire = wire
        self.scenario = scenario
        self._promised = 0
        self._open: dict[SourceRequest, None] = {}

    def ask(
        self, asker: Asker, first: int, order: FetchSource | None, record: RunRecord
    ) -> SourceRequest:
        """A new request; it answers with events."""
        self.requests += 1
        self.askers.add(asker.node.name)
        request = SourceRequest(self, asker, first, order, record)
        self._open[request] = None
        return request

    def close(self, request: SourceRequest) -> None:
        self._open.pop(request, None)

    def grant(self, n_bytes: int) -> int:
        """How many of the next `n_bytes` it will live to send."""
        limit = self.scenario.faults.source_dies_after_bytes
        granted = n_bytes if limit is None else max(0, min(n_bytes, limit - self._promised))
        self._promised += granted
        return granted

    def die(self) -> None:
        """Every request fails, now and ever after."""
        if self.alive:
            self.alive = False
            self.world.note("source", "died")
            self.break_all()

    def break_all(self) -> None:
        """Every request that runs breaks."""
        for request in list(self._open):
            request.fail("connection reset by the origin")


class SourceRequest:
    """One request of one download, from piece `first` on."""

    def __init__(
        self,
        source: Source,
        asker: Asker,
        first: int,
        order: FetchSource | None,
        record: RunRecord,
    ) -> None:
        self.first = first
        self._record = record
        self._attempt: Try | None = None if order is None else record.from_source(first)
        self._source = source
        self._asker = asker
        self._node = asker.node
        self._order = order
        self._give = asker.give
        self._is_open = False
        self._stopped = False
        self._transfer: Transfer | None = None
        self._began_at_s = 0.0
        # Connect, then ask: two round trips.
        source.world.after(4 * source.link.delay_s, self._answer)

    @property
    def over(self) -> bool:
        """It was stopped, failed, or came to its end."""
        return self._stopped

    def fetch(self, order: FetchSource) -> None:
        """Go on with what was opened."""
        self._order = order
        if self._is_open:
            self._next_piece(self.first)

    def stop(self) -> None:
        self._stopped = True
        if self._attempt is not None:
            self._attempt.cancelled(STOPPED)
        if self._transfer is not None:
            self._source.network.stop(self._transfer)
        self._source.close(self)

    def fail(self, reason: str, status: int | None = None) -> None:
        """It comes to nothing; `status`: what the source answered, if anything."""
        if not self._stopped:
            if self._attempt is not None:
                self._attempt.failed(SOURCE_ERROR)
            self.stop()
            answer = None if status is None else SourceAnswer(message=reason, status_code=status)
            fatal = not is_retryable_status(status)
            event = SourceFailed(first=self.first, reason=reason, answer=answer, fatal=fatal)
            self._give(event)

    def _answer(self) -> None:
        if self._stopped or self._has_no_answer():
            return
        scenario = self._source.scenario
        order = self._order  # what comes of the event below is carried out by `fetch`
        self._is_open = True
        length = scenario.size if scenario.source_says_length else None
        self._give(SourceOpened(content_length=length, ranges=scenario.source_ranges))
        ignored = self.first > 0 and not scenario.source_ranges
        if order is not None and not self.over and not ignored:
            self._next_piece(self.first)

    def _has_no_answer(self) -> bool:
        """Whether there is nothing to read: an error, or silence."""
        source = self._source
        mood = source.mood
        if not source.wire.joins(self._node.name, SOURCE):
            source.world.after(HEAD_S, lambda: self.fail("the origin does not answer"))
        elif not source.alive or mood == "refuse":
            self.fail("connection refused by the origin")
        elif mood is not None and mood in _STATUSES:
            self.fail(f"the origin answered {_STATUSES[mood]}", _STATUSES[mood])
        else:
            return False
        return True

    def _next_piece(self, number: int) -> None:
        order, size = self._order, self._source.scenario.size
        assert order is not None, "copies only what was ordered"
        piece_length = self._node.piece_length
        assert piece_length is not None, "the core learns before it fetches"
        last = piece_count(size, piece_length) - 1
        if number > (last if order.last is None else min(last, order.last)):
            self._attempt = None
            self.stop()
            self._give(SourceEnded(first=self.first, content_length=size))
            return
        offset, length = piece_at(number, size, piece_length)
        self._begin_attempt(number, order, length)
        source = self._source
        granted = source.grant(length)
        is_cut = source.mood == "cut"
        if is_cut:
            granted //= 2
        self._began_at_s = self._source.world.now
        piece = Piece(
            number=number,
            offset=offset,
            length=length,
            digest=right_digest(number),
            strong_digest=strong_digest(number) if self._node.is_ours else b"",
            traffic_type=TrafficType.BACK_TO_SOURCE,
        )

        def done() -> None:
            self._transfer = None
            took_s = self._source.world.now - self._began_at_s
            if is_cut:
                self.fail("connection reset by the origin")
            elif granted < length:
                source.die()
            else:
                self._keep(msgspec.structs.replace(piece, cost_s=took_s))

        self._transfer = source.network.send(source.link, self._node.link, granted, done)
        if source.mood == "stall":
            source.network.hold(self._transfer)

    def _begin_attempt(self, number: int, order: FetchSource, length: int) -> None:
        """The first piece's began with the request; none for what is only read past."""
        if number in order.skip:
            self._attempt = None
            return
        if self._attempt is None or self._attempt.number != number:
            self._attempt = self._record.from_source(number)
        self._attempt.length = length
        # The first byte comes at once: the answer has begun, and bytes follow each other.
        times = self._attempt.times
        times.requested_at_s = times.first_byte_at_s = self._source.world.now

    def _keep(self, piece: Piece) -> None:
        assert self._order is not None, "copies only what was ordered"
        if piece.number not in self._order.skip:
            if self._asker.fails_to_keep():
                self.stop()
                return
            self._node.store(piece, strong_digest(piece.number))
            if self._attempt is not None:
                self._attempt.ok(piece.length)
            self._give(SourcePieceStored(piece=piece))
        if not self._stopped:
            self._next_piece(piece.number + 1)
