"""What a download says to its scheduler, and whether anybody still listens.

It keeps the order that every scheduler of this protocol expects: one Register first, Started before
pieces, one terminal message, then silence. What is said when is decided by `peer.core.download`.
"""

from __future__ import annotations

from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    Download,
    Finished,
    PeerMessage,
    Register,
    Started,
)
from peer.core.effect import CloseStream, DownloadEffect, Send


class Conversation:
    """One AnnouncePeer stream at a time.

    Before `register` and after `end` or `lose`, nothing is said.
    """

    def __init__(self) -> None:
        self.open = False
        self.answered = False
        """The scheduler has answered the Register: it takes other questions now."""
        self._started = False
        self._at_source = False

    def register(
        self, download: Download, out: list[DownloadEffect], *, resumes: bool = False
    ) -> None:
        """Begin; again after `lose`, with another scheduler or the same. See `Register.resumes`."""
        self.open = True
        self.answered = False
        self._started = self._at_source = False
        out.append(Send(message=Register(download=download, resumes=resumes)))

    def say(self, message: PeerMessage, out: list[DownloadEffect]) -> None:
        if self.open:
            out.append(Send(message=message))

    def start(self, out: list[DownloadEffect]) -> None:
        """The download accepted what the scheduler said. Once is enough."""
        if not self._started and not self._at_source:
            self._started = True
            self.say(Started(), out)

    def start_source(self, description: str, out: list[DownloadEffect]) -> None:
        """The download goes to the source. Once is enough."""
        if not self._at_source:
            self._at_source = True
            self.say(BackToSourceStarted(description=description), out)

    def finish(self, out: list[DownloadEffect]) -> None:
        """Everything arrived."""
        self.start(out)
        self.end(BackToSourceFinished() if self._at_source else Finished(), out)

    def end(self, terminal: PeerMessage, out: list[DownloadEffect]) -> None:
        """Say the last word and close."""
        if self.open:
            self.say(terminal, out)
            out.append(CloseStream())
            self.open = self.answered = False

    def lose(self) -> None:
        """Nobody listens any more."""
        self.open = self.answered = False
