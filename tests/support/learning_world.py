"""A made-up swarm as rows of a data set: hosts with a quality that no fact names.

What a parent delivers is its host's hidden rate, shared by its children, times what its child, the
way between them and luck add. Facts tell the announced uplink (a slow host claims as much as a fast
one), the children, and the rate served so far for those hosts that have a history. Small enough for
unit tests, wide enough that a model has something to find that the rule does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.facts import FACT_NAMES, BoolArray, CandidateBatch, FloatArray
from models.features import feature_matrix, schema_hash
from training.rows import (
    COLUMNS,
    FEATURE_COLUMNS,
    FLOAT,
    INT,
    STR,
    Card,
    DataSet,
    Hosts,
    load,
    save,
    typed,
)

Index = NDArray[np.int64]
Columns = dict[str, Any]

SWARM_RATE = 10e6  # B/s
LINK_RATE = 1e9  # bit/s, what every host announces
START_S = 1_700_000_000.0
PIECE_LENGTH = 4 << 20
UNKNOWN_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the made-up swarm is like."""

    hosts: int = 40
    slow_share: float = 0.2
    slow_factor: float = 0.1
    decisions: int = 400
    decisions_per_task: int = 20
    candidates: int = 12
    answers: int = 4
    decision_gap_s: float = 1.0
    cross_idc_factor: float = 0.9
    failure_share: float = 0.02
    has_seed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class _Hosts:
    rate: FloatArray
    has_history: BoolArray
    idc: Index


def world_rows(world: World | None = None, *, seed: int = 1) -> pd.DataFrame:
    """Rows of `world.decisions` decisions, with answers drawn by lot: typed as a data set is."""
    world = world or World()
    draws = np.random.default_rng(seed)
    slow = draws.random(world.hosts) < world.slow_share
    rate = SWARM_RATE * np.exp(draws.normal(0.0, 0.5, world.hosts))
    hosts = _Hosts(
        rate=np.where(slow, rate * world.slow_factor, rate),
        has_history=draws.random(world.hosts) >= UNKNOWN_SHARE,
        idc=draws.integers(0, 2, world.hosts),
    )
    drawn = [_drawn(world, draws) for _ in range(world.decisions)]
    host = np.concatenate([parents for _, parents, _ in drawn])
    child = np.repeat([child for child, _, _ in drawn], world.candidates)
    slots = np.concatenate([slots for _, _, slots in drawn])
    facts = _facts(world, hosts, child, host, draws)
    frame = _decisions(world, child, host)
    frame |= {name: facts[:, number] for number, name in enumerate(FACT_NAMES)}
    frame |= _features(facts, world.candidates)
    frame |= {"slot": slots, "chosen": slots >= 0}
    frame |= _outcome(world, hosts, frame, child, host, draws)
    return typed(pd.DataFrame(_filled(frame, len(host))))


def world_dataset(world: World | None = None, *, seed: int = 1) -> DataSet:
    """The rows with a card."""
    rows = world_rows(world, seed=seed)
    card = Card(
        row_count=len(rows),
        decision_count=int(rows["decision_id"].nunique()),
        observed_count=int(rows["observed"].sum()),
        first_at_s=float(rows["at_s"].min()),
        last_at_s=float(rows["at_s"].max()),
        feature_schema=schema_hash(),
        hosts=Hosts(candidates=int(rows["host_id"].nunique())),
    )
    return DataSet(frame=rows, card=card)


def saved_dataset(folder: Path, world: World | None = None, *, seed: int = 1) -> DataSet:
    """The same as a folder that `training.rows.load` reads."""
    save(world_dataset(world, seed=seed), folder)
    return load(folder)


def _drawn(world: World, draws: np.random.Generator) -> tuple[int, Index, Index]:
    """A child, its candidates, and the places of those in the answer."""
    child, *parents = draws.choice(world.hosts, size=world.candidates + 1, replace=False)
    order = draws.permutation(world.candidates)
    return int(child), np.array(parents), np.where(order < world.answers, order, -1)


