"""Protobuf messages of any kind, filled field by field with what senders might and must not send.

Ids, URLs, digests and lengths are drawn often enough to get past the first check. No URL leads
anywhere but to closed ports of this machine, and no path out of `folder`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from odonata.ids import content_task_id

_DEPTH_MAX: Final = 4
_NOWHERE: Final = "http://127.0.0.1:1"

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (-1, 300),
}

texts: st.SearchStrategy[str] = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "host1",
            "sha256:00ff",
            "crc32:7",
            "a" * 64,
            "0" * 64,
            "b" * 2000,
            "../../x",
            "\x00",
            f"{_NOWHERE}/a?X-Amz-Signature=1",
            f"{_NOWHERE}/v2/x/blobs/sha256:{'c' * 64}",
            f"{_NOWHERE}/v2/x/manifests/latest",
            "file:///nowhere",
            "http://",
            "http://[::1",
            "s3://b/k",
            "nonsense://x",
        ]
    ),
)


# So few that messages name the same things, and things that are there.
HOSTS: Final = ("host1", "host2")
HELD_AS: Final = "held"
"""A task whose id is that of this text: to be held where messages are to find one."""
TASKS: Final = (content_task_id(HELD_AS), "a" * 64)
_NAMED: Final = {
    "host_id": st.sampled_from([*HOSTS, *HOSTS, ""]),
    "peer_id": st.sampled_from(["peer1", "peer2", "peer1", "peer2", ""]),
    "task_id": st.sampled_from([*TASKS, *TASKS, ""]),
}


def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    ends = [low, high, 0, 1, 4 * 2**20, 2**31 - 1, 2**63 - 1, 2**63]
    chosen = [number for number in ends if low <= number <= high]
    return st.sampled_from(chosen) | st.integers(low, min(high, 64)) | st.integers(low, high)


@cache
def _single(field: FieldDescriptor, depth: int) -> Any:
    kind = field.type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return _integers(low, high)
    if kind == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.floats(width=32)
    if kind == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    if kind == FieldDescriptor.TYPE_STRING:
        return st.one_of(_NAMED[field.name], texts) if field.name in _NAMED else texts
    assert field.message_type is not None, field.full_name
    return messages(field.message_type, depth + 1)


@cache
def messages(descriptor: Any, depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages of the kind of this descriptor; deeper than a few levels they are empty."""
    kind = GetMessageClass(descriptor)
    fields = [] if depth >= _DEPTH_MAX else list(descriptor.fields)

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = kind()
        # Most fields in one half of the messages, few in the other.
        is_full = draw(st.booleans())
        for field in fields:
            if is_full or draw(st.integers(0, 3)) == 0:
                _fill(message, field, draw, depth)
        return message

    return build()


def _fill(message: Message, field: FieldDescriptor, draw: st.DrawFn, depth: int) -> None:
    target: Any = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        names = [draw(texts) for _ in range(draw(st.integers(0, 2)))]
        values = entry.fields_by_name["value"]
        if values.type == FieldDescriptor.TYPE_MESSAGE:
            for name in names:
                target[name].CopyFrom(draw(_single(values, depth)))
        else:
            target.update({name: draw(_single(values, depth)) for name in names})
    elif field.is_repeated:
        target.extend(draw(st.lists(_single(field, depth), max_size=2)))
    elif entry is not None:
        target.CopyFrom(draw(_single(field, depth)))
    else:
        setattr(message, field.name, draw(_single(field, depth)))
