"""What a request says of its origin besides URL and headers: object_storage and its kin.

The same fields stand in a Download and in a ListTaskEntriesRequest. They are read as plain keyword
arguments, so that whoever talks to origins makes its own value of them. All of it may be secret:
nothing here is logged or put in an error.
"""

from __future__ import annotations

from typing import Any, Final, TypedDict

from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.message import Download

_STORAGE_TEXTS: Final = (
    "region",
    "endpoint",
    "access_key_id",
    "access_key_secret",
    "session_token",
    "security_token",
    "credential_path",
    "predefined_acl",
)
_HUBS: Final = ("hugging_face", "model_scope", "open_csg")
_HUB_TEXTS: Final = ("token", "revision", "base_url")


class OriginFields(TypedDict, total=False):
    """Only what was said is set."""

    region: str
    endpoint: str
    access_key_id: str
    access_key_secret: str
    session_token: str
    security_token: str
    credential_path: str
    predefined_acl: str
    insecure_skip_verify: bool
    delegation_token: str
    token: str
    revision: str
    base_url: str
    certificate_chain: tuple[bytes, ...]


def origin_of_download(download: Download) -> OriginFields:
    """What `download` says of its origin, most of which it keeps in `extra`."""
    if not download.extra:
        return {}
    fields = origin_in(common_pb2.Download.FromString(download.extra))
    if download.revision:
        fields["revision"] = download.revision
    return fields


def origin_in(
    message: common_pb2.Download | dfdaemon_pb2.ListTaskEntriesRequest,
) -> OriginFields:
    """The fields that `message` sets."""
    fields: dict[str, Any] = {}
    if message.HasField("object_storage"):
        storage = message.object_storage
        fields |= {name: getattr(storage, name) for name in _STORAGE_TEXTS}
        fields["insecure_skip_verify"] = storage.insecure_skip_verify
    if message.HasField("hdfs"):
        fields["delegation_token"] = message.hdfs.delegation_token
    for hub in _HUBS:
        if message.HasField(hub):
            fields |= {name: getattr(getattr(message, hub), name) for name in _HUB_TEXTS}
            break
    fields["certificate_chain"] = tuple(message.certificate_chain)
    said: OriginFields = {name: value for name, value in fields.items() if value}  # type: ignore[assignment]  # names are those above
    return said
