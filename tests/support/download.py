"""Plays scripts with one DownloadCore: events in, effects out, WakeAt kept apart."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from odonata.piece import MIB, piece_at
from odonata.wire.message import (
    Download,
    Host,
    HostType,
    NormalTask,
    Parent,
    PeerMessage,
    Piece,
    SchedulerAnswer,
    TaskFacts,
)
from peer.core.budget import Budget
from peer.core.download import DownloadCore
from peer.core.effect import DownloadEffect, FetchPiece, FetchSource, GiveUp, Send, WakeAt
from peer.core.event import (
    Begun,
    DownloadEvent,
    FailureReason,
    ParentConnected,
    ParentEnded,
    ParentHolds,
    PieceNotFetched,
    PieceStored,
    SchedulerAnswered,
    SourceOpened,
    SourcePieceStored,
    Ticked,
)
from peer.core.limits import DownloadLimits

PIECE = 4 * MIB
URL = "http://origin.test/blob"

E = TypeVar("E", bound=DownloadEffect)


def parent_of(peer_id: str, *, seed: bool = False, idc: str = "") -> Parent:
    """A parent as the scheduler names it, without facts of the content."""
    kind = HostType.SUPER if seed else HostType.NORMAL
    host = Host(
        id=f"host-{peer_id}", type=kind, hostname=peer_id, ip="127.0.0.1", port=4000, idc=idc
    )
    return Parent(peer_id=peer_id, host=host, state="Running", task=TaskFacts(id="t"))


def piece_of(number: int, length: int, piece_length: int = PIECE) -> Piece:
    """Piece `number` of a content of `length` bytes."""
    offset, size = piece_at(number, length, piece_length)
    return Piece(number=number, offset=offset, length=size, digest="crc32:1", cost_s=0.1)


class Script:
    """One download on a clock that only the script moves."""

    def __init__(
        self,
        *,
        length: int = 4 * PIECE,
        limits: DownloadLimits | None = None,
        download: Download | None = None,
        seed: int = 1,
        budget: Budget | None = None,
        idc: str = "",
    ) -> None:
        self.length = length
        self.now = 100.0
        self.wake_at: float | None = None
        self.effects: list[DownloadEffect] = []
        self.core = DownloadCore(
            limits or DownloadLimits(),
            download or Download(url=URL),
            Random(seed),
            idc=idc,
            budget=budget,
        )

    def __call__(self, event: DownloadEvent) -> list[DownloadEffect]:
        """Hand in one event; the effects but WakeAt."""
        effects = self.core.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, WakeAt):
                assert effect.at_s > self.now
                self.wake_at = effect.at_s
        told: list[DownloadEffect] = [
            effect for effect in effects if not isinstance(effect, WakeAt)
        ]
        self.effects += told
        return told

    def tick(self) -> list[DownloadEffect]:
        """Sleep until the core wants to be woken."""
        assert self.wake_at is not None, "the core did not ask to be woken"
        self.now, self.wake_at = self.wake_at, None
        return self(Ticked())

    def wait(self, span_s: float) -> list[DownloadEffect]:
        """Let time pass; the core is woken whenever it wants to be."""
        until, told = self.now + span_s, list[DownloadEffect]()
        while self.wake_at is not None and self.wake_at <= until:
            told += self.tick()
        self.now = until
        return told

    def tick_until(self, kind: type[E], *, at_most: int = 50) -> E:
        """Let time pass until an effect of `kind` comes; return it."""
        for _ in range(at_most):
            for effect in self.tick():
                if isinstance(effect, kind):
                    return effect
        raise AssertionError(f"no {kind.__name__} came; story: {self.core.story()}")

    # --- short forms ----------------------------------------------------------------------------

    def begin(self, **facts: object) -> list[DownloadEffect]:
        return self(Begun(**facts))  # type: ignore[arg-type]  # the caller names Begun's own fields

    def answer(self, answer: SchedulerAnswer) -> list[DownloadEffect]:
        return self(SchedulerAnswered(answer=answer))

    def name(self, *peer_ids: str, seeds: tuple[str, ...] = ()) -> list[DownloadEffect]:
        parents = [parent_of(p) for p in peer_ids] + [parent_of(p, seed=True) for p in seeds]
        return self.answer(NormalTask(parents=tuple(parents)))

    def connect(self, *peer_ids: str) -> list[DownloadEffect]:
        """These parents know the content."""
        return [
            effect
            for peer_id in peer_ids
            for effect in self(
                ParentConnected(
                    peer_id=peer_id,
                    content_length=self.length,
                    piece_length=PIECE,
                    response_header={"Etag": "x"},
                )
            )
        ]

    def holds(self, peer_id: str, *numbers: int) -> list[DownloadEffect]:
        pieces = tuple(piece_of(n, self.length) for n in numbers)
        return self(ParentHolds(peer_id=peer_id, pieces=pieces))

    def swarm(self, *peer_ids: str, seeds: tuple[str, ...] = ()) -> None:
        """Begin under a scheduler that names these parents, who all know the content."""
        self.begin()
        self.name(*peer_ids, seeds=seeds)
        self.connect(*peer_ids, *seeds)

    def stored(self, peer_id: str, number: int, took_s: float = 0.2) -> list[DownloadEffect]:
        """The piece arrives `took_s` after whatever happened last."""
        self.now += took_s
        return self(PieceStored(peer_id=peer_id, piece=piece_of(number, self.length)))

    def failed(self, peer_id: str, number: int, reason: FailureReason) -> list[DownloadEffect]:
        return self(PieceNotFetched(peer_id=peer_id, number=number, reason=reason))

    def ended(self, peer_id: str, *, finished: bool = True) -> list[DownloadEffect]:
        return self(ParentEnded(peer_id=peer_id, finished=finished))

    def opened(self, *, ranges: bool = True, length: int | None = -1) -> list[DownloadEffect]:
        told = self.length if length == -1 else length
        return self(SourceOpened(content_length=told, ranges=ranges))

    def from_source(self, number: int) -> list[DownloadEffect]:
        return self(SourcePieceStored(piece=piece_of(number, self.length)))

    # --- questions ------------------------------------------------------------------------------

    @property
    def said(self) -> list[PeerMessage]:
        """All messages to the scheduler so far."""
        return messages(self.effects)

    @property
    def error(self) -> str:
        """What the download gave up with."""
        (gave_up,) = of(self.effects, GiveUp)
        return gave_up.error.detail


def of(effects: Iterable[DownloadEffect], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def messages(effects: Iterable[DownloadEffect]) -> list[PeerMessage]:
    """What is said to the scheduler."""
    return [effect.message for effect in of(effects, Send)]


def kinds(effects: Iterable[object]) -> list[str]:
    """Names of effects or messages, for scripts that care about the order."""
    return [type(effect).__name__ for effect in effects]


def asked(effects: Iterable[DownloadEffect]) -> list[tuple[str, int]]:
    """Who was asked for which piece."""
    return [(effect.peer_id, effect.number) for effect in of(effects, FetchPiece)]


def runs(effects: Iterable[DownloadEffect]) -> list[tuple[int, int | None]]:
    """First and last piece of what was asked from the source."""
    return [(effect.first, effect.last) for effect in of(effects, FetchSource)]
