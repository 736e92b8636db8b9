"""What the scheduler knows of a child's candidates now, read from its state: `models.facts` filled.

A decision among 25 candidates reads nearly a thousand numbers, and it does so while everybody
waits, for the core is one. So what is known of a host and of a peer is kept packed, as a row of
doubles; whoever changes them drops the row (`KnownHost.changed`, `Peer.changed`), and the next
decision that looks at them packs it anew. What lies between two places is packed once for each pair
of places. The rows are joined, and become the batch in one step; only what grows old by itself is
computed then.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np

from models.facts import FACT_NAMES, CandidateBatch, column_of
from models.features import location_affinity, same_idc
from scheduler.core.history import LONG_HALF_LIFE_S, LONGEST_FADE
from scheduler.core.lifecycle import SERVING, PeerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.facts import FloatArray
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

_HIDDEN = 2  # before the facts of a host: when its two counts were what they are
_HOST = struct.Struct(f"={_HIDDEN + len(HOST_FACTS)}d")
_PEER = struct.Struct(f"={len(PEER_FACTS)}d")
_PAIR = struct.Struct(f"={len(PAIR_FACTS)}d")
_COMMON_ROW = struct.Struct(f"={len(COMMON_FACTS)}d")
_READ = len(HOST_FACTS) + len(PEER_FACTS) + len(PAIR_FACTS)
_WIDTH = _HIDDEN + _READ

_COUNTS = slice(column_of("served_piece_count"), column_of("served_failure_count") + 1)
_AGES = slice(column_of("report_age_s"), column_of("served_age_s") + 1)
_TURNS = column_of("turns_since_named")
_COMMON = slice(_READ, len(FACT_NAMES))

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
    ways = _Ways(child.host.place, state.pairs, now)
    parts: list[bytes] = []
    for peer in candidates:
        host = peer.host
        parts += (host.row or host_row(host), peer.row or peer_row(peer), ways[host.place])
    count = len(candidates)
    rows = np.frombuffer(b"".join(parts), dtype=np.float64).reshape(count, _WIDTH).T
    matrix = np.empty((len(FACT_NAMES), count))
    matrix[:_READ] = rows[_HIDDEN:]
    fade = np.fmin(np.fmax((now - rows[:_HIDDEN]) / LONG_HALF_LIFE_S, 0.0), LONGEST_FADE)
    matrix[_COUNTS] *= np.exp2(-fade)
    np.subtract(now, matrix[_AGES], out=matrix[_AGES])
    np.subtract(state.turn_count, matrix[_TURNS], out=matrix[_TURNS])
    matrix[_COMMON] = _common(child, candidates, state)
    return CandidateBatch(matrix.T)


def host_row(host: KnownHost) -> bytes:
    """What is known of a host, packed and kept until it changes."""
    said, history = host.announced, host.history
    heard_at_s = history.heard_at_s
    host.row = _HOST.pack(
        history.pieces.at_s,
        history.failures.at_s,
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
        history.pieces.value,
        history.failures.value,
        host.announced_at_s,
        nan if heard_at_s == -inf else heard_at_s,
    )
    return host.row


def peer_row(peer: Peer) -> bytes:
    """What is known of a peer, packed and kept until it changes."""
    graph = peer.task.graph
    peer.row = _PEER.pack(
        *_STATE_FACTS[peer.state],
        len(peer.pieces),
        graph.parent_count(peer.id),
        graph.depth(peer.id),
        len(peer.costs),
        *peer.costs.latest_and_others(),
        peer.named_at_turn,
    )
    return peer.row


class _Ways(dict["Place", bytes]):
    """What lies between a place and the child's, packed once for each."""

    def __init__(self, child: Place, pairs: PairRates, now: float) -> None:
        super().__init__()
        self._child = child
        self._pairs = pairs
        self._now = now

    def __missing__(self, place: Place) -> bytes:
        pair = self._pairs.between(place.idc, self._child.idc)
        row = self[place] = _PAIR.pack(
            *_nearness(self._child, place), pair.bytes_per_s, pair.piece_count(self._now)
        )
        return row


@lru_cache(maxsize=PLACE_PAIRS)
def _nearness(child: Place, parent: Place) -> tuple[float, float]:
    return (
        same_idc(child.idc, parent.idc),
        location_affinity(child.location, parent.location),
    )


def _common(child: Peer, candidates: Sequence[Peer], state: SchedulerState) -> FloatArray:
    """The facts `COMMON_FACTS`, shape (k, 1)."""
    task = child.task
    packed = _COMMON_ROW.pack(
        candidates[0].costs.limit if candidates else nan,
        state.swarm_rate.bytes_per_s,
        state.pairs.overall.bytes_per_s,
        child.host.received.rate_bytes_per_s,
        task.piece_length or 0,
        task.piece_count,
    )
    return np.frombuffer(packed, dtype=np.float64).reshape(-1, 1)
