"""The `rule` ranker: the formula of `rule`, candidate by candidate, from rows as they are kept.

With some 25 candidates numpy spends its time on being called, some forty times; and most of what
the formula says of a host it said a moment ago, of the same row. So what follows from a host's row
alone is remembered by that row, and what is left per candidate are a dozen additions. Both ways
agree to rounding errors, and this one is what ranks: live, from a record, and in training, so that
equals are equal everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import exp2, log
from typing import NamedTuple, TypeVar

import numpy as np

from models.facts import (
    CLAIM_LIMIT,
    COMMON_FACT_COUNT,
    FACT_NAMES,
    HOST_FACT_COUNT,
    PAIR_ROW,
    PEER_FACT_COUNT,
    CandidateBatch,
    Packed,
)
from models.prior import PRIOR_FAILURES, PRIOR_PAIR_PIECES, PRIOR_PIECES, PRIOR_SUCCESSES
from models.ranker import Ranking
from models.rule import (
    CLAIM_TRUST,
    DEPTH_WEIGHT,
    FAILURE_WEIGHT,
    FINISHED_WEIGHT,
    LEAST,
    LOCATION_WEIGHT,
    LOG_USEFUL_MIN,
    PAIR_OF_KNOWN,
    RATIO_LIMIT,
    REPORT_HALF_LIFE_S,
    SAME_IDC_WEIGHT,
    SLOT_WEIGHT,
    SPARE_MIN,
    TEMPERATURE,
)

T = TypeVar("T")


def _only(names: tuple[str, ...], first: int, count: int) -> struct.Struct:
    """Reads these facts, in their order, from a row of `count` facts that begin at the `first`."""
    row = FACT_NAMES[first : first + count]
    assert [name for name in row if name in names] == list(names)
    return struct.Struct("<" + "".join("d" if name in names else "8x" for name in row))


_OF_HOST = _only(
    (
        "max_tx_bits_per_s",
        "reported_tx_bits_per_s",
        "upload_slots",
        "child_count",
        "reported_child_count",
        "served_rate_bytes_per_s",
        "served_piece_count",
        "served_failure_count",
        "report_age_s",
    ),
    0,
    HOST_FACT_COUNT,
)
_OF_PEER = _only(
    ("is_finished", "can_serve", "finished_piece_count", "depth"),
    HOST_FACT_COUNT,
    PEER_FACT_COUNT - 1,
)

ROWS_REMEMBERED = 16_384
"""Of hosts, of peers, and of pairs; some 6 MiB each. Rows come and go as what they tell of changes;
when there are so many, all are forgotten."""
_COMMON_NAMES = FACT_NAMES[-COMMON_FACT_COUNT:]
_SWARM = _COMMON_NAMES.index("swarm_rate_bytes_per_s")
_PAIRS = _COMMON_NAMES.index("pairs_rate_bytes_per_s")
_TOTAL = _COMMON_NAMES.index("total_piece_count")


class RuleRanker:
    """Ranks by the formula of `rule`."""

    name = "rule"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the formula; bad is only who can't serve."""
        del seed  # it draws no lots
        scores, bad = row_scores(batch.packed)
        return Ranking(
            scores=np.array(scores),
            bad=np.array(bad) if True in bad else np.zeros(len(bad), dtype=np.bool_),
            ranked_by=self.name,
            temperature=TEMPERATURE,
        )


class _Memory(dict[bytes, T]):
    """What follows from a row, by the row."""

    def __init__(self, part: Callable[[bytes], T]) -> None:
        super().__init__()
        self._part = part

    def __missing__(self, row: bytes) -> T:
        if len(self) >= ROWS_REMEMBERED:
            self.clear()
        told = self[row] = self._part(row)
        return told


class HostPart(NamedTuple):
    """What the formula says of a host by its row alone.

    `weight` of its own history in what is expected of it, and that history as a logarithm;
    `log_uplink`, None if it announces none; and all that is simply added up.
    """

    weight: float
    log_served: float
    log_uplink: float | None
    rest: float


