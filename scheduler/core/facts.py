"""What the scheduler knows of a child's candidates now, read from its state: `models.facts` filled.

A decision among 25 candidates reads nearly a thousand numbers, and it does so while everybody
waits, for the core is one. So what is known of a host and of a peer is kept packed, as a row of
doubles; whoever changes them drops the row (`KnownHost.changed`, `Peer.changed`), and the next
decision that looks at them packs it anew. What lies between two places is kept by the pair of
places. The rows themselves are the batch (`models.facts.Packed`).

Some of it grows old by itself: ages, and counts that fade. It is told as it was when the row was
packed, at most `ROW_AGE_S` ago.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from math import nan
from typing import TYPE_CHECKING

from models.facts import FACT_NAMES, HOST_ROW, PAIR_ROW, PEER_ROW, CandidateBatch, Packed
from models.features import location_affinity, same_idc
from scheduler.core.lifecycle import SERVING, PeerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.core.history import PairRates
    from scheduler.core.host import KnownHost, Place
    from scheduler.core.peer import Peer
    from scheduler.core.state import SchedulerState

HOST_FACTS = (
    "max_tx_bits_per_s",
    "reported_tx_bits_per_s",
    "is_seed",
    "upload_slots",
    "booked_tx_bits_per_s",
    "upload_content_length",
    "upload_piece_count",
    "child_count",
    "reported_child_count",
    "served_rate_bytes_per_s",
    "served_recent_rate_bytes_per_s",
    "served_piece_count",
    "served_failure_count",
    "report_age_s",
    "served_age_s",
)
PEER_FACTS = (
    "is_first_download",
    "is_at_source",
    "is_finished",
    "can_serve",
    "finished_piece_count",
    "parent_count",
    "depth",
    "cost_count",
    "cost_last_s",
    "cost_mean_s",
    "cost_std_s",
    "turns_since_named",
)
PAIR_FACTS = ("same_idc", "location_affinity", "pair_rate_bytes_per_s", "pair_piece_count")
COMMON_FACTS = (
    "cost_window",
    "swarm_rate_bytes_per_s",
    "pairs_rate_bytes_per_s",
    "child_rate_bytes_per_s",
    "piece_length",
    "total_piece_count",
)
assert FACT_NAMES == HOST_FACTS + PEER_FACTS + PAIR_FACTS + COMMON_FACTS, "the order of the rows"

SLOTS = 4
SEED_SLOTS = 16
"""Pieces that a peer and a seed of ours send at a time, unless their settings say otherwise (the
wire has no word for it). Stock peers have no such limit, but no more uplink either."""

ROW_AGE_S = 1.0
"""A row that was packed longer ago is packed anew. Ages matter on a scale of 20 s (the trust in a
report), counts fade within 10 min; while many decisions are made, most find every row packed."""
PLACES_KEPT = 256
"""Places whose ways are kept, with the ways to as many from each: 8 MiB. Names are claims; of more,
all are forgotten and begun anew."""

_LOADS = ("booked_tx_bits_per_s", "upload_content_length", "upload_piece_count", "child_count")
_LOAD = struct.Struct(f"<{len(_LOADS)}d")
_LOAD_START = HOST_FACTS.index(_LOADS[0])
assert HOST_FACTS[_LOAD_START : _LOAD_START + len(_LOADS)] == _LOADS, "they lie together"
_LOAD_SPAN = slice(8 * _LOAD_START, 8 * _LOAD_START + _LOAD.size)
"""Where a host's bookings are in its row, in bytes."""

_STATE_FACTS: dict[PeerState, tuple[bool, bool, bool, bool]] = {
    state: (
        state in (PeerState.RECEIVED_NORMAL, PeerState.RUNNING),
        state is PeerState.BACK_TO_SOURCE,
        state is PeerState.SUCCEEDED,
        state in SERVING,
    )
    for state in PeerState
}
"""The first four of `PEER_FACTS`, by state."""

PLACE_PAIRS = 16_384
"""Pairs of places whose nearness is remembered: 2 MiB."""


