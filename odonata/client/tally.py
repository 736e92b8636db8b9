"""How far a download is, and how it ended: bytes by where they came from. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from odonata.wire.dragonfly import TaskStarted
from odonata.wire.dragonfly.parent import content_length_from_wire
from odonata.wire.message import Piece, TrafficType, Value


class Progress(Value, frozen=True, kw_only=True):
    """How far a download is. Bytes; `content_length` None: not known yet.

    `from_local`: this host held them already.
    """

    content_length: int | None = None
    from_source: int = 0
    from_peers: int = 0
    from_local: int = 0

    @property
    def arrived(self) -> int:
        """Bytes so far."""
        return self.from_source + self.from_peers + self.from_local


class Downloaded(Value, frozen=True, kw_only=True):
    """A file that is there, whole and checked. Bytes and seconds."""

    url: str
    path: Path
    task_id: str
    content_length: int
    from_source: int
    from_peers: int
    from_local: int
    duration_s: float


OnProgress = Callable[[Progress], None]


class Tally:
    """Counts."""

    def __init__(self) -> None:
        self.content_length: int | None = None
        self._bytes = dict.fromkeys(TrafficType, 0)

    def start(self, content: TaskStarted) -> None:
        """The first message."""
        self.content_length = content_length_from_wire(content.content_length, len(content.pieces))

    def add(self, piece: Piece) -> None:
        """A piece is here."""
        self._bytes[piece.traffic_type] += piece.length

    @property
    def progress(self) -> Progress:
        """Until now."""
        return Progress(
            content_length=self.content_length,
            from_source=self._bytes[TrafficType.BACK_TO_SOURCE],
            from_peers=self._bytes[TrafficType.REMOTE_PEER],
            from_local=self._bytes[TrafficType.LOCAL_PEER],
        )

    def end(self, url: str, path: Path, task_id: str, duration_s: float) -> Downloaded:
        """The file is there."""
        progress = self.progress
        return Downloaded(
            url=url,
            path=path,
            task_id=task_id,
            content_length=progress.arrived,
            from_source=progress.from_source,
            from_peers=progress.from_peers,
            from_local=progress.from_local,
            duration_s=duration_s,
        )
