"""What the scheduler knows of a child's candidates at the moment of a decision: one row for each.

Facts are raw and recorded as they are; what a ranker sees is computed from them by `features`, live
and in training alike. This module measures nothing: `scheduler.core` fills a batch from its state,
a data set fills it from recorded decisions.

The scheduler keeps what it knows of each host, peer and pair of data centres packed, and a batch
of its is first of all those rows (`Packed`). Whoever wants columns makes them of it once; our rule
reads the rows as they are (`rule_ranker`), and most decisions need no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from odonata.errors import CallerError
from odonata.wire.message import Value

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Fact(Value, frozen=True, kw_only=True):
    """One column. `unknown` is what stands there when nobody knows (NaN where 0 would be a claim).

    Truth is 1, falsehood 0.
    """

    name: str
    unit: str
    about: str
    unknown: float = 0.0


FACTS: tuple[Fact, ...] = (
    # --- what the candidate's host says of itself ---
    Fact(name="max_tx_bits_per_s", unit="bit/s", about="its uplink; 0: it does not say"),
    Fact(
        name="reported_tx_bits_per_s",
        unit="bit/s",
        about="what leaves its uplink, by itself; 0: it does not say",
    ),
    Fact(name="is_seed", unit="1", about="it is a seed peer"),
    Fact(name="upload_slots", unit="pieces", about="it sends so many at a time; 0: not known"),
    # --- what this scheduler handed out on that host and did not take back ---
    Fact(name="booked_tx_bits_per_s", unit="bit/s", about="by all its children"),
    Fact(name="upload_content_length", unit="B", about="content its children came for"),
    Fact(name="upload_piece_count", unit="pieces", about="pieces its children may have in flight"),
    Fact(name="child_count", unit="children", about="children of all its peers"),
    Fact(
        name="reported_child_count",
        unit="children",
        about="children it had when it last announced itself",
    ),
    # --- what the candidate's host has served to anybody, of any task (scheduler.core.history) ---
    Fact(
        name="served_rate_bytes_per_s",
        unit="B/s",
        about="bytes served over time busy serving, half-life 10 min",
        unknown=nan,
    ),
    Fact(
        name="served_recent_rate_bytes_per_s",
        unit="B/s",
        about="the same with a half-life of 10 s",
        unknown=nan,
    ),
    Fact(name="served_piece_count", unit="pieces", about="pieces behind served_rate, faded alike"),
    Fact(name="served_failure_count", unit="pieces", about="failed or late ones, faded alike"),
    # --- how old that is ---
    Fact(name="report_age_s", unit="s", about="since it last announced itself"),
    Fact(name="served_age_s", unit="s", about="since the last piece, good or bad", unknown=nan),
    # --- the candidate's own download ---
    Fact(name="is_first_download", unit="1", about="state ReceivedNormal or Running"),
    Fact(name="is_at_source", unit="1", about="state BackToSource"),
    Fact(name="is_finished", unit="1", about="state Succeeded"),
    Fact(name="can_serve", unit="1", about="state Running, BackToSource or Succeeded", unknown=1.0),
    Fact(name="finished_piece_count", unit="pieces", about="it holds so many"),
    Fact(name="parent_count", unit="parents", about="it has so many itself"),
    Fact(name="depth", unit="hops", about="between it and whoever needs no parent"),
    Fact(name="cost_count", unit="pieces", about="piece costs it reported, at most the window"),
    Fact(name="cost_last_s", unit="s", about="the latest of them; 0 with fewer than 2"),
    Fact(name="cost_mean_s", unit="s", about="mean of the others"),
    Fact(name="cost_std_s", unit="s", about="population deviation of the others"),
    Fact(
        name="turns_since_named",
        unit="edges",
        about="that this scheduler made since it last named the candidate as a parent",
    ),
    # --- the pair, and what was served between the two data centres ---
    Fact(name="same_idc", unit="1", about="child and host name the same data centre"),
    Fact(name="location_affinity", unit="1", about="share of leading location elements that agree"),
    Fact(
        name="pair_rate_bytes_per_s",
        unit="B/s",
        about="geometric mean of length over cost of pieces from its data centre to the child's",
        unknown=nan,
    ),
    Fact(name="pair_piece_count", unit="pieces", about="pieces behind pair_rate, faded alike"),
    # --- the child and the swarm: the same in every row of a batch ---
    Fact(name="cost_window", unit="pieces", about="how many costs are kept", unknown=2000.0),
    Fact(
        name="swarm_rate_bytes_per_s",
        unit="B/s",
        about="geometric mean of served_rate over the hosts that serve",
        unknown=nan,
    ),
    Fact(
        name="pairs_rate_bytes_per_s",
        unit="B/s",
        about="what pair_rate is over all pairs of data centres",
        unknown=nan,
    ),
    Fact(
        name="child_rate_bytes_per_s",
        unit="B/s",
        about="bytes the child's host received over time busy receiving, half-life 10 min",
        unknown=nan,
    ),
    Fact(name="piece_length", unit="B", about="of the task; 0: not known yet"),
    Fact(name="total_piece_count", unit="pieces", about="of the task; 0: not known yet"),
)
"""In the order in which the scheduler fills them: what is kept of a host, of a peer, of a pair of
data centres, and what is the same for all."""

HOST_FACT_COUNT, PEER_FACT_COUNT, PAIR_FACT_COUNT, COMMON_FACT_COUNT = 15, 12, 4, 6
"""How many of `FACTS` are of a candidate's host, of itself, of a pair, and the same for all."""

