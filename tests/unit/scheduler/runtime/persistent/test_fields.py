"""Hashes as we write them, and as Dragonfly's own scheduler writes them."""

from __future__ import annotations

from typing import Any

import pytest
from dragonfly_api import common_pb2
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import StorageError
from scheduler.core.persistent.lifecycle import PeerState, TaskState
from scheduler.core.persistent.state import Peer, Task
from scheduler.runtime.persistent.fields import (
    PEER_HOST_FIELDS,
    host_created_at,
    host_from_fields,
    host_to_fields,
    peer_from_fields,
    peer_host_from_fields,
    peer_to_fields,
    task_from_fields,
    task_to_fields,
)

MOMENT_S = 1577836800.0
names = st.text(max_size=20)
counts = st.integers(0, 2**63 - 1)
moments = st.integers(0, 4_000_000_000_000_000).map(lambda micros: round(micros / 1e6, 6))
seconds = st.integers(0, 7 * 24 * 3600 * 1000).map(lambda millis: millis / 1000)

tasks = st.builds(
    Task,
    id=names,
    state=st.sampled_from(TaskState),
    persistent_replica_count=counts,
    content_length=counts,
    piece_count=counts,
    piece_length=counts,
    tag=names,
    application=names,
    ttl_s=seconds,
    created_at_s=moments,
    updated_at_s=moments,
    url=names,
    storage=st.binary(max_size=40),
)
peers = st.builds(
    Peer,
    id=names,
    task_id=names,
    host_id=names,
    state=st.sampled_from(PeerState),
    persistent=st.booleans(),
    finished_pieces=st.integers(0, 2**200),
    block_parents=st.lists(names, max_size=3).map(tuple),
    cost_s=seconds,
    created_at_s=moments,
    updated_at_s=moments,
    concurrent_piece_count=st.integers(0, 2**31),
)


def stored(fields: dict[str, Any]) -> dict[bytes, bytes]:
    """What Redis gives back."""
    return {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in fields.items()
    }


@given(tasks)
def test_a_task_is_read_as_it_was_written(task: Task) -> None:
    assert task_from_fields("k", stored(task_to_fields(task))) == task


@given(peers)
def test_a_peer_is_read_as_it_was_written(peer: Peer) -> None:
    assert peer_from_fields("k", stored(peer_to_fields(peer))) == peer


def test_a_host_keeps_all_it_said_of_itself() -> None:
    host = common_pb2.Host(
        id="h",
        type=1,
        hostname="name",
        ip="10.0.0.1",
        port=4000,
        download_port=4001,
        proxy_port=4002,
        os="linux",
        disable_shared=True,
        scheduler_cluster_id=7,
        name="n",
    )
    host.cpu.percent, host.cpu.times.guest_nice = 12.5, 3.25
    host.memory.total, host.build.git_version = 2**40, "v1"
    host.network.idc, host.network.max_tx_bandwidth = "idc", 10**10
    host.disk.free, host.disk.inodes_used_percent = 2**41, 0.5
    fields = stored({**host_to_fields(host, 300.0, MOMENT_S), "created_at": host_created_at(1.0)})
    assert host_from_fields("k", fields) == host
    picked = {name: fields[name] for name in map(str.encode, PEER_HOST_FIELDS)}
    known = peer_host_from_fields("k", picked)
    assert known is not None
    assert (known.call_port, known.idc, known.disk_free_bytes) == (4001, "idc", 2**41)
    assert (known.announce_interval_s, known.updated_at_s) == (300.0, MOMENT_S)
    assert known.disable_shared


def test_a_host_that_said_little_is_read_as_one_that_said_little() -> None:
    host = common_pb2.Host(id="h", hostname="n", ip="10.0.0.1", port=1)
    assert host_from_fields("k", stored(host_to_fields(host, 0.0, 1.0))) == host


GO_PEER = {
    "id": "p",
    "persistent": "1",
    "finished_pieces": (70).to_bytes(8, "big") + (5).to_bytes(8, "big") + (32).to_bytes(8, "big"),
    "state": "Running",
    "block_parents": "null",
    "task_id": "t",
    "host_id": "h",
    "cost": "1500000000",
    "created_at": "2020-01-01T08:00:00+08:00",
    "updated_at": "2020-01-01T00:00:01Z",
    "concurrent_piece_count": "8",
}


def test_what_dragonflys_scheduler_writes_is_read() -> None:
    peer = peer_from_fields("k", stored(GO_PEER))
    assert (peer.created_at_s, peer.updated_at_s) == (MOMENT_S, MOMENT_S + 1)
    assert (peer.cost_s, peer.persistent, peer.block_parents) == (1.5, True, ())
    assert peer.finished_pieces == 0b101 | 1 << 69, "pieces 0, 2 and 69"


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", "Dancing"), ("cost", "much"), ("persistent", "2"), ("created_at", "yesterday")],
)
def test_what_nobody_can_read_is_named(name: str, value: str) -> None:
    with pytest.raises(StorageError, match=f"field {name} of Redis key k can't be read"):
        peer_from_fields("k", stored({**GO_PEER, name: value}))
    without = {key: said for key, said in GO_PEER.items() if key != name}
    with pytest.raises(StorageError, match="it is missing"):
        peer_from_fields("k", stored(without))