def facts(
    child: Peer, candidates: Sequence[Peer], now: float, state: SchedulerState
) -> CandidateBatch:
    """Read what a ranker may know of `candidates` for `child`, one row each, in their order."""
    ways = state.ways.of(child.host.place, now)
    packed_since_s = now - ROW_AGE_S
    hosts: list[bytes] = []
    peers: list[bytes] = []
    pairs: list[bytes] = []
    for peer in candidates:
        host = peer.host
        row = host.row
        if row is None or host.row_at_s < packed_since_s:
            row = host_row(host, now)
        elif host.is_load_new:
            row = with_new_load(host, row)
        hosts.append(row)
        peers.append(peer.row or peer_row(peer))
        pairs.append(ways[host.place])
    turn = state.turn_count
    turns = [turn - peer.named_at_turn for peer in candidates]
    common = _common(child, candidates, state)
    return CandidateBatch(packed=Packed(hosts, peers, pairs, turns, common))


def host_row(host: KnownHost, now: float) -> bytes:
    """What is known of a host, packed and kept until it changes or has grown old."""
    said, history = host.announced, host.history
    host.row_at_s, host.is_load_new = now, False
    host.row = HOST_ROW.pack(
        said.max_tx_bandwidth_bits_per_s,
        said.tx_bandwidth_bits_per_s,
        said.is_seed,
        SEED_SLOTS if said.is_seed else SLOTS,
        host.booked_tx_bits_per_s,
        host.upload_content_length,
        host.concurrent_upload_piece_count,
        host.concurrent_upload_count,
        host.reported_child_count,
        history.rate_bytes_per_s,
        history.recent_rate_bytes_per_s,
        history.piece_count(now),
        history.failure_count(now),
        now - host.announced_at_s,
        history.age_s(now),
    )
    return host.row


def with_new_load(host: KnownHost, row: bytes) -> bytes:
    """The row with the host's bookings put right: each edge changes them, and nothing else."""
    load = _LOAD.pack(
        host.booked_tx_bits_per_s,
        host.upload_content_length,
        host.concurrent_upload_piece_count,
        host.concurrent_upload_count,
    )
    host.is_load_new = False
    host.row = row[: _LOAD_SPAN.start] + load + row[_LOAD_SPAN.stop :]
    return host.row


def peer_row(peer: Peer) -> bytes:
    """What is known of a peer but when it was named last, packed and kept until it changes."""
    graph = peer.task.graph
    peer.row = PEER_ROW.pack(
        *_STATE_FACTS[peer.state],
        len(peer.pieces),
        graph.parent_count(peer.id),
        graph.depth(peer.id),
        len(peer.costs),
        *peer.costs.latest_and_others(),
    )
    return peer.row


class WayRows:
    """What lies between any two places, packed and kept by the place of the child."""

    def __init__(self, pairs: PairRates) -> None:
        self._pairs = pairs
        self._ways: dict[Place, _Ways] = {}

    def of(self, child: Place, now: float) -> Mapping[Place, bytes]:
        """The rows by the candidate's place, none older than `ROW_AGE_S`."""
        ways = self._ways.get(child)
        if ways is None or ways.began_at_s < now - ROW_AGE_S:
            if len(self._ways) >= PLACES_KEPT:
                self._ways.clear()
            ways = self._ways[child] = _Ways(child, self._pairs, now)
        return ways


class _Ways(dict["Place", bytes]):
    """The rows of one child's place, as of one moment."""

    def __init__(self, child: Place, pairs: PairRates, now: float) -> None:
        super().__init__()
        self._child = child
        self._pairs = pairs
        self.began_at_s = now

    def __missing__(self, place: Place) -> bytes:
        pair = self._pairs.between(place.idc, self._child.idc)
        if len(self) >= PLACES_KEPT:
            self.clear()
        row = self[place] = PAIR_ROW.pack(
            *_nearness(self._child, place), pair.bytes_per_s, pair.piece_count(self.began_at_s)
        )
        return row


@lru_cache(maxsize=PLACE_PAIRS)
def _nearness(child: Place, parent: Place) -> tuple[float, float]:
    return (
        same_idc(child.idc, parent.idc),
        location_affinity(child.location, parent.location),
    )


def _common(child: Peer, candidates: Sequence[Peer], state: SchedulerState) -> tuple[float, ...]:
    """The facts `COMMON_FACTS`."""
    task = child.task
    return (
        candidates[0].costs.limit if candidates else nan,
        state.swarm_rate.bytes_per_s,
        state.pairs.overall.bytes_per_s,
        child.host.received.rate_bytes_per_s,
        task.piece_length or 0,
        task.piece_count,
    )
