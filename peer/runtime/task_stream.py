"""DownloadTask, on both ports: a download as a stream of what has arrived.

The first message names the content, then one for each piece, those already here first; the stream
ends well when everything wanted is held, checked and, if the caller named an output, written there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    DigestMismatchError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from odonata.piece import piece_at, pieces_of_range
from odonata.wire.dragonfly import (
    DownloadProgress,
    PieceArrived,
    TaskStarted,
    content_length_to_wire,
    progress_to_wire,
)
from odonata.wire.dragonfly.feature import FEATURES_KEY
from odonata.wire.message import Download, Piece
from peer.runtime.hub import Hub
from peer.runtime.view import View

UNSIZED_STARTED: Final = "unsized-started"
"""Feature of a client: it takes a first message that does not know the content's length yet (as
UNKNOWN_CONTENT_LENGTH). Others get it once the length is known."""


class Discard(Protocol):
    """Whoever can remove a task from this host."""

    async def delete(self, task_id: str) -> None:
        """Raises NotFoundError."""
        ...


class TaskStream:
    """Serves DownloadTask calls by the hub.

    `discard`: told of a task whose content is not what its user asked for; None: it stays.
    `to_wire` writes a message.
    """

    def __init__(
        self,
        hub: Hub,
        discard: Discard | None,
        host_id: str,
        to_wire: Callable[[DownloadProgress], Any] = progress_to_wire,
    ) -> None:
        self._hub = hub
        self._discard = discard
        self._host_id = host_id
        self._to_wire = to_wire

    async def serve(
        self, download: Download, context: Any, *, linger: bool, task_id: str | None = None
    ) -> None:
        """Answer one call; `task_id`, where it does not follow from `download`.

        Errors: the hub's and the output's, as OdonataError.
        """
        if download.output_path:
            await asyncio.to_thread(_check_output, download)
        try:
            async with asyncio.timeout(download.timeout_s or None):
                await self._serve(task_id, download, context, linger=linger)
        except TimeoutError:
            raise UnavailableError(
                f"the download took more than {download.timeout_s:g} s: what arrived is kept, so "
                "asking again goes on from there; allow more time with --timeout"
            ) from None

    async def _serve(
        self, task_id: str | None, download: Download, context: Any, *, linger: bool
    ) -> None:
        if task_id is None:
            view = await self._hub.open(download, linger=linger)
        else:
            view = await self._hub.open_as(task_id, download, linger=linger)
        try:
            if not _takes_unsized(context):
                await view.sized()
            await self._send(view, _started(view), context)
            async for piece in view.pieces():
                content = None
                if download.need_piece_content:
                    content = await asyncio.to_thread(_content_of, view, piece)
                await self._send(view, PieceArrived(piece=piece, content=content), context)
            await self._done(view)
            if download.output_path:
                await view.task.export(
                    Path(download.output_path),
                    overwrite=download.overwrite,
                    force_hard_link=download.force_hard_link,
                )
        finally:
            await view.close()

    async def _done(self, view: View) -> None:
        try:
            await view.done()
        except DigestMismatchError:
            # What the source sent is wrong for this user: asking again must not find it here.
            if self._discard is not None:
                with suppress(NotFoundError):
                    await self._discard.delete(view.task_id)
            raise

    async def _send(self, view: View, step: TaskStarted | PieceArrived, context: Any) -> None:
        progress = DownloadProgress(
            host_id=self._host_id, task_id=view.task_id, peer_id=view.peer_id, step=step
        )
        await context.write(self._to_wire(progress))


def _started(view: View) -> TaskStarted:
    length = view.content_length
    pieces: tuple[Piece, ...] = ()
    if length is not None:
        pieces = tuple(
            Piece(number=number, offset=offset, length=n_bytes)
            for number in pieces_of_range(view.download.range, length, view.piece_length)
            for offset, n_bytes in [piece_at(number, length, view.piece_length)]
        )
    return TaskStarted(
        content_length=content_length_to_wire(length),
        range=view.download.range,
        response_header=dict(view.response_header),
        pieces=pieces,
        is_finished=view.was_local,
    )


def _content_of(view: View, piece: Piece) -> bytes:
    fd = view.task.open_fd()
    try:
        data = os.pread(fd, piece.length, piece.offset)
    except OSError as error:
        raise StorageError(f"piece {piece.number} can't be read: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(data) != piece.length:
        raise StorageError(f"piece {piece.number} is shorter on disk than its index says")
    return data


def _takes_unsized(context: Any) -> bool:
    return any(
        key == FEATURES_KEY and UNSIZED_STARTED in str(value).split(",")
        for key, value in context.invocation_metadata() or ()
    )


def _check_output(download: Download) -> None:
    """What would fail at the end fails now, before anything is moved."""
    path = Path(download.output_path or "")
    if not path.is_absolute():
        raise CallerError(f"output_path {str(path)!r} is not absolute: write it from the root on")
    if download.range is not None:
        raise CallerError("output_path and range do not go together: an output is a whole content")
    if path.is_dir():
        raise AlreadyExistsError(f"{path} is a folder: name the file in it")
    if not download.overwrite and os.path.lexists(path):
        raise AlreadyExistsError(
            f"{path} exists: choose another name, or overwrite it (odonata get --overwrite)"
        )
    if not path.parent.is_dir():
        raise CallerError(f"there is no folder {path.parent}: make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StorageError(
            f"the daemon may not write into {path.parent}: give its user write access there, or "
            "choose another folder"
        )
