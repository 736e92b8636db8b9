"""What the scheduler knows of a child's candidates now, read from its state: `models.facts` filled.

A decision among 128 candidates reads some 3,000 numbers, and it does so while everybody waits, for
the core is one. So what is the same in all rows is not read row by row, names are compared once
each, and the numbers go into the matrix in one piece (a list of rows takes numpy twice as long).
"""

from __future__ import annotations

import struct
from itertools import chain
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from models.facts import FACT_NAMES, CandidateBatch
from models.features import location_affinity, same_idc
from scheduler.core.history import columns
from scheduler.core.lifecycle import SERVING, PeerState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.facts import FloatArray
    from scheduler.core.peer import Peer

_READ = (
    "max_tx_bits_per_s",
    "reported_tx_bits_per_s",
    "report_age_s",
    "is_seed",
    "booked_tx_bits_per_s",
    "upload_content_length",
    "upload_piece_count",
    "child_count",
    "same_idc",
    "location_affinity",
    "finished_piece_count",
    "parent_count",
    "cost_count",
    "cost_last_s",
    "cost_mean_s",
    "cost_std_s",
)
"""The facts that `_row` gives, in its order."""
_READ_COLUMNS = np.array([FACT_NAMES.index(name) for name in _READ])

_HISTORY = (
    "served_rate_bytes_per_s",
    "served_recent_rate_bytes_per_s",
    "served_piece_count",
    "served_failure_count",
    "served_age_s",
)
"""The facts that `history.columns` gives, in its order."""
_HISTORY_COLUMNS = np.array([FACT_NAMES.index(name) for name in _HISTORY])

_STATE_FACTS: dict[str, tuple[PeerState, ...]] = {
    "is_first_download": (PeerState.RECEIVED_NORMAL, PeerState.RUNNING),
    "is_at_source": (PeerState.BACK_TO_SOURCE,),
    "is_finished": (PeerState.SUCCEEDED,),
    "can_serve": SERVING,
}
_STATE_COLUMNS = np.array([FACT_NAMES.index(name) for name in _STATE_FACTS])
_STATE_NUMBERS = {state: number for number, state in enumerate(PeerState)}
_STATE_TABLE = np.array(
    [[float(state in states) for states in _STATE_FACTS.values()] for state in PeerState]
)
"""By state: the facts that follow from it."""


def facts(
    child: Peer, candidates: Sequence[Peer], now: float, swarm_rate_bytes_per_s: float = nan
) -> CandidateBatch:
    """Read what a ranker may know of `candidates` for `child`, one row each, in their order."""
    task = child.task
    matrix = np.empty((len(candidates), len(FACT_NAMES)), dtype=np.float64)
    matrix[:, _READ_COLUMNS] = _read(child, candidates, now)
    matrix[:, _HISTORY_COLUMNS] = columns([peer.host.history for peer in candidates], now)
    states = [_STATE_NUMBERS[peer.state] for peer in candidates]
    matrix[:, _STATE_COLUMNS] = _STATE_TABLE[states]
    same: dict[str, float] = {
        "cost_window": candidates[0].costs.limit if candidates else nan,
        "swarm_rate_bytes_per_s": swarm_rate_bytes_per_s,
        "child_rate_bytes_per_s": child.host.received.rate_bytes_per_s,
        "piece_length": task.piece_length or 0,
        "total_piece_count": task.piece_count,
    }
    for name, value in same.items():
        matrix[:, FACT_NAMES.index(name)] = value
    return CandidateBatch(matrix)


class _OnceEach(dict[str, float]):
    """What `compute` says of a name, computed once for each."""

    def __init__(self, compute: Callable[[str], float]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, name: str) -> float:
        value = self[name] = self._compute(name)
        return value


def _read(child: Peer, candidates: Sequence[Peer], now: float) -> FloatArray:
    """The facts `_READ`, shape (n, len(_READ))."""
    said = child.host.announced
    idc = _OnceEach(lambda name: same_idc(said.idc, name))
    location = _OnceEach(lambda name: location_affinity(said.location, name))
    rows = [_row(peer, now, idc, location) for peer in candidates]
    count = len(rows) * len(_READ)
    packed = struct.pack(f"={count}d", *chain.from_iterable(rows))
    return np.frombuffer(packed, dtype=np.float64).reshape(len(rows), len(_READ))


def _row(parent: Peer, now: float, idc: _OnceEach, location: _OnceEach) -> tuple[float, ...]:
    host, costs = parent.host, parent.costs
    said = host.announced
    return (
        said.max_tx_bandwidth_bits_per_s,
        said.tx_bandwidth_bits_per_s,
        now - host.announced_at_s,
        said.is_seed,
        host.booked_tx_bits_per_s,
        host.upload_content_length,
        host.concurrent_upload_piece_count,
        host.concurrent_upload_count,
        idc[said.idc],
        location[said.location],
        len(parent.pieces),
        parent.task.graph.parent_count(parent.id),
        len(costs),
        *costs.latest_and_others(),
    )
