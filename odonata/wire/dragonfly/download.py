"""Download, ByteRange and Piece <-> common.v2, with the rules of Dragonfly's API for a Download.

Fields of a Download that no core knows (object storage credentials, certificate chains, tokens,
what a newer API adds) live on in `Download.extra`, from a child's registration to the seed that
fetches for it.
"""

from __future__ import annotations

from typing import Final

from dragonfly_api import common_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

from odonata.errors import CallerError
from odonata.wire.dragonfly.check import (
    FIRST_IMPOSSIBLE_LENGTH,
    require_digest,
    require_piece_length,
    require_url,
)
from odonata.wire.dragonfly.moment import (
    MAX_DURATION_S,
    duration_from_wire,
    duration_to_wire,
    timestamp_to_wire,
)
from odonata.wire.message import ByteRange, Download, Piece, TaskType, TrafficType

_NANOS_PER_S: Final = 1_000_000_000

# Fields with presence on the wire and the same name in `Download`: unset <-> None.
_OPTIONAL: Final = (
    "digest",
    "tag",
    "application",
    "piece_length",
    "output_path",
    "content_for_calculating_task_id",
    "concurrent_piece_count",
    "actual_piece_length",
    "actual_content_length",
    "actual_piece_count",
)

# What a peer has from a scheduler that does not know them: see FIRST_IMPOSSIBLE_LENGTH.
_LENGTHS: Final = ("actual_piece_length", "actual_content_length")

# Plain flags with the same name on both sides.
_FLAGS: Final = (
    "disable_back_to_source",
    "need_back_to_source",
    "metadata_only",
    "prefetch",
    "is_prefetch",
    "need_piece_content",
    "force_hard_link",
    "overwrite",
    "enable_task_id_based_blob_digest",
)

# What `download_to_wire` lays over a message whatever that says, and `extra` need not keep.
_LAID: Final = frozenset(
    (
        *_OPTIONAL,
        *_FLAGS,
        "url",
        "type",
        "priority",
        "filtered_query_params",
        "request_header",
        "range",
        "timeout",
    )
)

_KEPT: Final = tuple(
    field for field in common_pb2.Download.DESCRIPTOR.fields if field.name not in _LAID
)
_KEPT_IF_SET: Final = tuple(field.name for field in _KEPT if field.has_presence)
_KEPT_IF_ANY: Final = tuple(field.name for field in _KEPT if not field.has_presence)

_TYPES: Final = frozenset(common_pb2.TaskType.values())
_PRIORITIES: Final = frozenset(common_pb2.Priority.values())

# Model hubs, each with a message of its own that holds the revision: member name, URL scheme.
_HUBS: Final = {"hugging_face": "hf", "model_scope": "modelscope", "open_csg": "opencsg"}

_TRAFFIC_TO_WIRE: Final = {
    TrafficType.BACK_TO_SOURCE: common_pb2.BACK_TO_SOURCE,
    TrafficType.REMOTE_PEER: common_pb2.REMOTE_PEER,
    TrafficType.LOCAL_PEER: common_pb2.LOCAL_PEER,
}
_TRAFFIC_FROM_WIRE: Final[dict[int, TrafficType]] = {int(kind): kind for kind in TrafficType}


def range_from_wire(message: common_pb2.Range) -> ByteRange:
    """Read a range; bytes."""
    return ByteRange(start=message.start, length=message.length)


def range_to_wire(value: ByteRange) -> common_pb2.Range:
    """Write a range; bytes."""
    return common_pb2.Range(start=value.start, length=value.length)


def download_from_wire(message: common_pb2.Download, field: str = "download") -> Download:
    """Read and check a Download. `field` names it in errors.

    Raises CallerError: no absolute URI, a piece length below 4 MiB, a malformed digest, an unknown
    type or priority, a negative or endless timeout. Lengths that no content has read as unknown.
    """
    _check(message, field)
    optional = {name: getattr(message, name) for name in _OPTIONAL if message.HasField(name)}
    for name in _LENGTHS:
        if optional.get(name, 0) >= FIRST_IMPOSSIBLE_LENGTH:
            del optional[name]
    flags = {name: getattr(message, name) for name in _FLAGS}
    return Download(
        url=message.url,
        range=range_from_wire(message.range) if message.HasField("range") else None,
        type=TaskType(message.type),
        priority=message.priority,
        revision=_revision(message),
        filtered_query_params=tuple(message.filtered_query_params),
        request_header=dict(message.request_header),
        timeout_s=duration_from_wire(message.timeout) if message.HasField("timeout") else None,
        always_schedule=message.scheduling_policy == common_pb2.ALWAYS,
        extra=_rest(message),
        **optional,
        **flags,
    )


