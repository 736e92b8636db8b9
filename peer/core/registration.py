"""How a download introduces itself to the scheduler, and when it is of no use to do so.

Under our own scheduler a peer registers at once, whatever the size. A scheduler that is not ours
must be told the length, and its other clients do not ask it for small contents.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from odonata.errors import UnavailableError
from odonata.wire.message import Download, Piece, PieceFinished, TaskType, TrafficType
from peer.core.content import Content


def introduction(
    download: Download, content: Content, *, metadata_only: bool = False, at_source: bool = False
) -> Download:
    """What the Register says: the request, and what is known of the content by now.

    `at_source`: the download is at the source already, and does not ask for parents.
    """
    known = content.content_length is not None
    return replace(
        download,
        need_back_to_source=download.need_back_to_source or at_source,
        metadata_only=metadata_only,
        actual_content_length=content.content_length,
        actual_piece_length=content.piece_length if known else None,
        actual_piece_count=content.count,
    )


def held_reports(
    content: Content, at_most: int, own_digests: Mapping[int, bytes] = MappingProxyType({})
) -> list[PieceFinished]:
    """The pieces that are here already, as news for a scheduler that does not know of them.

    `own_digests`: the strong ones of those that came from the source.
    """
    numbers = sorted(content.held)[:at_most]
    spans = ((number, *content.span(number)) for number in numbers)
    return [
        PieceFinished(
            piece=Piece(
                number=number,
                offset=offset,
                length=length,
                traffic_type=TrafficType.LOCAL_PEER,
                strong_digest=own_digests.get(number, b""),
            )
        )
        for number, offset, length in spans
        if offset is not None and length is not None
    ]


def why_not_register(
    download: Download, content_length: int | None, *, needs_size: bool, small_bytes: int
) -> str:
    """Why the scheduler should not be asked; empty if it should."""
    if not needs_size:
        return ""
    if content_length is None:
        # It would take a length that is not given for 0, and say that the content is empty.
        return "the scheduler must be told the length, and the source does not say it"
    wanted = download.range
    length = content_length if wanted is None else min(content_length, wanted.length)
    asks_anyway = (
        download.need_back_to_source or download.always_schedule or download.disable_back_to_source
    )
    return "the content is small" if length <= small_bytes and not asks_anyway else ""


def no_source_error(download: Download, why: str) -> UnavailableError:
    """No parent brings the rest, and the source may not be asked, or there is none."""
    reason = "the source was not asked because disable_back_to_source is set"
    if download.type is TaskType.PERSISTENT_CACHE:
        reason = "there is no source"
    return UnavailableError(f"pieces are missing and no peer brings them ({why}); {reason}")