HOST_ROW = struct.Struct(f"<{HOST_FACT_COUNT}d")
PEER_ROW = struct.Struct(f"<{PEER_FACT_COUNT - 1}d")
PAIR_ROW = struct.Struct(f"<{PAIR_FACT_COUNT}d")
COMMON_ROW = struct.Struct(f"<{COMMON_FACT_COUNT}d")
"""What is known of each, in the order of `FACTS`; of a peer all but the last (`Packed.turns`)."""
_DOUBLE = np.dtype("<f8")

CLAIM_LIMIT = 1e15
"""More of anything than that nobody counted: it is a broken number."""

FACT_NAMES: tuple[str, ...] = tuple(fact.name for fact in FACTS)
_COLUMN = {fact.name: number for number, fact in enumerate(FACTS)}
_ROW_COUNT = HOST_FACT_COUNT + PEER_FACT_COUNT + PAIR_FACT_COUNT
_TURNS = _COLUMN["turns_since_named"]
assert _TURNS == HOST_FACT_COUNT + PEER_FACT_COUNT - 1, "the last that is known of a peer"


def column_of(name: str) -> int:
    """Which column of a batch holds the fact `name`."""
    return _COLUMN[name]


class Packed(NamedTuple):
    """Facts of n candidates as they are kept: three rows of doubles for each, in their order.

    A peer's row ends before the turns since it was named: these pass for all alike, and a row shall
    be kept. They are in `turns`.
    """

    hosts: Sequence[bytes]
    peers: Sequence[bytes]
    pairs: Sequence[bytes]
    turns: Sequence[float]
    common: tuple[float, ...]

    def row_bytes(self) -> bytes:
        """All n x len(FACTS) of them, row by row."""
        turns = struct.pack(f"<{len(self.turns)}d", *self.turns)
        each = (
            turns[start : start + _DOUBLE.itemsize]
            for start in range(0, len(turns), _DOUBLE.itemsize)
        )
        common = repeat(COMMON_ROW.pack(*self.common), len(self.hosts))
        parts = zip(self.hosts, self.peers, each, self.pairs, common, strict=True)
        return b"".join(chain.from_iterable(parts))

    def facts(self) -> FloatArray:
        """All as columns, shape (n, len(FACTS)), contiguous by column."""
        rows = np.frombuffer(self.row_bytes(), dtype=_DOUBLE).reshape(-1, len(FACTS))
        return np.array(rows, dtype=np.float64, order="F")


