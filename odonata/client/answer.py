"""What one call of DownloadTask says, message by message; and what to say to have it so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dragonfly_api import dfdaemon_pb2

from odonata.client.wish import features_of
from odonata.errors import ProtocolError
from odonata.wire.dragonfly import PieceArrived, TaskStarted, progress_from_wire
from odonata.wire.dragonfly.content_file import ContentFile, content_file_in
from odonata.wire.dragonfly.feature import (
    CONTENT_FILE,
    FEATURES_KEY,
    IN_ORDER,
    PIECES_TOGETHER,
    UNSIZED_STARTED,
)
from odonata.wire.message import Download, Value

_GRACE_S: Final = 5.0


class Began(Value, frozen=True, kw_only=True):
    """The first message."""

    task_id: str
    started: TaskStarted
    content_file: ContentFile | None = None


def began_in(message: dfdaemon_pb2.DownloadTaskResponse) -> Began:
    """Read the first message. Raises ProtocolError."""
    progress = progress_from_wire(message)
    if not isinstance(progress.step, TaskStarted):
        raise ProtocolError("the daemon named a piece before the content: update it")
    return Began(
        task_id=progress.task_id,
        started=progress.step,
        content_file=content_file_in(message.download_task_started_response),
    )


def arrived_in(message: dfdaemon_pb2.DownloadTaskResponse) -> PieceArrived:
    """Read a later message. Raises ProtocolError."""
    step = progress_from_wire(message).step
    if not isinstance(step, PieceArrived):
        raise ProtocolError("the daemon named the content twice: update it")
    return step


def deadline_s(download: Download) -> float | None:
    """For the call. The daemon minds the time, and says more; this is for one that hangs."""
    return download.timeout_s + _GRACE_S if download.timeout_s else None


def to_follow(download: Download) -> Sequence[tuple[str, str]]:
    """Metadata of a call that only follows a download."""
    features = (UNSIZED_STARTED, PIECES_TOGETHER, *features_of(download))
    return ((FEATURES_KEY, ",".join(features)),)


def to_read(download: Download) -> Sequence[tuple[str, str]]:
    """Metadata of a call that reads. Where the end is known from the range, the length is, too."""
    features = [IN_ORDER, CONTENT_FILE, *features_of(download)]
    if download.range is None:
        features.append(UNSIZED_STARTED)
    return ((FEATURES_KEY, ",".join(features)),)


def to_know(download: Download) -> Sequence[tuple[str, str]]:
    """Metadata of a call that ends when it is known how long the content is."""
    return ((FEATURES_KEY, ",".join((IN_ORDER, *features_of(download)))),)
