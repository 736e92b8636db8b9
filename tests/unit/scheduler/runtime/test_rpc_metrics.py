"""The table of names is complete, and a call is counted once, a failed one twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dragonfly_api import common_pb2, scheduler_pb2
from prometheus_client import CollectorRegistry

from scheduler.runtime import rpc_metrics
from scheduler.runtime.rpc_metrics import HOST_KINDS_LIMIT, MESSAGE_NAMES, RPC_NAMES, RpcMetrics

SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
METHODS = {method.name: method for method in SCHEDULER.methods}


class World:
    def __init__(self) -> None:
        self.metrics = RpcMetrics(lambda host_id: "super" if host_id == "seed" else "normal")
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"dragonfly_scheduler_{name}", labels)


def test_every_rpc_of_the_service_has_a_name_of_its_own() -> None:
    assert set(RPC_NAMES) == set(METHODS)
    assert len(set(RPC_NAMES.values())) == len(RPC_NAMES)


def test_every_message_of_persistent_peers_is_in_the_table_or_a_reschedule() -> None:
    for rpc, fields in MESSAGE_NAMES.items():
        said = {field.name for field in METHODS[rpc].input_type.oneofs_by_name["request"].fields}
        missing = said - set(fields)
        assert {name.startswith("reschedule_") for name in missing} == {True}, missing


@pytest.mark.parametrize("rpc", sorted(set(RPC_NAMES) - {"AnnounceHost"}))
def test_a_call_and_a_failed_call(rpc: str) -> None:
    world = World()
    watch = world.metrics.watch(METHODS[rpc])
    request = _no_requests() if METHODS[rpc].client_streaming else object()
    with watch(request, None):
        pass
    with pytest.raises(KeyError), watch(request, None):
        raise KeyError
    name = RPC_NAMES[rpc]
    assert world.value(f"{name}_total") == 2
    assert world.value(f"{name}_failure_total") == 1


async def _no_requests() -> AsyncIterator[Any]:
    return
    yield


def announce(**fields: Any) -> scheduler_pb2.AnnounceHostRequest:
    return scheduler_pb2.AnnounceHostRequest(host=common_pb2.Host(**fields))


def test_hosts_are_counted_by_what_they_are() -> None:
    world = World()
    watch = world.metrics.watch(METHODS["AnnounceHost"])
    request = announce(os="linux", platform="debian", kernel_version="6.1")
    request.host.build.git_version = "v2.5.0"
    request.host.build.platform = "linux/amd64"
    with watch(request, None) as handed_on:
        assert handed_on is request
    labels = dict.fromkeys(rpc_metrics.HOST_LABELS, "") | {
        "os": "linux",
        "platform": "debian",
        "kernel_version": "6.1",
        "git_version": "v2.5.0",
        "build_platform": "linux/amd64",
    }
    assert world.value("announce_host_total", **labels) == 1
    assert world.value("announce_host_failure_total", **labels) == 0


def test_hosts_that_make_up_labels_are_bounded() -> None:
    world = World()
    watch = world.metrics.watch(METHODS["AnnounceHost"])
    for number in range(HOST_KINDS_LIMIT + 7):
        with watch(announce(os=f"os{number}" + "x" * 1000), None):
            pass
    other = dict.fromkeys(rpc_metrics.HOST_LABELS, rpc_metrics.OTHER_LABEL)
    assert world.value("announce_host_total", **other) == 7
    samples = [one for family in world.metrics.collect() for one in family.samples]
    assert max(len(value) for one in samples for value in one.labels.values()) <= 64


def said(rpc: str, **fields: Any) -> Any:
    kind = METHODS[rpc].input_type.name
    return getattr(scheduler_pb2, kind)(host_id="seed", **fields)


def test_messages_of_persistent_peers_are_counted_and_the_last_one_takes_the_blame() -> None:
    world = World()
    rpc = "AnnouncePersistentCachePeer"
    api = scheduler_pb2

    async def requests() -> AsyncIterator[Any]:
        yield said(
            rpc, register_persistent_cache_peer_request=api.RegisterPersistentCachePeerRequest()
        )
        yield said(rpc, download_piece_finished_request=api.DownloadPieceFinishedRequest())
        yield said(rpc, download_piece_failed_request=api.DownloadPieceFailedRequest())
        yield said(
            rpc,
            download_persistent_cache_peer_finished_request=(
                api.DownloadPersistentCachePeerFinishedRequest()
            ),
        )

    async def call() -> None:
        with world.metrics.watch(METHODS[rpc])(requests(), None) as handed_on:
            async for _ in handed_on:
                pass
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(call())
    counted = {
        name: world.value(name, host_type="super")
        for name in (
            "register_persistent_cache_peer_total",
            "register_persistent_cache_peer_failure_total",
            "download_persistent_cache_piece_finished_total",
            "download_persistent_cache_piece_finished_failure_total",
            "download_persistent_cache_peer_finished_total",
            "download_persistent_cache_peer_finished_failure_total",
        )
    }
    assert list(counted.values()) == [1, 0, 1, 1, 1, 1], counted
    assert world.value("announce_persistent_cache_peer_failure_total") == 1
