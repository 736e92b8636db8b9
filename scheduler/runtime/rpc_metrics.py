"""Counts the calls of every rpc of scheduler.v2 and those that failed, under Dragonfly's names.

One watch at the gRPC boundary (`odonata.grpc_server.Watch`) counts them all; `RPC_NAMES` says under
which name, and a test holds it to the service's descriptor. What a call's stream says is counted
here only for the persistent kinds, by the table `MESSAGE_NAMES`; AnnouncePeer's messages are
`peer_metrics`' business. Calls that are refused for the request rate are not counted, as in
Dragonfly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dragonfly_api import common_pb2
from google.protobuf.descriptor import MethodDescriptor
from prometheus_client.core import CounterMetricFamily, Metric

from odonata.grpc_service import Watched

PREFIX: Final = "dragonfly_scheduler_"

RPC_NAMES: Final[Mapping[str, str]] = {
    "AnnouncePeer": "announce_peer",
    "StatPeer": "stat_peer",
    "DeletePeer": "leave_peer",
    "StatTask": "stat_task",
    "DeleteTask": "leave_task",
    "AnnounceHost": "announce_host",
    "ListHosts": "list_hosts",
    "DeleteHost": "leave_host",
    "AnnounceCachePeer": "announce_cache_peer",
    "StatCachePeer": "stat_cache_peer",
    "DeleteCachePeer": "delete_cache_peer",
    "StatCacheTask": "stat_cache_task",
    "DeleteCacheTask": "delete_cache_task",
    "AnnouncePersistentPeer": "announce_persistent_peer",
    "StatPersistentPeer": "stat_persistent_peer",
    "DeletePersistentPeer": "delete_persistent_peer",
    "UploadPersistentTaskStarted": "upload_persistent_task_started",
    "UploadPersistentTaskFinished": "upload_persistent_task_finished",
    "UploadPersistentTaskFailed": "upload_persistent_task_failed",
    "StatPersistentTask": "stat_persistent_task",
    "DeletePersistentTask": "delete_persistent_task",
    "AnnouncePersistentCachePeer": "announce_persistent_cache_peer",
    "StatPersistentCachePeer": "stat_persistent_cache_peer",
    "DeletePersistentCachePeer": "delete_persistent_cache_peer",
    "UploadPersistentCacheTaskStarted": "upload_persistent_cache_task_started",
    "UploadPersistentCacheTaskFinished": "upload_persistent_cache_task_finished",
    "UploadPersistentCacheTaskFailed": "upload_persistent_cache_task_failed",
    "StatPersistentCacheTask": "stat_persistent_cache_task",
    "DeletePersistentCacheTask": "delete_persistent_cache_task",
    "PreheatImage": "preheat_image",
    "StatImage": "stat_image",
    "PreheatFile": "preheat_file",
    "StatFile": "stat_file",
}
"""rpc -> name between prefix and `_total` or `_failure_total`. Dragonfly has no names for cache
tasks, which it does not serve; these follow its pattern."""

MESSAGE_NAMES: Final[Mapping[str, Mapping[str, tuple[str, bool]]]] = {
    rpc: {
        f"register_{kind}_peer_request": (f"register_{kind}_peer", False),
        f"download_{kind}_peer_started_request": (f"download_{kind}_peer_started", False),
        f"download_{kind}_peer_back_to_source_started_request": (
            f"download_{kind}_peer_back_to_source_started",
            False,
        ),
        f"download_{kind}_peer_finished_request": (f"download_{kind}_peer_finished", False),
        f"download_{kind}_peer_back_to_source_finished_request": (
            f"download_{kind}_peer_finished",
            False,
        ),
        f"download_{kind}_peer_failed_request": (f"download_{kind}_peer_finished", True),
        f"download_{kind}_peer_back_to_source_failed_request": (
            f"download_{kind}_peer_back_to_source_finished",
            True,
        ),
        "download_piece_finished_request": (f"download_{kind}_piece_finished", False),
        "download_piece_back_to_source_finished_request": (
            f"download_{kind}_piece_finished",
            False,
        ),
        "download_piece_failed_request": (f"download_{kind}_piece_finished", True),
        "download_piece_back_to_source_failed_request": (
            f"download_{kind}_piece_back_to_source_finished",
            True,
        ),
    }
    for rpc, kind in (
        ("AnnouncePersistentPeer", "persistent"),
        ("AnnouncePersistentCachePeer", "persistent_cache"),
    )
}
"""rpc -> field of its requests -> name of the counter, and whether the message tells of a failure.

The label is the host's type. A reschedule has no counter."""

HOST_LABELS: Final = (
    "os",
    "platform",
    "platform_family",
    "platform_version",
    "kernel_version",
    "git_version",
    "git_commit",
    "go_version",
    "build_platform",
)
HOST_KINDS_LIMIT: Final = 256
"""Different hosts as AnnounceHost's labels tell them; all others share the label "other". A fleet
has some tens, and the labels are whatever a client says."""
LABEL_LENGTH_LIMIT: Final = 64
OTHER_LABEL: Final = "other"
_OTHER: Final = (OTHER_LABEL,) * len(HOST_LABELS)

