"""What our daemon says of a task on its disk, in fields that the API does not have.

See `extension` for how.
"""

from __future__ import annotations

from typing import Final

from dragonfly_api import dfdaemon_pb2

from odonata.wire.dragonfly.extension import add_bytes, add_number, bytes_in, numbers_in

URL_FIELD: Final = 50_011
"""In a StatLocalTaskResponse, UTF-8: the URL of the task, without its credentials."""
HELD_COUNT_FIELD: Final = 50_012
"""In a StatLocalTaskResponse, a number: how many whole pieces are on the disk."""


def say_held(message: dfdaemon_pb2.StatLocalTaskResponse, url: str, held_count: int | None) -> None:
    """Add to `message` what the API has no field for; "" and None add nothing."""
    if url:
        add_bytes(message, URL_FIELD, url.encode("utf-8", "replace"))
    if held_count is not None:
        add_number(message, HELD_COUNT_FIELD, held_count)


def held_in(message: dfdaemon_pb2.StatLocalTaskResponse) -> tuple[str, int | None]:
    """The URL and the count of held pieces; "" and None if the sender does not say them so."""
    url = bytes_in(message, URL_FIELD).decode("utf-8", "replace")
    counts = numbers_in(message, HELD_COUNT_FIELD)
    return url, counts[-1] if counts else None
