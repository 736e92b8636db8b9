"""What a user tells a daemon of an origin besides URL and headers, and what an origin lists.

Object storage, HDFS and model hubs have messages of their own in Download and in
ListTaskEntriesRequest; here they are written, and the answer of ListTaskEntries is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly.check import FIRST_IMPOSSIBLE_LENGTH
from odonata.wire.message import Value


class _Secretive(Value, frozen=True, kw_only=True):
    """Never shows what it holds: most of it are secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class ObjectStorage(_Secretive, frozen=True, kw_only=True):
    """S3 and its like. "" and False: not said, and the daemon finds it its own way."""

    region: str = ""
    endpoint: str = ""
    access_key_id: str = ""
    access_key_secret: str = ""
    session_token: str = ""
    credential_path: str = ""
    predefined_acl: str = ""
    security_token: str = ""
    insecure_skip_verify: bool = False


class Hdfs(_Secretive, frozen=True, kw_only=True):
    """WebHDFS."""

    delegation_token: str = ""


class ModelHub(_Secretive, frozen=True, kw_only=True):
    """Hugging Face and its like. The revision counts in the task id."""

    token: str = ""
    revision: str = ""
    base_url: str = ""


class OriginOptions(_Secretive, frozen=True, kw_only=True):
    """All of it; None: nothing said. `certificate_chain`: DER, of authorities to trust."""

    object_storage: ObjectStorage | None = None
    hdfs: Hdfs | None = None
    hugging_face: ModelHub | None = None
    model_scope: ModelHub | None = None
    open_csg: ModelHub | None = None
    certificate_chain: tuple[bytes, ...] = ()


class Entry(Value, frozen=True, kw_only=True):
    """One name below a folder of an origin; bytes, None if the origin does not say."""

    url: str
    content_length: int | None = None
    is_dir: bool = False


class Listing(Value, frozen=True, kw_only=True):
    """What an origin says of a URL: its own length (None: not said), and what lies below it."""

    content_length: int | None = None
    response_header: Mapping[str, str] = {}
    entries: tuple[Entry, ...] = ()


_PARTS: Final = ("object_storage", "hdfs", "hugging_face", "model_scope", "open_csg")

_Message = common_pb2.Download | dfdaemon_pb2.ListTaskEntriesRequest


def lay_origin_options(message: _Message, options: OriginOptions) -> None:
    """Write `options` into `message`."""
    for part in _PARTS:
        told = getattr(options, part)
        if told is not None:
            wire = getattr(message, part)
            wire.SetInParent()
            for name in told.__struct_fields__:
                if getattr(told, name):
                    setattr(wire, name, getattr(told, name))
    message.certificate_chain.extend(options.certificate_chain)


def list_request_to_wire(
    url: str, header: Mapping[str, str], options: OriginOptions
) -> dfdaemon_pb2.ListTaskEntriesRequest:
    """Ask what lies below `url`."""
    message = dfdaemon_pb2.ListTaskEntriesRequest(url=url, request_header=header)
    lay_origin_options(message, options)
    return message


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


def _length(told: int) -> int | None:
    return None if told >= FIRST_IMPOSSIBLE_LENGTH else told