_HOST_TYPES: Final = ("normal", "super")

HostTypeOf = Callable[[str], str]
"""Host id -> "normal" or "super", as Dragonfly names the types; "normal" if it is unknown."""


@dataclass(slots=True)
class CallCount:
    """How many there were, and how many of them failed."""

    calls: int = 0
    failures: int = 0


class RpcMetrics:
    """The counters; `watch` is for `GrpcServer.add_service`, `collect` for Prometheus."""

    def __init__(self, host_type_of: HostTypeOf) -> None:
        """`host_type_of` says which label a persistent peer's messages count under."""
        self._host_type_of = host_type_of
        self.counts = {rpc: CallCount() for rpc in RPC_NAMES}
        """By rpc; those of AnnounceHost are kept by their labels."""
        self._hosts: dict[tuple[str, ...], CallCount] = {}
        self._messages = {
            rpc: {name: _by_host_type() for name, _ in fields.values()}
            for rpc, fields in MESSAGE_NAMES.items()
        }

    def watch(self, method: MethodDescriptor) -> Callable[[Any, Any], Watched]:
        """What each call of `method` goes through."""
        rpc = method.name
        if rpc == "AnnounceHost":
            return lambda request, _: _Counted(self._host_count(request.host), request)
        count = self.counts[rpc]
        if rpc in MESSAGE_NAMES:
            return lambda request, _: _CountedStream(count, _Messages(self, rpc, request))
        return lambda request, _: _Counted(count, request)

    def _host_count(self, host: common_pb2.Host) -> CallCount:
        build = host.build
        labels = (
            host.os,
            host.platform,
            host.platform_family,
            host.platform_version,
            host.kernel_version,
            build.git_version,
            build.git_commit,
            build.go_version,
            build.platform,
        )
        kept = tuple(label[:LABEL_LENGTH_LIMIT] for label in labels)
        if kept not in self._hosts and len(self._hosts) >= HOST_KINDS_LIMIT:
            kept = _OTHER
        return self._hosts.setdefault(kept, CallCount())

    def message_count(self, rpc: str, name: str, host_id: str) -> CallCount:
        """Where a message of a persistent peer's stream is counted."""
        return self._messages[rpc][name][self._host_type_of(host_id)]

    def collect(self) -> Iterator[Metric]:
        """All of them; what never happened is there with 0, but for AnnounceHost's labels."""
        for rpc, name in RPC_NAMES.items():
            if rpc == "AnnounceHost":
                yield from _pair(name, f"{rpc} calls", HOST_LABELS, self._hosts)
            else:
                yield from _pair(name, f"{rpc} calls", (), {(): self.counts[rpc]})
        for rpc, counters in self._messages.items():
            for name, counts in counters.items():
                rows: dict[tuple[str, ...], CallCount] = {
                    (host_type,): count for host_type, count in counts.items()
                }
                yield from _pair(name, f"Messages on {rpc} streams", ("host_type",), rows)


def _by_host_type() -> dict[str, CallCount]:
    return {name: CallCount() for name in _HOST_TYPES}


def _pair(
    name: str, about: str, labels: tuple[str, ...], rows: Mapping[tuple[str, ...], CallCount]
) -> Iterator[Metric]:
    """A counter and its failure twin."""
    calls = CounterMetricFamily(f"{PREFIX}{name}", f"{about}.", labels=labels)
    failures = CounterMetricFamily(
        f"{PREFIX}{name}_failure", f"{about} that failed.", labels=labels
    )
    for values, count in rows.items():
        calls.add_metric(values, count.calls)
        failures.add_metric(values, count.failures)
    yield calls
    yield failures


class _Counted:
    """Around one call."""

    __slots__ = ("_count", "_request")

    def __init__(self, count: CallCount, request: Any) -> None:
        self._count = count
        self._request = request

    def __enter__(self) -> Any:
        self._count.calls += 1
        return self._request

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._count.failures += 1


class _CountedStream(_Counted):
    """Around one call whose messages are counted, too: the last one takes the blame."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        if kind is not None:
            self._request.blame()


class _Messages:
    """A stream of requests that counts what passes."""

    def __init__(self, metrics: RpcMetrics, rpc: str, requests: AsyncIterator[Any]) -> None:
        self._metrics = metrics
        self._rpc = rpc
        self._requests = requests
        self._latest: CallCount | None = None

    async def __aiter__(self) -> AsyncIterator[Any]:
        names = MESSAGE_NAMES[self._rpc]
        async for request in self._requests:
            name, is_failure = names.get(request.WhichOneof("request") or "", ("", False))
            self._latest = None
            if name:
                count = self._metrics.message_count(self._rpc, name, request.host_id)
                if is_failure:
                    count.failures += 1
                else:
                    count.calls += 1
                    self._latest = count
            yield request

    def blame(self) -> None:
        """The stream failed: on the message that was handled last, if it was no failure itself."""
        if self._latest is not None:
            self._latest.failures += 1
            self._latest = None
