"""What our daemon says of a task on its disk in fields that Dragonfly's API does not have.

As in `extension`: fields of numbers that others skip, in a StatLocalTaskResponse. They are a
message of their own, read from and written among the fields of the other.
"""

from __future__ import annotations

from typing import Any, Final

from dragonfly_api import dfdaemon_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

URL_FIELD: Final = 50_011
"""UTF-8: the URL of the task, without its credentials."""
HELD_COUNT_FIELD: Final = 50_012
"""A number: how many whole pieces are on the disk."""

_PACKAGE: Final = "odonata.dfdaemon.v1"
_Field: Final = descriptor_pb2.FieldDescriptorProto


def _make_note() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="odonata/dfdaemon/v1/held_note.proto", package=_PACKAGE, syntax="proto2"
    )
    note = file.message_type.add(name="HeldNote")
    for name, number, kind in (
        ("url", URL_FIELD, _Field.TYPE_BYTES),
        ("held_count", HELD_COUNT_FIELD, _Field.TYPE_UINT64),
    ):
        note.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
    pool: Any = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.HeldNote"))


_Note: Final[Any] = _make_note()


def say_held(message: dfdaemon_pb2.StatLocalTaskResponse, url: str, held_count: int | None) -> None:
    """Add to `message` what the API has no field for; "" and None add nothing."""
    note = _Note(url=url.encode("utf-8", "replace") or None, held_count=held_count)
    message.MergeFromString(note.SerializeToString())


def held_in(message: dfdaemon_pb2.StatLocalTaskResponse) -> tuple[str, int | None]:
    """The URL and the count of held pieces; "" and None if the sender does not say them so."""
    try:
        note = _Note.FromString(message.SerializeToString())
    except DecodeError:
        return "", None
    url = note.url.decode("utf-8", "replace")
    return url, note.held_count if note.HasField("held_count") else None
