"""What is known of a content without reading it."""

from __future__ import annotations

from collections.abc import Mapping

from odonata.client.answer import Began
from odonata.wire.dragonfly.parent import content_length_from_wire
from odonata.wire.message import Value


class Stat(Value, frozen=True, kw_only=True):
    """`content_length` in bytes, None if the origin does not say."""

    url: str
    task_id: str
    content_length: int | None
    response_header: Mapping[str, str] = {}


def stat_of(url: str, began: Began) -> Stat:
    """From the first message of a call."""
    started = began.started
    return Stat(
        url=url,
        task_id=began.task_id,
        content_length=content_length_from_wire(started.content_length, len(started.pieces)),
        response_header=started.response_header,
    )
