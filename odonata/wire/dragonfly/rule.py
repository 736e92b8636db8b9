"""The rules of Dragonfly's API for the requests of scheduler.v2, as a table by message.

Dragonfly's own servers validate each request by rules written into the API's definition; the Python
stubs do not carry them. Here they are, one row for each: `check_request` walks a request, applies
the rows of every message in it and raises CallerError (INVALID_ARGUMENT) for the first breach, with
the field's path, the value and the fix.

The messages of an AnnouncePeer stream are not walked: `request_from_wire` reads and checks them in
one go, for they come by the ten thousand a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from dragonfly_api import common_pb2
from google.protobuf.message import Message

from odonata.errors import CallerError
from odonata.wire.dragonfly.check import (
    require_id,
    require_ip_literal,
    require_piece_length,
    require_url,
    shown,
)
from odonata.wire.dragonfly.moment import MAX_DURATION_S, duration_from_wire

MAX_PIECE_LENGTH_BYTES: Final = 64 * 1024 * 1024
"""Of a piece length that somebody asks for. Dragonfly's bound."""

PREHEAT_SCOPES: Final = ("single_seed_peer", "all_seed_peers", "all_peers")
"""Whose daemons a preheat is for; "": the first."""

# Dragonfly's bounds of a preheat.
MAX_PREHEAT_IPS: Final = 100
MAX_PREHEAT_COUNT: Final = 200
MAX_CONCURRENT_TASKS: Final = 100
MAX_CONCURRENT_PEERS: Final = 1000
MAX_CONCURRENT_LAYERS: Final = 100

Check = Callable[[str, Any], object]


class Rule(NamedTuple):
    """`check(path, value)` raises if the value of `field` breaks the rule.

    A field of a proto3 scalar without presence always has a value; others are checked when they are
    set. `is_required`: the field must be set (a message, or a member of the oneof of that name).
    """

    field: str
    check: Check | None = None
    is_required: bool = False


def check_request(request: Message, path: str = "") -> None:
    """Check `request` and all messages in it. Raises CallerError."""
    for rule in RULES.get(request.DESCRIPTOR.full_name, ()):
        _apply(rule, request, path)
    for field, value in request.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        place = f"{path}{field.name}"
        for inner in value if field.is_repeated else (value,):
            check_request(inner, f"{place}.")


def _apply(rule: Rule, request: Message, path: str) -> None:
    place = f"{path}{rule.field}"
    descriptor = request.DESCRIPTOR
    if rule.field in descriptor.oneofs_by_name:
        if rule.is_required and request.WhichOneof(rule.field) is None:
            name = descriptor.name
            raise CallerError(
                f"{place} of {_article(name)} {name} is not set, or of a kind this version does "
                "not know: set exactly one of its members"
            )
        return
    field = descriptor.fields_by_name[rule.field]
    if field.has_presence and not request.HasField(rule.field):
        if rule.is_required:
            raise CallerError(
                f"{place} of {_article(descriptor.name)} {descriptor.name} is not set: set it"
            )
        return
    if rule.check is not None:
        rule.check(place, getattr(request, rule.field))


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOU" else "a"


# --- checks -------------------------------------------------------------------------------------


def _between(low: int, high: int) -> Check:
    def check(field: str, value: int) -> None:
        if not low <= value <= high:
            raise CallerError(
                f"{field} {value} is not from {low} to {high}: choose one of these, or leave it "
                "unset"
            )

    return check


def _piece_length(field: str, value: int) -> None:
    require_piece_length(field, value)
    if value > MAX_PIECE_LENGTH_BYTES:
        raise CallerError(
            f"{field} {value} is too large: use at most {MAX_PIECE_LENGTH_BYTES} bytes (64 MiB)"
        )


def _optional_piece_length(field: str, value: int) -> None:
    if value:
        _piece_length(field, value)


def _scope(field: str, value: str) -> None:
    if value and value not in PREHEAT_SCOPES:
        raise CallerError(
            f"{field} {shown(value)} is unknown: use {', '.join(PREHEAT_SCOPES)}, or leave it unset"
        )


def _ips(field: str, value: Any) -> None:
    if len(value) > MAX_PREHEAT_IPS:
        raise CallerError(
            f"{field} has {len(value)} addresses: name at most {MAX_PREHEAT_IPS}, or use another "
            "scope"
        )
    for ip in value:
        require_ip_literal(field, ip)


def _timeout(field: str, value: Any) -> None:
    timeout_s = duration_from_wire(value)
    if not 0 <= timeout_s <= MAX_DURATION_S:
        raise CallerError(
            f"{field} {timeout_s:g} s is not from 0 to {MAX_DURATION_S}: use a duration within "
            "these bounds, or leave it unset"
        )


def _priority(field: str, value: int) -> None:
    if value not in common_pb2.Priority.values():
        raise CallerError(f"{field} {value} is unknown: use 0 to 6")


def _host_type(field: str, value: int) -> None:
    if value not in (0, 1):
        raise CallerError(f"{field} {value} is unknown: use 0 (normal) or 1 (super)")


def _some(what: str) -> Check:
    def check(field: str, value: Any) -> None:
        if not value:
            raise CallerError(f"{field} is empty: name {what}")

    return check


