"""What our daemons say of the tasks on their disk, in fields that Dragonfly's API does not have.

To those on their host: where a content lies, so that a reader may read it there; and to whoever
asks, what a task is called and how much of it is held. See `extension` for how.
"""

from __future__ import annotations

from typing import Final

import msgspec
from dragonfly_api import dfdaemon_pb2

from odonata.wire.dragonfly.extension import add_bytes, add_number, bytes_in, numbers_in

CONTENT_FILE_FIELD: Final = 50_010
"""In a DownloadTaskStartedResponse, the JSON of a ContentFile."""
TASK_URL_FIELD: Final = 50_011
"""In a StatLocalTaskResponse, text: the URL of the task, without its credentials."""
HELD_COUNT_FIELD: Final = 50_012
"""In a StatLocalTaskResponse, a varint: how many whole pieces are on the disk."""


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


def say_task(message: dfdaemon_pb2.StatLocalTaskResponse, url: str, held_count: int | None) -> None:
    """Add to `message` what the API has no field for; "" and None add nothing."""
    if url:
        add_bytes(message, TASK_URL_FIELD, url.encode("utf-8", "replace"))
    if held_count is not None:
        add_number(message, HELD_COUNT_FIELD, held_count)


def told_of_task(message: dfdaemon_pb2.StatLocalTaskResponse) -> tuple[str, int | None]:
    """The URL and the count of held pieces; "" and None if the sender does not say."""
    url = bytes_in(message, TASK_URL_FIELD).decode("utf-8", "replace")
    counts = numbers_in(message, HELD_COUNT_FIELD)
    return url, counts[-1] if counts else None
