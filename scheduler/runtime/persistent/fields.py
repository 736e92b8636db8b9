"""Tasks, peers and hosts <-> the fields of their Redis hashes, which are Dragonfly 2.5's.

Numbers are decimal text, durations nanoseconds, times RFC 3339, finished pieces the bits-and-blooms
bitset (the length in bits, then words, all as big-endian 64 bits). Two fields are ours, `url` and
`object_storage` of a persistent task: a replica can't be asked for without them. No secret of an
object storage is among them. A hash that can't be read is a StorageError that names key and field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from dragonfly_api import common_pb2

from odonata.errors import StorageError
from odonata.wire.message import HostType
from scheduler.core.persistent.lifecycle import PeerState, TaskState
from scheduler.core.persistent.state import Peer, PeerHost, Task

Fields = Mapping[bytes, bytes]
Written = dict[str, str | int | float | bytes]

_NANOS_PER_S = 1_000_000_000
_WORD_BITS = 64
_WORD_BYTES = 8
_T = TypeVar("_T")

_TYPE_NAMES: Final = {int(HostType.NORMAL): "normal", int(HostType.SUPER): "super"}

# Hash field -> path in common.v2.Host, for all fields whose value is the field's own.
_HOST_PATHS: Final[dict[str, str]] = {
    **{name: name for name in ("id", "name", "hostname", "ip", "os", "platform")},
    **{name: name for name in ("port", "download_port", "proxy_port", "scheduler_cluster_id")},
    **{name: name for name in ("platform_family", "platform_version", "kernel_version")},
    **{
        f"cpu_{name}": f"cpu.{name}"
        for name in ("logical_count", "physical_count", "percent", "process_percent")
    },
    **{
        f"cpu_times_{name}": f"cpu.times.{name}"
        for name in ("user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal")
    },
    "cpu_times_guest": "cpu.times.guest",
    "cpu_times_guest_nice": "cpu.times.guest_nice",
    **{
        f"memory_{name}": f"memory.{name}"
        for name in ("total", "available", "used", "used_percent", "process_used_percent", "free")
    },
    **{
        f"network_{name}": f"network.{name}"
        for name in ("tcp_connection_count", "upload_tcp_connection_count", "location", "idc")
    },
    **{
        f"network_{name}": f"network.{name}"
        for name in ("rx_bandwidth", "max_rx_bandwidth", "tx_bandwidth", "max_tx_bandwidth")
    },
    **{f"disk_{name}": f"disk.{name}" for name in ("total", "free", "used", "used_percent")},
    **{
        f"disk_inodes_{name}": f"disk.inodes_{name}"
        for name in ("total", "used", "free", "used_percent")
    },
    "disk_write_bandwidth": "disk.write_bandwidth",
    "disk_read_bandwidth": "disk.read_bandwidth",
    **{
        f"build_{name}": f"build.{name}"
        for name in ("git_version", "git_commit", "go_version", "platform")
    },
}

PEER_FIELDS: Final = (
    "id",
    "persistent",
    "state",
    "block_parents",
    "task_id",
    "host_id",
    "cost",
    "created_at",
    "updated_at",
    "concurrent_piece_count",
)
"""What `peer_from_fields` reads, but for finished_pieces, which may be long and is no text."""

PEER_HOST_FIELDS: Final = (
    "id",
    "ip",
    "port",
    "download_port",
    "network_idc",
    "network_location",
    "disable_shared",
    "disk_free",
    "announce_interval",
    "updated_at",
)
"""What `peer_host_from_fields` reads."""


# --- tasks ----------------------------------------------------------------------------------------


def task_to_fields(task: Task) -> Written:
    """The hash of a task."""
    return {
        "id": task.id,
        "persistent_replica_count": task.persistent_replica_count,
        "tag": task.tag,
        "application": task.application,
        "piece_length": task.piece_length,
        "content_length": task.content_length,
        "total_piece_count": task.piece_count,
        "state": task.state.value,
        "ttl": _nanos(task.ttl_s),
        "created_at": _moment(task.created_at_s),
        "updated_at": _moment(task.updated_at_s),
        "url": task.url,
        "object_storage": task.storage,
    }


def task_from_fields(key: str, fields: Fields) -> Task:
    """Read the hash of a task."""
    read = _Reader(key, fields)
    return Task(
        id=read("id", str),
        state=read("state", TaskState),
        persistent_replica_count=read("persistent_replica_count", int),
        tag=read("tag", str),
        application=read("application", str),
        piece_length=read("piece_length", int),
        content_length=read("content_length", int),
        piece_count=read("total_piece_count", int),
        ttl_s=read("ttl", _seconds),
        created_at_s=read("created_at", _moment_s),
        updated_at_s=read("updated_at", _moment_s),
        url=read("url", str, ""),
        storage=fields.get(b"object_storage", b""),
    )


# --- peers ----------------------------------------------------------------------------------------


def peer_to_fields(peer: Peer) -> Written:
    """The hash of a peer."""
    return {
        "id": peer.id,
        "persistent": int(peer.persistent),
        "finished_pieces": _bitset(peer.finished_pieces),
        "state": peer.state.value,
        "block_parents": json.dumps(peer.block_parents),
        "task_id": peer.task_id,
        "host_id": peer.host_id,
        "cost": _nanos(peer.cost_s),
        "created_at": _moment(peer.created_at_s),
        "updated_at": _moment(peer.updated_at_s),
        "concurrent_piece_count": peer.concurrent_piece_count,
    }


def peer_from_fields(key: str, fields: Fields) -> Peer:
    """Read the hash of a peer."""
    read = _Reader(key, fields)
    return Peer(
        id=read("id", str),
        task_id=read("task_id", str),
        host_id=read("host_id", str),
        state=read("state", PeerState),
        persistent=read("persistent", _flag),
        finished_pieces=_bits(fields.get(b"finished_pieces", b"")),
        block_parents=read("block_parents", _names),
        cost_s=read("cost", _seconds),
        created_at_s=read("created_at", _moment_s),
        updated_at_s=read("updated_at", _moment_s),
        concurrent_piece_count=read("concurrent_piece_count", int, 0),
    )


# --- hosts ----------------------------------------------------------------------------------------


def host_to_fields(host: common_pb2.Host, interval_s: float, now: float) -> Written:
    """The hash of a host, but for created_at, which only its first announcement sets."""
    written: Written = {field: _get(host, path) for field, path in _HOST_PATHS.items()}
    return {
        **written,
        "type": _TYPE_NAMES.get(host.type, "normal"),
        "disable_shared": int(host.disable_shared),
        "announce_interval": _nanos(interval_s),
        "updated_at": _moment(now),
    }


def host_created_at(now: float) -> str:
    """The value of the field created_at."""
    return _moment(now)


def host_from_fields(key: str, fields: Fields) -> common_pb2.Host:
    """Read the hash of a host, as it goes to its children. Unset and 0 read alike."""
    read = _Reader(key, fields)
    host = common_pb2.Host()
    for field, path in _HOST_PATHS.items():
        _set(host, path, read, field)
    host.type = int(HostType.SUPER) if fields.get(b"type") == b"super" else int(HostType.NORMAL)
    host.disable_shared = read("disable_shared", _flag)
    return host


def peer_host_from_fields(key: str, fields: Fields) -> PeerHost | None:
    """Read PEER_HOST_FIELDS of the hash of a host; None if there is no such host."""
    if b"id" not in fields:
        return None
    read = _Reader(key, fields)
    return PeerHost(
        id=read("id", str),
        ip=read("ip", str),
        port=read("port", int),
        download_port=read("download_port", int, 0),
        idc=read("network_idc", str, ""),
        location=read("network_location", str, ""),
        disable_shared=read("disable_shared", _flag),
        disk_free_bytes=read("disk_free", int, 0),
        announce_interval_s=read("announce_interval", _seconds, 0.0),
        updated_at_s=read("updated_at", _moment_s),
    )


def _get(host: common_pb2.Host, path: str) -> Any:
    value: Any = host
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _set(host: common_pb2.Host, path: str, read: _Reader, field: str) -> None:
    # Set only what says something: a host that said nothing of its CPU stays one that said nothing.
    *parents, name = path.split(".")
    owner: Any = host
    for parent in parents:
        owner = getattr(owner, parent)
    present: Any = getattr(owner, name)
    kind: Any = present.__class__
    value = read(field, kind, kind())
    if value:
        setattr(owner, name, value)


# --- single values --------------------------------------------------------------------------------


class _Reader:
    """Reads fields of one hash; says which one if it can't."""

    def __init__(self, key: str, fields: Fields) -> None:
        self._key = key
        self._fields = fields

    def __call__(self, name: str, parse: Callable[[str], _T], default: _T | None = None) -> _T:
        raw = self._fields.get(name.encode())
        if raw is None:
            if default is None:
                raise self._unreadable(name, "it is missing")
            return default
        try:
            return parse(raw.decode())
        except (ValueError, OverflowError) as error:
            raise self._unreadable(name, str(error)) from error

    def _unreadable(self, name: str, why: str) -> StorageError:
        return StorageError(
            f"field {name} of Redis key {self._key} can't be read ({why}): delete the key, or let"
            " the program that wrote it say it right"
        )


def _nanos(value_s: float) -> int:
    return round(value_s * _NANOS_PER_S)


def _seconds(text: str) -> float:
    return int(text) / _NANOS_PER_S


def _moment(value_s: float) -> str:
    return datetime.fromtimestamp(value_s, UTC).isoformat(timespec="microseconds")


def _moment_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _flag(text: str) -> bool:
    flags = {"1": True, "true": True, "0": False, "false": False}
    if text not in flags:
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return flags[text]


def _names(text: str) -> tuple[str, ...]:
    return tuple(str(name) for name in json.loads(text) or ())


def _bitset(bits: int) -> bytes:
    length = bits.bit_length()
    word_count = -(-length // _WORD_BITS)
    mask = (1 << _WORD_BITS) - 1
    words = [length, *((bits >> (number * _WORD_BITS)) & mask for number in range(word_count))]
    return b"".join(word.to_bytes(_WORD_BYTES, "big") for word in words)


def _bits(data: bytes) -> int:
    words = [data[start : start + _WORD_BYTES] for start in range(0, len(data), _WORD_BYTES)]
    return sum(
        int.from_bytes(word, "big") << (number * _WORD_BITS)
        for number, word in enumerate(words[1:])
    )