def _at_least_one(field: str, value: int) -> None:
    if value < 1:
        raise CallerError(f"{field} {value} is too small: use at least 1")


def _description(field: str, value: str) -> None:
    if not value:
        raise CallerError(f"{field} is set, but empty: say why, or leave it unset")


# --- the table ------------------------------------------------------------------------------------

_HOST_ID = Rule("host_id", require_id)
_TASK = (_HOST_ID, Rule("task_id", require_id))
_PEER = (*_TASK, Rule("peer_id", require_id))
_DESCRIPTION = Rule("description", _description)
_ONE_OF = Rule("request", is_required=True)
_PARENTS = Rule("candidate_parents", _some("at least one parent that did not bring everything"))
_REPLICAS = Rule("persistent_replica_count", _at_least_one)
_TTL = Rule("ttl", _timeout)
_PIECE = Rule("piece", is_required=True)
_TARGET = (
    Rule("url", require_url),
    Rule("piece_length", _optional_piece_length),
    Rule("concurrent_peer_count", _between(1, MAX_CONCURRENT_PEERS)),
    Rule("timeout", _timeout),
)
_PREHEAT = (
    *_TARGET,
    Rule("scope", _scope),
    Rule("ips", _ips),
    Rule("percentage", _between(1, 100)),
    Rule("count", _between(1, MAX_PREHEAT_COUNT)),
    Rule("concurrent_task_count", _between(1, MAX_CONCURRENT_TASKS)),
    Rule("priority", _priority),
)

RULES: Final[dict[str, tuple[Rule, ...]]] = {
    f"scheduler.v2.{name}": rules
    for name, rules in {
        "StatPeerRequest": _PEER,
        "DeletePeerRequest": _PEER,
        "StatTaskRequest": _TASK,
        "DeleteTaskRequest": _TASK,
        "AnnounceHostRequest": (Rule("host", is_required=True), Rule("interval", _timeout)),
        "ListHostsRequest": (Rule("type", _host_type),),
        "DeleteHostRequest": (_HOST_ID,),
        "PreheatImageRequest": _PREHEAT,
        "PreheatFileRequest": _PREHEAT,
        "StatImageRequest": (
            *_TARGET,
            Rule("scope", _scope),
            Rule("concurrent_layer_count", _between(1, MAX_CONCURRENT_LAYERS)),
        ),
        "StatFileRequest": _TARGET,
        # What the streams of both kinds of persistent tasks share with AnnouncePeer.
        "DownloadPieceFinishedRequest": (_PIECE,),
        "DownloadPieceBackToSourceFinishedRequest": (_PIECE,),
        "DownloadPieceFailedRequest": (Rule("parent_id", require_id),),
        "AnnounceCachePeerRequest": (*_PEER, _ONE_OF),
        "RegisterCachePeerRequest": (Rule("url", require_url),),
        "StatCachePeerRequest": _PEER,
        "DeleteCachePeerRequest": _PEER,
        "StatCacheTaskRequest": _TASK,
        "DeleteCacheTaskRequest": _TASK,
        "AnnouncePersistentPeerRequest": (*_PEER, _ONE_OF),
        "RegisterPersistentPeerRequest": (Rule("url", require_url),),
        "DownloadPersistentPeerBackToSourceStartedRequest": (_DESCRIPTION,),
        "ReschedulePersistentPeerRequest": (_PARENTS, _DESCRIPTION),
        "DownloadPersistentPeerFailedRequest": (_DESCRIPTION,),
        "DownloadPersistentPeerBackToSourceFailedRequest": (_DESCRIPTION,),
        "StatPersistentPeerRequest": _PEER,
        "DeletePersistentPeerRequest": _PEER,
        "UploadPersistentTaskStartedRequest": (
            *_PEER,
            Rule("url", require_url),
            _REPLICAS,
            _TTL,
        ),
        "UploadPersistentTaskFinishedRequest": _PEER,
        "UploadPersistentTaskFailedRequest": (*_PEER, _DESCRIPTION),
        "StatPersistentTaskRequest": _TASK,
        "DeletePersistentTaskRequest": _TASK,
        "AnnouncePersistentCachePeerRequest": (*_PEER, _ONE_OF),
        "RegisterPersistentCachePeerRequest": (Rule("piece_length", require_piece_length),),
        "ReschedulePersistentCachePeerRequest": (_PARENTS, _DESCRIPTION),
        "DownloadPersistentCachePeerFailedRequest": (_DESCRIPTION,),
        "StatPersistentCachePeerRequest": _PEER,
        "DeletePersistentCachePeerRequest": _PEER,
        "UploadPersistentCacheTaskStartedRequest": (
            *_PEER,
            _REPLICAS,
            Rule("piece_length", require_piece_length),
            _TTL,
        ),
        "UploadPersistentCacheTaskFinishedRequest": _PEER,
        "UploadPersistentCacheTaskFailedRequest": (*_PEER, _DESCRIPTION),
        "StatPersistentCacheTaskRequest": _TASK,
        "DeletePersistentCacheTaskRequest": _TASK,
    }.items()
}
