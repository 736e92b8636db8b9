"""What a request says of its origin besides URL and headers: object_storage and its kin.

The same fields stand in a Download and in a ListTaskEntriesRequest; here they are read and written,
and the answer of ListTaskEntries likewise. All of it may be secret: nothing here is logged or put
in an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly.check import FIRST_IMPOSSIBLE_LENGTH
from odonata.wire.dragonfly.download import lay_revision
from odonata.wire.message import Download
from odonata.wire.origin import (
    NO_OPTIONS,
    Entry,
    Hdfs,
    Listing,
    ModelHub,
    ObjectStorage,
    OriginOptions,
)

_Part: TypeAlias = ObjectStorage | Hdfs | ModelHub
_Message: TypeAlias = common_pb2.Download | dfdaemon_pb2.ListTaskEntriesRequest

# Members of both messages, of the same names in OriginOptions.
_PARTS: Final[dict[str, type[_Part]]] = {
    "object_storage": ObjectStorage,
    "hdfs": Hdfs,
    "hugging_face": ModelHub,
    "model_scope": ModelHub,
    "open_csg": ModelHub,
}


def origin_of_download(download: Download) -> OriginOptions:
    """What `download` says of its origin, most of which it keeps in `extra`."""
    if not download.extra:
        return NO_OPTIONS
    message = common_pb2.Download.FromString(download.extra)
    if download.revision:
        message.url = download.url
        lay_revision(message, download.revision)
    return origin_in(message)


def origin_in(message: _Message) -> OriginOptions:
    """What `message` says."""
    told: dict[str, Any] = {
        name: _read(kind, getattr(message, name))
        for name, kind in _PARTS.items()
        if message.HasField(name)
    }
    return OriginOptions(**told, certificate_chain=tuple(message.certificate_chain))


def lay_origin_options(message: _Message, options: OriginOptions) -> None:
    """Write `options` into `message`."""
    for name in _PARTS:
        told: _Part | None = getattr(options, name)
        if told is not None:
            wire = getattr(message, name)
            wire.SetInParent()
            _write(wire, told)
    message.certificate_chain.extend(options.certificate_chain)


def object_storage_from_wire(message: common_pb2.ObjectStorage) -> ObjectStorage:
    """Read what is said of an object storage."""
    storage: ObjectStorage = _read(ObjectStorage, message)
    return storage


def object_storage_to_wire(storage: ObjectStorage) -> common_pb2.ObjectStorage:
    """Write what is said of an object storage."""
    message = common_pb2.ObjectStorage()
    _write(message, storage)
    return message


def list_request_to_wire(
    url: str, header: Mapping[str, str], options: OriginOptions
) -> dfdaemon_pb2.ListTaskEntriesRequest:
    """Ask what lies below `url`."""
    message = dfdaemon_pb2.ListTaskEntriesRequest(url=url, request_header=header)
    lay_origin_options(message, options)
    return message


def listing_to_wire(entries: Iterable[Entry]) -> dfdaemon_pb2.ListTaskEntriesResponse:
    """Tell what lies below a URL, and how many bytes that is; the wire knows no unknown length."""
    told = [
        dfdaemon_pb2.Entry(
            url=entry.url, content_length=entry.content_length or 0, is_dir=entry.is_dir
        )
        for entry in entries
    ]
    content_length = sum(entry.content_length for entry in told)
    return dfdaemon_pb2.ListTaskEntriesResponse(content_length=content_length, entries=told)


def listing_from_wire(answer: dfdaemon_pb2.ListTaskEntriesResponse) -> Listing:
    """Read what an origin lists."""
    entries = tuple(
        Entry(
            url=entry.url,
            content_length=None if entry.is_dir else _length(entry.content_length),
            is_dir=entry.is_dir,
        )
        for entry in answer.entries
    )
    return Listing(
        content_length=_length(answer.content_length),
        response_header=dict(answer.response_header),
        entries=entries,
    )


def _read(kind: type[_Part], message: Any) -> Any:
    return kind(**{name: getattr(message, name) for name in kind.__struct_fields__})


def _write(message: Any, told: _Part) -> None:
    for name in told.__struct_fields__:
        if getattr(told, name):
            setattr(message, name, getattr(told, name))


def _length(told: int) -> int | None:
    return None if told >= FIRST_IMPOSSIBLE_LENGTH else told