def _decisions(world: World, child: Index, host: Index) -> Columns:
    number = np.repeat(np.arange(world.decisions), world.candidates)
    task = number // world.decisions_per_task
    return {
        "decision_id": [f"peer-{value}#1" for value in number],
        "at_s": START_S + number * world.decision_gap_s,
        "task_id": [f"task-{value}" for value in task],
        "child_id": [f"peer-{value}" for value in number],
        "child_host_id": [f"host-{value}" for value in child],
        "outcome": ["parents"] * len(host),
        "policy": ["random"] * len(host),
        "ranked_by": ["random"] * len(host),
        "row": np.tile(np.arange(world.candidates), world.decisions),
        "peer_id": [f"parent-{value}-{name}" for value, name in zip(task, host, strict=True)],
        "host_id": [f"host-{value}" for value in host],
        "propensity": np.full(len(host), world.answers / world.candidates),
    }


def _facts(
    world: World, hosts: _Hosts, child: Index, host: Index, draws: np.random.Generator
) -> FloatArray:
    count = len(host)
    known = hosts.has_history[host]
    served = np.where(known, hosts.rate[host] * np.exp(draws.normal(0.0, 0.2, count)), np.nan)
    children = draws.poisson(2.0, count).astype(np.float64)
    columns: dict[str, FloatArray] = {
        "max_tx_bits_per_s": np.full(count, LINK_RATE),
        "child_count": children,
        "booked_tx_bits_per_s": children * 1e8,
        "report_age_s": draws.random(count) * 30.0,
        "is_seed": ((host == 0) & world.has_seed).astype(np.float64),
        "same_idc": (hosts.idc[host] == hosts.idc[child]).astype(np.float64),
        "served_rate_bytes_per_s": served,
        "served_recent_rate_bytes_per_s": served,
        "served_piece_count": np.where(known, draws.poisson(20.0, count) + 1.0, 0.0),
        "served_age_s": np.where(known, draws.random(count) * 60.0, np.nan),
        "swarm_rate_bytes_per_s": np.full(count, SWARM_RATE),
        "piece_length": np.full(count, float(PIECE_LENGTH)),
        "total_piece_count": np.full(count, 32.0),
        "finished_piece_count": draws.integers(0, 33, count).astype(np.float64),
    }
    return CandidateBatch.of_columns(columns).facts


def _features(facts: FloatArray, candidates: int) -> Columns:
    groups = facts.reshape(-1, candidates, facts.shape[1])
    features = np.concatenate([feature_matrix(CandidateBatch(group)) for group in groups])
    return {name: features[:, number] for number, name in enumerate(FEATURE_COLUMNS)}


def _outcome(
    world: World,
    hosts: _Hosts,
    frame: Columns,
    child: Index,
    host: Index,
    draws: np.random.Generator,
) -> Columns:
    count = len(host)
    child_factor = np.repeat(np.exp(draws.normal(0.0, 0.5, world.decisions)), world.candidates)
    way = np.where(hosts.idc[host] == hosts.idc[child], 1.0, world.cross_idc_factor)
    shared = np.sqrt(np.asarray(frame["child_count"]) + 1.0)
    luck = np.exp(draws.normal(0.0, 0.15, count))
    goodput = hosts.rate[host] * way * child_factor * luck / shared
    observed = np.asarray(frame["chosen"], dtype=bool)
    failed = observed & (draws.random(count) < world.failure_share)
    served = observed & ~failed
    return {
        "observed": observed,
        "is_failed": failed,
        "failed_count": failed.astype(np.int64),
        "piece_count": served * 4,
        "bytes": served * 4 * PIECE_LENGTH,
        "busy_s": np.where(observed, 4 * PIECE_LENGTH / goodput, 0.0),
        "label_log_goodput": np.where(served, np.log(goodput), np.nan),
    }


def _filled(frame: Columns, count: int) -> Columns:
    """All other columns: empty, nothing, zero."""
    empty = {STR: "", INT: 0, FLOAT: 0.0}
    return {
        column.name: frame.get(column.name, [empty.get(column.dtype, False)] * count)
        for column in COLUMNS
    }
