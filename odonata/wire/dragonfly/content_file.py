"""Where a content lies, for readers on the daemon's own host: a field that the API does not have.

See `extension` for how.
"""

from __future__ import annotations

from typing import Final

import msgspec
from dragonfly_api import dfdaemon_pb2

from odonata.wire.dragonfly.extension import add_bytes, bytes_in

CONTENT_FILE_FIELD: Final = 50_010
"""In a DownloadTaskStartedResponse, the JSON of a ContentFile."""


class ContentFile(msgspec.Struct, frozen=True):
    """The file in which a daemon keeps a content, each byte at its own offset.

    Device and inode say which file is meant: the same path may lead elsewhere in another container.
    Only for those on the daemon's host, and only pieces that it has named are there.
    """

    path: str
    device: int
    inode: int


def say_content_file(
    message: dfdaemon_pb2.DownloadTaskStartedResponse, content_file: ContentFile
) -> None:
    """Add to `message` where the bytes lie."""
    add_bytes(message, CONTENT_FILE_FIELD, msgspec.json.encode(content_file))


def content_file_in(message: dfdaemon_pb2.DownloadTaskStartedResponse) -> ContentFile | None:
    """Where the bytes lie; None if the daemon does not say, or not in a way we know."""
    told = bytes_in(message, CONTENT_FILE_FIELD)
    try:
        return msgspec.json.decode(told, type=ContentFile) if told else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
