"""One event's worth of work: the state, the time, and the effects gathered so far.

Every part of the core that handles events is a set of functions over a `Turn`. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odonata.errors import OdonataError
from odonata.wire.message import SchedulerAnswer
from scheduler.core import seed
from scheduler.core.effect import Answer, CloseStream, Refuse, SchedulerEffect
from scheduler.core.lifecycle import PeerState, PeerTrigger

if TYPE_CHECKING:
    from random import Random

    from models.ranker import Ranker
    from scheduler.core.limits import Limits
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState
    from scheduler.core.story import Story


@dataclass(slots=True, kw_only=True)
class Turn:
    """`now` is the time of the event in seconds; `effects` are carried out in their order."""

    state: SchedulerState
    ranker: Ranker
    rng: Random
    story: Story
    now: float
    effects: list[SchedulerEffect] = field(default_factory=list[SchedulerEffect])

    @property
    def limits(self) -> Limits:
        return self.state.limits

    def answer(self, peer: Peer, answer: SchedulerAnswer) -> None:
        """Answer the peer's Register or Reschedule; it waits no more."""
        self.state.stop_waiting(peer)
        self.effects.append(Answer(peer_id=peer.id, answer=answer))

    def close(self, peer: Peer, error: OdonataError | None = None) -> None:
        """End the peer's stream, if it is still open."""
        if peer.stream_is_open:
            peer.stream_is_open = False
            self.effects.append(CloseStream(peer_id=peer.id, error=error))

    def fail(self, peer: Peer, error: OdonataError | None = None) -> None:
        """Give the peer up: it fails, and its stream ends with `error`, OK if None."""
        if peer.state not in (PeerState.FAILED, PeerState.LEAVE):
            self.state.move_peer(peer, PeerTrigger.DOWNLOAD_FAILED, self.now)
            seed.peer_failed(self, peer)
        self.close(peer, error)

    def dismiss(self, peer: Peer, error: OdonataError | None = None) -> None:
        """Forget the peer: it leaves, and its stream ends."""
        self.state.remove_peer(peer, self.now)
        self.close(peer, error)

    def refuse(self, error: OdonataError) -> None:
        """Tell whoever caused this event that it can't be granted."""
        self.effects.append(Refuse(error=error))
