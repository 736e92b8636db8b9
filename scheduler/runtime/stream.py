"""The answering side of one AnnouncePeer stream: whose it is, and how it ends.

Answers come from the core at any time, also when another peer's message brought them about. The
outlet sends them in order, as fast as the client reads, and bounds how many may wait.
"""

from __future__ import annotations

from collections.abc import Callable

from odonata.errors import OdonataError
from odonata.grpc_service import Outlet
from odonata.wire.dragonfly import answer_to_wire
from odonata.wire.message import FarShare, PieceDigests, SchedulerAnswer


class PeerStream:
    """One stream. `close` decides how it ends; the first one counts."""

    __slots__ = ("_outlet", "closed", "failed", "on_answer", "owner")

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.owner: tuple[str, str] = ("", "")
        """Host and task id of the peer, once it has registered."""
        self.on_answer: Callable[[SchedulerAnswer], None] | None = None
        """Told of each answer as it is sent, but for digests and shares, which decide nothing."""
        self.closed = False
        """Whether it is decided how the stream ends (answers may still be on their way)."""
        self.failed = False
        """Whether it ends, or has ended, with an error."""

    def answer(self, answer: SchedulerAnswer) -> bool:
        """Send `answer`; False if the stream ends instead, because it is closed or never read."""
        if self.closed:
            return False
        if not self._outlet.write(answer_to_wire(answer)):
            self.closed = self.failed = True
            return False
        if self.on_answer is not None and not isinstance(answer, PieceDigests | FarShare):
            self.on_answer(answer)
        return True

    def close(self, error: OdonataError | None = None) -> None:
        """End the stream after the answers so far: OK, or with `error`."""
        if not self.closed:
            self.closed = True
            self.failed = error is not None
            self._outlet.end(error)
