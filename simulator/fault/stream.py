"""The streams between peers and scheduler in a world with faults, each end with its own view.

A stream may be over for one end and not for the other: each learns of it when a word gets through,
or when it has heard nothing for so long that it gives the connection up.

What a daemon does about it is done here, too: a scheduler that does not know the host, because it
was restarted, is told of it, and the download registers once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from odonata.errors import NotFoundError
from odonata.wire.message import PeerMessage, SchedulerAnswer
from peer.core.event import DownloadEvent, SchedulerAnswered
from scheduler.core.event import PeerSpoke, StreamClosed
from simulator.wire import SCHEDULER

if TYPE_CHECKING:
    from odonata.errors import OdonataError
    from simulator.fault.place import HarshPlace
    from simulator.node import Node

SERVER_SILENCE_S: Final = 80.0
"""After so much silence the scheduler gives a stream up: 60 s to a ping, 20 s for the answer."""
CLIENT_SILENCE_S: Final = 320.0
"""The same for whoever opened a stream, to the scheduler or to a parent: 300 s and 20 s."""
NEVER: Final = -1


class Speaker(Protocol):
    """Who talks to the scheduler: a download, or a report of what is held."""

    node: Node
    peer_id: str
    task_id: str

    def give(self, event: DownloadEvent) -> None:
        """Hear an answer."""
        ...

    def stream_ended(self, reason: str) -> None:
        """The stream is over, from the scheduler's side or in between."""
        ...


class Stream:
    """One AnnouncePeer stream."""

    def __init__(self, place: HarshPlace, speaker: Speaker, *, resumes: bool = False) -> None:
        self.place = place
        self._resumes = resumes
        self.speaker = speaker
        self.is_open = True  # for the peer
        self.life = NEVER  # of the scheduler that took it
        self.is_heard = False  # for that scheduler it is open
        self._unanswered: list[PeerMessage] = []
        self._is_answered = False
        self._is_second = False
        self._give_up_if_unheard()

    @property
    def host(self) -> str:
        return self.speaker.node.name

    # --- the peer's end -------------------------------------------------------------------------

    def say(self, message: PeerMessage) -> None:
        """The peer says something."""
        if self.is_open:
            if not self._is_answered:
                self._unanswered.append(message)
            self._send(message)

    def close(self) -> None:
        """The peer's process ends the stream; the scheduler hears of it if it can."""
        self.is_open = False
        self.place.wire.carry(self.host, SCHEDULER, self.be_closed, stream=self.speaker.peer_id)

    def lose(self, reason: str) -> None:
        """The peer gives it up, or learns that it is over."""
        if self.is_open:
            self.is_open = False
            self.place.contacts[self.host].suspect()
            self.speaker.stream_ended(reason)

    def hear(self, answer: SchedulerAnswer) -> None:
        """An answer has arrived."""
        if self.is_open:
            self._is_answered = True
            self._unanswered.clear()
            self.speaker.give(SchedulerAnswered(answer=answer))

    def end(self, error: OdonataError | None) -> None:
        """The scheduler's end of it has arrived."""
        if not self.is_open:
            return
        is_stranger = isinstance(error, NotFoundError)
        if is_stranger and not self._is_answered and not self._is_second:
            self._is_second = True
            self.place.contacts[self.host].announce(self._say_again)
            return
        self.is_open = False
        if is_stranger:
            self.place.contacts[self.host].suspect()
        self.speaker.stream_ended("ended" if error is None else error.detail)

    # --- the scheduler's end --------------------------------------------------------------------

    def be_closed(self) -> None:
        """The scheduler learns that it is over, or gives it up."""
        if self.is_heard and self.life == self.place.life:
            self.is_heard = False
            self.place.tell(StreamClosed(peer_id=self.speaker.peer_id))

    def reset(self) -> None:
        """The scheduler's system tells the peer that there is no such stream."""
        self.place.wire.carry(
            SCHEDULER,
            self.host,
            lambda: self.lose("connection reset"),
            stream=self.speaker.peer_id,
        )

    # --- inside ---------------------------------------------------------------------------------

    def _send(self, message: PeerMessage) -> None:
        def arrive() -> None:
            self._arrive(message)

        self.place.wire.carry(self.host, SCHEDULER, arrive, stream=self.speaker.peer_id)

    def _arrive(self, message: PeerMessage) -> None:
        place, speaker = self.place, self.speaker
        if place.scheduler is None or (self.life not in (NEVER, place.life)):
            self.reset()
            return
        if self.life == NEVER:
            self.life, self.is_heard = place.life, True
        elif not self.is_heard:
            return  # it has ended the stream, and the peer will hear of it
        place.tell(
            PeerSpoke(
                host_id=speaker.node.host.id,
                task_id=speaker.task_id,
                peer_id=speaker.peer_id,
                message=message,
                is_ours=speaker.node.is_ours,
                writes_pieces=True,
                checks_pieces=speaker.node.is_ours,
                shares_far=speaker.node.is_ours,
                resumes=self._resumes and speaker.node.is_ours,
            )
        )

    def _say_again(self, is_known: bool) -> None:
        if not is_known:
            self.lose("the scheduler does not answer")
            return
        self.life = NEVER
        for message in self._unanswered:
            self._send(message)

    def _give_up_if_unheard(self) -> None:
        """A stream that is opened while there is no way hangs until it is given up."""
        place = self.place
        if not place.wire.joins(self.host, SCHEDULER):

            def give_up() -> None:
                if self.life == NEVER:
                    self.lose("no answer")

            place.world.after(CLIENT_SILENCE_S, give_up)
