"""DownloadTask, on both ports: a download as a stream of what has arrived.

The first message names the content, then one for each piece, those already here first; the stream
ends well when everything wanted is held, checked and, if the caller named an output, written there.
A reader of ours is told the pieces in the order of the content and where they lie (`feature`), so
that it need not have their bytes sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

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
from odonata.wire.dragonfly.content_file import ContentFile, say_content_file
from odonata.wire.dragonfly.feature import (
    CONTENT_FILE,
    IN_ORDER,
    PIECES_TOGETHER,
    UNSIZED_STARTED,
)
from odonata.wire.dragonfly.piece_list import PIECES_MAX
from odonata.wire.message import Download, Piece, TrafficType
from peer.runtime.hub import Hub
from peer.runtime.port import Segment
from peer.runtime.view import View

TOGETHER_S: Final = 0.1
"""Who only follows a download sees no more than so often how far it is."""

CONTENT_STEP_BYTES: Final = 256 * 1024
"""Content in one message to a reader in order, at most. Each is copied several times on its way, so
that eight slow readers hold 170 MiB of a daemon by steps of 4 MiB, 5 MiB by these; and these cost
less than half the CPU (measured: 1.8 s for a GiB, not 4.4)."""


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
        self,
        download: Download,
        context: Any,
        *,
        linger: bool,
        features: Collection[str] = (),
        task_id: str | None = None,
    ) -> None:
        """Answer one call, to a caller with `features`.

        `task_id`, where it does not follow from `download`. Errors: the hub's and the output's.
        """
        if download.output_path:
            await asyncio.to_thread(_check_output, download)
        try:
            async with asyncio.timeout(download.timeout_s or None):
                await self._serve(task_id, download, context, linger=linger, features=features)
        except TimeoutError:
            raise UnavailableError(
                f"the download took more than {download.timeout_s:g} s: what arrived is kept, so "
                "asking again goes on from there; allow more time with --timeout"
            ) from None

    async def _serve(
        self,
        task_id: str | None,
        download: Download,
        context: Any,
        *,
        linger: bool,
        features: Collection[str],
    ) -> None:
        if task_id is None:
            view = await self._hub.open(download, linger=linger)
        else:
            view = await self._hub.open_as(task_id, download, linger=linger)
        try:
            if UNSIZED_STARTED not in features:
                await view.sized()
            await self._start(view, context, features)
            async with aclosing(_arrivals(view, features)) as arrivals:
                await self._pass_on(view, arrivals, context)
            if download.output_path:
                await view.task.export(
                    Path(download.output_path),
                    overwrite=download.overwrite,
                    force_hard_link=download.force_hard_link,
                )
        finally:
            await view.close()

    async def _start(self, view: View, context: Any, features: Collection[str]) -> None:
        # A reader in order has no use for a list of pieces, which may be long.
        message = self._message(view, _started(view, named=IN_ORDER not in features))
        if CONTENT_FILE in features:
            content_file = await asyncio.to_thread(_content_file_of, view)
            say_content_file(message.download_task_started_response, content_file)
        await context.write(message)

    async def _pass_on(
        self, view: View, arrivals: AsyncIterator[PieceArrived], context: Any
    ) -> None:
        try:
            async for arrived in arrivals:
                await context.write(self._message(view, arrived))
            await view.done()
        except DigestMismatchError:
            # What the source sent is wrong for this user: asking again must not find it here.
            if self._discard is not None:
                with suppress(NotFoundError):
                    await self._discard.delete(view.task_id)
            raise

    def _message(self, view: View, step: TaskStarted | PieceArrived) -> Any:
        progress = DownloadProgress(
            host_id=self._host_id, task_id=view.task_id, peer_id=view.peer_id, step=step
        )
        return self._to_wire(progress)


def _started(view: View, *, named: bool) -> TaskStarted:
    length = view.content_length
    pieces: tuple[Piece, ...] = ()
    if named and length is not None:
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


def _arrivals(view: View, features: Collection[str]) -> AsyncGenerator[PieceArrived]:
    if IN_ORDER in features:
        return _in_order(view)
    if PIECES_TOGETHER in features and not view.download.need_piece_content:
        return _together(view)
    return _as_they_land(view)


async def _together(view: View) -> AsyncGenerator[PieceArrived]:
    """The first at once; then those of each `TOGETHER_S`, in as few messages as can be."""
    async for landed in view.landed(TOGETHER_S):
        for first in range(0, len(landed), 1 + PIECES_MAX):
            piece, *others = landed[first : first + 1 + PIECES_MAX]
            yield PieceArrived(piece=piece, others=tuple(others))


async def _as_they_land(view: View) -> AsyncGenerator[PieceArrived]:
    async for piece in view.pieces():
        content = None
        if view.download.need_piece_content:
            content = await asyncio.to_thread(_content_of, view, piece)
        yield PieceArrived(piece=piece, content=content)


async def _in_order(view: View) -> AsyncGenerator[PieceArrived]:
    """Pieces, or steps of them, cut to what is wanted; nothing of what lies behind the end."""
    wanted, length = view.download.range, view.content_length
    if wanted is not None and length is not None and wanted.start >= length:
        return
    held = frozenset(view.task.held())
    async with aclosing(view.read(wanted)) as segments:
        async for segment in segments:
            piece = view.task.piece(segment.offset // view.piece_length)
            if piece is None:
                raise StorageError(
                    f"the piece at {segment.offset} was lost while it was read: ask again"
                )
            if piece.number in held:
                piece = msgspec.structs.replace(piece, traffic_type=TrafficType.LOCAL_PEER)
            for step in _steps(segment, whole=not view.download.need_piece_content):
                content = None
                if view.download.need_piece_content:
                    content = await asyncio.to_thread(_read, step)
                yield PieceArrived(piece=_cut(piece, step), content=content)


def _steps(segment: Segment, *, whole: bool) -> list[Segment]:
    if whole:
        return [segment]
    end = segment.offset + segment.length
    return [
        Segment(fd=segment.fd, offset=start, length=min(CONTENT_STEP_BYTES, end - start))
        for start in range(segment.offset, end, CONTENT_STEP_BYTES)
    ]


def _cut(piece: Piece, step: Segment) -> Piece:
    if step.length == piece.length:
        return piece
    return msgspec.structs.replace(piece, offset=step.offset, length=step.length, digest="")


def _content_of(view: View, piece: Piece) -> bytes:
    fd = view.task.open_fd()
    try:
        return _read(Segment(fd=fd, offset=piece.offset, length=piece.length))
    finally:
        os.close(fd)


def _read(wanted: Segment) -> bytes:
    try:
        data = os.pread(wanted.fd, wanted.length, wanted.offset)
    except OSError as error:
        raise StorageError(f"the content can't be read: {error.strerror}") from error
    if len(data) != wanted.length:
        raise StorageError("the content is shorter on disk than its index says")
    return data


def _content_file_of(view: View) -> ContentFile:
    fd = view.task.open_fd()
    try:
        facts = os.fstat(fd)
    finally:
        os.close(fd)
    return ContentFile(path=str(view.task.path), device=facts.st_dev, inode=facts.st_ino)


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
