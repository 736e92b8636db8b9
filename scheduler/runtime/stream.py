"""The answering side of one AnnouncePeer stream: whose it is, and how it ends.

Answers come from the core at any time, also when another peer's message brought them about. The
outlet sends them in order, as fast as the client reads, and bounds how many may wait.
"""

from __future__ import annotations

from odonata.errors import OdonataError
from odonata.grpc_service import Outlet
from odonata.wire.dragonfly import answer_to_wire
from odonata.wire.message import SchedulerAnswer


class PeerStream:
    """One stream. `close` decides how it ends; the first one counts."""

    __slots__ = ("_outlet", "closed", "owner")

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.owner: tuple[str, str] = ("", "")
        """Host and task id of the peer, once it has registered."""
        self.closed = False
        """Whether it is decided how the stream ends (answers may still be on their way)."""

    def answer(self, answer: SchedulerAnswer) -> bool:
        """Send `answer`; False if the stream ends instead, because it is closed or never read."""
        if self.closed:
            return False
        if not self._outlet.write(answer_to_wire(answer)):
            self.closed = True
            return False
        return True

    def close(self, error: OdonataError | None = None) -> None:
        """End the stream after the answers so far: OK, or with `error`."""
        if not self.closed:
            self.closed = True
            self._outlet.end(error)
