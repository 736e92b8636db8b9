"""Counting what peers say: labels, failures, levels of size, and the bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Download,
    Failed,
    Finished,
    Host,
    HostType,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceFailed,
    Started,
    TrafficType,
)
from scheduler.runtime import peer_metrics
from scheduler.runtime.peer_metrics import PeerMeter, PeerMetrics, size_level

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def make_host(name: str, *, seed: bool = False) -> Host:
    kind = HostType.SUPER if seed else HostType.NORMAL
    return Host(id=name, hostname=f"{name}-name", ip="10.0.0.1", port=1, type=kind)


@dataclass
class Known:
    hosts: dict[str, Host] = field(default_factory=dict[str, Host])
    lengths: dict[str, int] = field(default_factory=dict[str, int])

    def host(self, host_id: str) -> Host | None:
        return self.hosts.get(host_id)

    def host_of_peer(self, peer_id: str) -> Host | None:
        return self.hosts.get(peer_id.removesuffix("-peer"))

    def content_length(self, task_id: str) -> int | None:
        return self.lengths.get(task_id)


class World:
    """Metrics with a clock that is set by hand."""

    def __init__(self, *, counts_hosts: bool = False) -> None:
        self.now = 0.0
        self.known = Known({name: make_host(name) for name in ("a", "b")}, {"t": 5 * MIB})
        self.known.hosts["s"] = make_host("s", seed=True)
        self.metrics = PeerMetrics(self.known, lambda: self.now, counts_hosts=counts_hosts)
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)

    def meter(self, host_id: str = "a", **download: int) -> PeerMeter:
        meter = self.metrics.meter()
        wanted = Download(url="http://a/b", **download)  # type: ignore[arg-type]  # numbers only
        meter.registers(host_id, "t", wanted)
        return meter

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"dragonfly_scheduler_{name}", labels)


NORMAL = {"priority": "LEVEL0", "task_type": "STANDARD", "host_type": "normal"}


@pytest.mark.parametrize(
    ("length", "level"),
    [
        (None, 0), (-1, 0), (0, 0), (1, 1), (MIB - 1, 1), (MIB, 2), (4 * MIB - 1, 2),
        (4 * MIB, 3), (8 * MIB, 4), (256 * MIB, 9), (512 * MIB - 1, 9), (512 * MIB, 10),
        (GIB, 11), (4 * GIB - 1, 11), (4 * GIB, 12), (8 * GIB, 13), (512 * GIB - 1, 18),
        (512 * GIB, 19), (TIB - 1, 19), (TIB, 20), (100 * TIB, 20),
    ],
)  # fmt: skip
def test_levels_of_size_are_dragonflys(length: int | None, level: int) -> None:
    assert size_level(length) == str(level)


@pytest.mark.parametrize(
    ("message", "failed", "raised"),
    [
        (Started(), False, {"download_peer_started_total"}),
        (
            Started(),
            True,
            {"download_peer_started_total", "download_peer_started_failure_total"},
        ),
        (BackToSourceStarted(), False, {"download_peer_back_to_source_started_total"}),
        (
            BackToSourceStarted(),
            True,
            {
                "download_peer_back_to_source_started_total",
                "download_peer_back_to_source_started_failure_total",
            },
        ),
        (Finished(), False, {"download_peer_finished_total"}),
        (Finished(), True, {"download_peer_finished_failure_total"}),
        (BackToSourceFinished(), False, {"download_peer_finished_total"}),
        (Failed(), False, {"download_peer_finished_failure_total"}),
        (
            BackToSourceFailed(),
            False,
            {"download_peer_back_to_source_finished_failure_total"},
        ),
    ],
)
def test_each_message_raises_its_counters_and_no_others(
    message: PeerMessage, failed: bool, raised: set[str]
) -> None:
    world = World()
    world.meter().heard(message, failed=failed)
    names = {name for name, _, _ in peer_metrics.PEER_COUNTERS} - {"register_peer_total"}
    assert {name for name in names if world.value(name, **NORMAL)} == raised
    assert {world.value(name, **NORMAL) for name in raised} == {1.0}


def test_a_registration_fails_if_the_stream_ends_before_an_answer() -> None:
    world = World()
    labels = {"priority": "LEVEL3", "task_type": "STANDARD", "host_type": "super"}
    meter = world.meter("s", priority=3)
    assert world.value("concurrent_schedule_total") == 1
    meter.ended()
    assert world.value("register_peer_failure_total", **labels) == 1
    answered = world.meter("s", priority=3)
    answered.answered()
    answered.asks()  # a Reschedule, and away
    answered.ended()
    assert world.value("register_peer_total", **labels) == 2
    assert world.value("register_peer_failure_total", **labels) == 1
    assert world.value("concurrent_schedule_total") == 0


def test_how_long_an_answer_and_a_download_took() -> None:
    world = World()
    meter = world.meter()
    world.now = 0.2
    meter.answered()
    meter.answered()  # one that nobody asked for
    world.now = 3.0
    meter.heard(Finished(), failed=False)
    assert world.value("schedule_duration_milliseconds_count") == 1
    assert world.value("schedule_duration_milliseconds_sum") == pytest.approx(200)
    p99 = world.value("schedule_duration_milliseconds", quantile="0.99")
    assert p99 == pytest.approx(200, rel=0.011)
    took = world.value("download_peer_duration_milliseconds_sum", task_size_level="3")
    assert took == pytest.approx(3000)


def piece(traffic: TrafficType, parent_id: str = "") -> Piece:
    return Piece(number=0, offset=0, length=100, traffic_type=traffic, parent_id=parent_id)


def test_pieces_by_traffic() -> None:
    world = World()
    meter = world.meter()
    for traffic in ("REMOTE_PEER", "LOCAL_PEER", "BACK_TO_SOURCE", "BACK_TO_SOURCE"):
        meter.piece(piece(TrafficType[traffic], "b-peer"))
    meter.heard(PieceFailed(parent_id="b-peer", temporary=True), failed=False)
    meter.heard(PieceBackToSourceFailed(), failed=False)
    rest = {"task_type": "STANDARD", "host_type": "normal"}
    for traffic, count in (("REMOTE_PEER", 1), ("LOCAL_PEER", 1), ("BACK_TO_SOURCE", 2)):
        assert world.value("download_piece_finished_total", traffic_type=traffic, **rest) == count
        assert world.value("traffic", type=traffic, **rest) == 100 * count
    failed = {
        name: world.value(f"{name}_failure_total", traffic_type=traffic, **rest)
        for name, traffic in (
            ("download_piece_finished", "REMOTE_PEER"),
            ("download_piece_back_to_source_finished", "BACK_TO_SOURCE"),
        )
    }
    assert set(failed.values()) == {1}


def host_traffic(world: World, way: str, host_id: str, kind: str = "normal") -> float | None:
    other = host_id == peer_metrics.OTHER
    return world.value(
        "host_traffic",
        type=way,
        task_type="STANDARD",
        host_type=kind,
        host_id=host_id,
        host_ip="" if other else "10.0.0.1",
        host_name="" if other else f"{host_id}-name",
    )


def test_traffic_by_host_in_both_directions() -> None:
    world = World(counts_hosts=True)
    meter = world.meter("a")
    for parent in ("s-peer", "s-peer", "stranger-peer", ""):
        meter.piece(piece(TrafficType.REMOTE_PEER, parent))
    assert host_traffic(world, "download", "a") == 400
    assert host_traffic(world, "upload", "s", "super") == 200
    assert host_traffic(world, "upload", "stranger") is None


def test_without_the_setting_no_host_is_named() -> None:
    world = World()
    world.meter().piece(piece(TrafficType.REMOTE_PEER, "b-peer"))
    assert not [one for one in world.metrics.collect() if "host_traffic" in one.name]


def test_beyond_the_bound_hosts_share_a_counter() -> None:
    world = World(counts_hosts=True)
    for number in range(peer_metrics.HOST_LIMIT + 10):
        world.known.hosts[f"h{number}"] = make_host(f"h{number}")
        world.meter(f"h{number}").piece(piece(TrafficType.REMOTE_PEER))
    assert host_traffic(world, "download", "h0") == 100
    assert host_traffic(world, "download", peer_metrics.OTHER) == 1000
    (family,) = [one for one in world.metrics.collect() if one.name.endswith("host_traffic")]
    assert len(family.samples) == peer_metrics.HOST_LIMIT + 1


def test_the_counters_that_end_otherwise_keep_their_names() -> None:
    world = World(counts_hosts=True)
    world.meter().piece(piece(TrafficType.REMOTE_PEER))
    names = {sample.name for family in world.metrics.collect() for sample in family.samples}
    assert set(peer_metrics.UNUSUAL_COUNTERS) <= names