class CandidateBatch:
    """Facts of n candidates for one child: `facts` has shape (n, len(FACTS)), float64.

    Columns are what most rankers read, so a batch made here has them contiguous (Fortran order).
    """

    __slots__ = ("_facts", "_packed")

    def __init__(self, facts: FloatArray | None = None, packed: Packed | None = None) -> None:
        """Either of the two; the other one is made of it when it is asked for."""
        assert (facts is None) is not (packed is None), "one of them"
        self._facts = facts
        self._packed = packed

    @property
    def facts(self) -> FloatArray:
        """By candidate and fact; leave it alone."""
        if self._facts is None:
            assert self._packed is not None
            self._facts = self._packed.facts()
        return self._facts

    @property
    def packed(self) -> Packed:
        """The same as rows of what is known of each host, peer and pair."""
        if self._packed is None:
            self._packed = _packed(self.facts)
        return self._packed

    def row_bytes(self) -> bytes:
        """All facts as little-endian doubles, row by row, as they are recorded."""
        if self._packed is not None:
            return self._packed.row_bytes()
        return self.facts.astype(_DOUBLE, copy=False).tobytes()

    def __len__(self) -> int:
        """Return n."""
        return len(self._packed.hosts) if self._packed is not None else len(self.facts)

    def __getitem__(self, name: str) -> FloatArray:
        """Return the column of fact `name`, shape (n,). It may be the batch's own: leave it alone.

        Contiguous always: numpy's vectorised functions may round strided columns differently, and a
        feature must come out the same bit for bit wherever it is computed.
        """
        return np.ascontiguousarray(self.facts[:, _COLUMN[name]])

    def is_true(self, name: str) -> BoolArray:
        """Return where the fact `name` is a truth, shape (n,)."""
        return self.facts[:, _COLUMN[name]] > 0

    def claims(self) -> FloatArray:
        """All facts by columns, shape (len(FACTS), n), contiguous, in 0..`CLAIM_LIMIT`.

        A number of things, a share, a time or a rate that makes no sense, or is unknown, is none.
        For rankers that read many columns: one step for all costs as much as for one.
        """
        told: FloatArray = np.fmax(self.facts.T, 0.0, order="C")
        return np.fmin(told, CLAIM_LIMIT, out=told)

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[float]]) -> CandidateBatch:
        """A batch from one row of facts per candidate, each in the order of `FACTS`."""
        return cls(np.array(rows, dtype=np.float64, order="F").reshape(len(rows), len(FACTS)))

    @classmethod
    def of_columns(cls, columns: Mapping[str, Sequence[float] | FloatArray]) -> CandidateBatch:
        """A batch from columns of equal length; facts that are not named are unknown.

        CallerError for a column that is no fact, or none at all.
        """
        strange = set(columns) - set(_COLUMN)
        if strange or not columns:
            raise CallerError(f"{min(strange, default='nothing')} is no fact: see models.facts")
        count = len(next(iter(columns.values())))
        facts = np.empty((count, len(FACTS)), dtype=np.float64, order="F")
        for number, fact in enumerate(FACTS):
            facts[:, number] = columns.get(fact.name, fact.unknown)
        return cls(facts)


def _packed(facts: FloatArray) -> Packed:
    """The rows that make these facts: equal ones are equal byte for byte."""
    rows = facts.astype(_DOUBLE, order="C")  # a copy
    turns: list[float] = rows[:, _TURNS].tolist()
    common = rows[0, _ROW_COUNT:].tolist() if len(rows) else [nan] * COMMON_FACT_COUNT
    return Packed(
        hosts=[row[:HOST_FACT_COUNT].tobytes() for row in rows],
        peers=[row[HOST_FACT_COUNT:_TURNS].tobytes() for row in rows],
        pairs=[row[_TURNS + 1 : _ROW_COUNT].tobytes() for row in rows],
        turns=turns,
        common=tuple(common),
    )