def row_scores(packed: Packed) -> tuple[list[float], list[bool]]:
    """The score of each candidate as `rule.rule_score` tells it, and whether it can't serve.

    Clipping is written out: it is done fifty times, and a call costs more than all the rest.
    """
    hosts = [_HOST_PARTS[row] for row in packed.hosts]
    peers = [_PEER_PARTS[row] for row in packed.peers]
    mean_log_uplink = _mean_log_uplink(hosts)
    log_swarm, log_pairs = _log_of(packed.common[_SWARM]), _log_of(packed.common[_PAIRS])
    total = _claim(packed.common[_TOTAL])
    finished_weight = FINISHED_WEIGHT / max(total, 1.0) if total else 0.0
    ways = {row: _way_over(_WAY_PARTS[row], log_pairs) for row in set(packed.pairs)}
    most, trust, of_known = RATIO_LIMIT, CLAIM_TRUST, PAIR_OF_KNOWN
    scores: list[float] = []
    for (weight, log_served, log_uplink, rest), (finished, least, more, _), row in zip(
        hosts, peers, packed.pairs, strict=True
    ):
        expected, (way, near) = 0.0, ways[row]
        if log_uplink is not None:
            ratio = log_uplink - mean_log_uplink
            if not -most <= ratio <= most:
                ratio = most if ratio > 0.0 else -most
            expected = trust * ratio
        if weight and log_swarm is not None:
            ratio = log_served - log_swarm
            if not -most <= ratio <= most:
                ratio = most if ratio > 0.0 else -most
            expected += weight * (ratio - expected)
            way *= 1.0 - of_known * weight
        own = finished_weight * finished
        if not least <= own <= FINISHED_WEIGHT:
            own = least if own < least else FINISHED_WEIGHT
        scores.append(expected + way + rest + own + more + near)
    return scores, [is_unable for *_, is_unable in peers]


class PeerPart(NamedTuple):
    """What it says of a candidate's own download: pieces it holds, and what is added for them."""

    finished: float
    least: float
    rest: float
    is_unable: bool


class WayPart(NamedTuple):
    """What it says of a pair of places: how fast pieces go, how much that counts, and nearness."""

    trust: float
    log_rate: float
    near: float


def _host_part(row: bytes) -> HostPart:
    told = [x if 0.0 <= x <= CLAIM_LIMIT else _claim(x) for x in _OF_HOST.unpack(row)]
    uplink, reported, slots, children, before, served, pieces, failures, age_s = told
    log_places = log(children + 1.0)
    share = -log_places
    if reported > 0.0 and uplink > 0.0:
        trust = exp2(age_s * (-1.0 / REPORT_HALF_LIFE_S))
        part = _log_reported_part(reported, uplink, children + 1.0, before)
        share += trust * (part - share)
    good = pieces + PRIOR_SUCCESSES
    useful = max(log(good / (good + failures + PRIOR_FAILURES)), LOG_USEFUL_MIN)
    rest = share + FAILURE_WEIGHT * useful
    if slots > 0.0:
        rest -= SLOT_WEIGHT * min(max(log_places - log(max(slots, LEAST)), 0.0), RATIO_LIMIT)
    return HostPart(
        pieces / (pieces + PRIOR_PIECES) if served > 0.0 else 0.0,
        log(max(served, LEAST)),
        log(uplink) if uplink >= 1.0 else None,
        rest,
    )


def _log_reported_part(reported: float, uplink: float, places: float, before: float) -> float:
    """Logarithm of what a new child gets of a host, by the host's report."""
    spare = 1.0 - min(reported / max(uplink, 1.0), 1.0)
    since = max(places - before, 1.0)
    equal = 1.0 if before > 0.0 else max(spare, SPARE_MIN)
    return log(max(spare / since, equal / places))


def _mean_log_uplink(parts: list[HostPart]) -> float:
    known = [part.log_uplink for part in parts if part.log_uplink is not None]
    return sum(known) / len(known) if known else 0.0


def _peer_part(row: bytes) -> PeerPart:
    told = [x if 0.0 <= x <= CLAIM_LIMIT else _claim(x) for x in _OF_PEER.unpack(row)]
    is_finished, can_serve, finished, depth = told
    least = FINISHED_WEIGHT * min(is_finished, 1.0) if is_finished else 0.0
    return PeerPart(finished, least, -DEPTH_WEIGHT * depth, not can_serve)


def _way_part(row: bytes) -> WayPart:
    same_idc, location, rate, pieces = map(_claim, PAIR_ROW.unpack(row))
    return WayPart(
        trust=pieces / (pieces + PRIOR_PAIR_PIECES) if rate > 0.0 else 0.0,
        log_rate=log(max(rate, LEAST)),
        near=SAME_IDC_WEIGHT * same_idc + LOCATION_WEIGHT * location,
    )


def _way_over(way: WayPart, log_pairs: float | None) -> tuple[float, float]:
    """The rate between the two data centres over that of all, and what nearness adds."""
    if log_pairs is None or not way.trust:
        return 0.0, way.near
    ratio = min(max(way.log_rate - log_pairs, -RATIO_LIMIT), RATIO_LIMIT)
    return way.trust * ratio, way.near


def _claim(value: float) -> float:
    """As `CandidateBatch.claims`: what makes no sense, or is unknown, is none."""
    return min(max(0.0, value), CLAIM_LIMIT)  # in this order: NaN is not more than 0


def _log_of(rate: float) -> float | None:
    rate = _claim(rate)
    return log(max(rate, LEAST)) if rate > 0.0 else None


_HOST_PARTS, _PEER_PARTS, _WAY_PARTS = _Memory(_host_part), _Memory(_peer_part), _Memory(_way_part)