def _rest(message: common_pb2.Download) -> bytes:
    """What of the message has no place in `Download`, or is needed to find it; mostly nothing.

    A scheduler keeps it for every download under way, so it holds nothing twice.
    """
    has_more = (
        len(UnknownFieldSet(message)) > 0
        or any(map(message.HasField, _KEPT_IF_SET))
        or any(getattr(message, name) for name in _KEPT_IF_ANY)
    )
    if not has_more:
        return b""  # as for nearly all, at a quarter of the cost
    rest = common_pb2.Download()
    rest.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.name in _LAID:
            rest.ClearField(field.name)
    return rest.SerializeToString()


def _check(message: common_pb2.Download, field: str) -> None:
    require_url(f"{field}.url", message.url)
    require_digest(f"{field}.digest", message.digest)
    if message.HasField("piece_length"):
        require_piece_length(f"{field}.piece_length", message.piece_length)
    if message.type not in _TYPES:
        raise CallerError(f"{field}.type {message.type} is unknown: use 0 (STANDARD) to 3 (CACHE)")
    if message.priority not in _PRIORITIES:
        raise CallerError(f"{field}.priority {message.priority} is unknown: use 0 to 6")
    timeout_s = duration_from_wire(message.timeout) if message.HasField("timeout") else 0.0
    if not 0 <= timeout_s <= MAX_DURATION_S:
        raise CallerError(
            f"{field}.timeout {timeout_s} s is not from 0 to {MAX_DURATION_S}: use a duration "
            "within these bounds, or leave it unset"
        )


def download_to_wire(download: Download) -> common_pb2.Download:
    """The message as it once arrived: `extra`, with every field of `download` laid over it."""
    message = common_pb2.Download()
    if download.extra:
        message.ParseFromString(download.extra)
    message.url = download.url
    _lay(message, "type", int(download.type))
    _lay(message, "priority", download.priority)
    for name in _FLAGS:
        setattr(message, name, getattr(download, name))
    for name in _OPTIONAL:
        _lay(message, name, getattr(download, name))
    message.ClearField("filtered_query_params")
    message.filtered_query_params.extend(download.filtered_query_params)
    message.ClearField("request_header")
    message.request_header.update(download.request_header)
    message.ClearField("range")
    if download.range is not None:
        message.range.CopyFrom(range_to_wire(download.range))
    message.ClearField("timeout")
    if download.timeout_s is not None:
        message.timeout.CopyFrom(duration_to_wire(download.timeout_s))
    if _revision(message) != download.revision:
        lay_revision(message, download.revision or "")
    if (message.scheduling_policy == common_pb2.ALWAYS) != download.always_schedule:
        message.scheduling_policy = (
            common_pb2.ALWAYS if download.always_schedule else common_pb2.AUTO
        )
    return message


def _revision(message: common_pb2.Download) -> str | None:
    for hub in _HUBS:
        if message.HasField(hub):
            revision: str = getattr(message, hub).revision
            return revision or None
    return None


def lay_revision(message: common_pb2.Download, revision: str) -> None:
    """Write it into the hub that is named already, else the one of the URL's scheme, else any."""
    named = [hub for hub in _HUBS if message.HasField(hub)]
    scheme = message.url.split(":", 1)[0].lower()
    named += [hub for hub, its_scheme in _HUBS.items() if its_scheme == scheme]
    getattr(message, [*named, "hugging_face"][0]).revision = revision


def _lay(message: common_pb2.Download, name: str, value: object) -> None:
    if value is None:
        message.ClearField(name)
    else:
        setattr(message, name, value)


def piece_from_wire(
    message: common_pb2.Piece, default_traffic: TrafficType = TrafficType.REMOTE_PEER
) -> Piece:
    """Read a piece without its content. `default_traffic` is used where the sender did not say."""
    traffic = default_traffic
    if message.HasField("traffic_type"):
        traffic = _TRAFFIC_FROM_WIRE.get(message.traffic_type, default_traffic)
    cost, created = message.cost, message.created_at
    return Piece(
        number=message.number,
        offset=message.offset,
        length=message.length,
        digest=message.digest,
        parent_id=message.parent_id,
        traffic_type=traffic,
        cost_s=cost.seconds + cost.nanos / _NANOS_PER_S,
        created_at_s=created.seconds + created.nanos / _NANOS_PER_S,
    )


def piece_to_wire(piece: Piece, content: bytes | None = None) -> common_pb2.Piece:
    """Write a piece. Cost and time are always set: Dragonfly refuses a Piece without them."""
    message = common_pb2.Piece(
        number=piece.number,
        offset=piece.offset,
        length=piece.length,
        digest=piece.digest,
        traffic_type=_TRAFFIC_TO_WIRE[piece.traffic_type],
        cost=duration_to_wire(piece.cost_s),
        created_at=timestamp_to_wire(piece.created_at_s),
        content=content,
    )
    if piece.parent_id:
        message.parent_id = piece.parent_id
    return message
