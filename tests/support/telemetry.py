"""A small made-up swarm that leaves telemetry: hidden host rates decide what decisions bring.

No simulator: downloads follow each other in closed form, and exactly as much happens as a data set
needs. Hosts have a rate that nobody tells (some are ten times slower than they look), children
share it, and what the scheduler knows of a host is what it served before. A ranker that learns from
these records can find the slow hosts; one that guesses can't. The same seed gives the same records.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import exp, log, nan
from random import Random
from typing import Any

import numpy as np

from models.facts import FACT_NAMES, CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix, location_affinity, same_idc, schema_hash
from odonata.telemetry.record import (
    DecisionRecord,
    DownloadRecord,
    PieceRecord,
    Record,
    decision_id,
)

MIB = 1024 * 1024
EPOCH_S = 1_750_000_000.0
HALF_LIFE_S = 600.0
LATE_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the world is, and of what kind. Rates in bytes/s."""

    hosts: int = 24
    seed_hosts: int = 1
    slow_share: float = 0.2
    slow_factor: float = 10.0
    rate_bytes_per_s: float = 40.0 * MIB
    rate_sigma: float = 0.5
    failing_share: float = 0.1
    stock_share: float = 0.25
    """Of the hosts, that write no telemetry: the scheduler does it for them."""
    tasks: int = 6
    children: int = 10
    pieces: int = 12
    """Of the smallest task; the others have two and three times as many."""
    piece_length: int = 4 * MIB
    candidates: int = 12
    parents: int = 4
    exploration: float = 0.2
    policy: str = "rule"


@dataclass(slots=True)
class Host:
    """One host: what it is (hidden), what it says, and what the scheduler saw of it."""

    host_id: str
    idc: str
    location: str
    rate: float
    max_tx_bits_per_s: float
    failure_probability: float
    is_seed: bool
    is_stock: bool
    announced_at: float
    served_bytes: float = 0.0
    served_s: float = 0.0
    served_pieces: float = 0.0
    failures: float = 0.0
    served_at: float = nan
    received_bytes: float = 0.0
    received_s: float = 0.0
    uploads: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Begin and end of each child's stay."""

    def children(self, now: float) -> int:
        return sum(begin <= now < end for begin, end in self.uploads)

    def serve(self, now: float, length: int, cost_s: float, *, ok: bool) -> None:
        """A try ended: decay what was seen and add to it."""
        decay = (
            1.0
            if self.served_at != self.served_at
            else 0.5 ** (max(0.0, now - self.served_at) / HALF_LIFE_S)
        )
        self.served_bytes = self.served_bytes * decay + (length if ok else 0)
        self.served_s = self.served_s * decay + cost_s
        self.served_pieces = self.served_pieces * decay + ok
        self.failures = self.failures * decay + (not ok)
        self.served_at = now

    @property
    def served_rate(self) -> float:
        return self.served_bytes / self.served_s if self.served_bytes else nan


@dataclass(slots=True)
class Holder:
    """A peer of the task that can serve: it began, and has or will have everything."""

    peer_id: str
    host: Host
    begin: float
    end: float

    def share(self, now: float) -> float:
        return 1.0 if now >= self.end else max(0.0, (now - self.begin) / (self.end - self.begin))


@dataclass(slots=True)
class Run:
    """A download under way: who downloads what, and what it has said so far."""

    task_id: str
    child_id: str
    host: Host
    begin: float
    pieces: int
    decisions: int = 0
    named_by: dict[str, str] = field(default_factory=dict[str, str])
    """Parent -> the latest decision that named it."""
    stored: int = 0


class SmallWorld:
    """Runs once; `records` is what was written, in the order in which it happened or nearly so."""

    def __init__(self, seed: int, shape: Shape | None = None) -> None:
        self.seed = seed
        self.shape = shape or Shape()
        self.rng = Random(f"world/{seed}")
        self.hosts = [self._host(number) for number in range(self.shape.hosts)]
        self.records: list[Record] = []
        self._seen: list[tuple[float, int, int, int, float, bool]] = []
        """Tries that the scheduler will have heard of: (end, order, host, length, cost, ok)."""
        self._run_all()

    # --- the world ------------------------------------------------------------------------------

    def _host(self, number: int) -> Host:
        shape, rng = self.shape, self.rng
        is_seed = number < shape.seed_hosts
        nominal = shape.rate_bytes_per_s * exp(rng.gauss(0, shape.rate_sigma))
        is_slow = not is_seed and rng.random() < shape.slow_share
        says = rng.random() < 0.8
        return Host(
            host_id=f"host-{self.seed}-{number}",
            idc=f"idc{number % 3}",
            location=f"area{number % 2}|city{number % 4}",
            rate=nominal / (shape.slow_factor if is_slow else 1.0),
            max_tx_bits_per_s=8 * nominal if says else 0.0,
            failure_probability=0.4 if not is_seed and rng.random() < shape.failing_share else 0.01,
            is_seed=is_seed,
            is_stock=not is_seed and rng.random() < shape.stock_share,
            announced_at=-rng.uniform(0, 30),
        )

    def _run_all(self) -> None:
        shape, now = self.shape, 0.0
        for task in range(shape.tasks):
            task_id, pieces = f"task-{self.seed}-{task}", shape.pieces * (1 + task % 3)
            holders = [
                Holder(f"{host.host_id}-{task}-seed", host, now - 1.0, now)
                for host in self.hosts[: shape.seed_hosts]
            ]
            others = self.hosts[shape.seed_hosts :]
            for host in self.rng.sample(others, min(shape.children, len(others))):
                now += self.rng.expovariate(1.0)
                run = Run(task_id, f"{host.host_id}-{task}", host, now, pieces)
                end = self._download(run, holders)
                holders.append(Holder(run.child_id, host, now, end))
            now += self.rng.uniform(5.0, 20.0)

    # --- one download ---------------------------------------------------------------------------

    def _download(self, run: Run, holders: list[Holder]) -> float:
        """Write all of its records; when it ends."""
        shape = self.shape
        chosen = self._decide(run, holders, run.begin)
        lanes = self._lanes(run, chosen, run.begin)
        clock, asks_again = run.begin, self.rng.random() < 0.3
        for number in range(run.pieces):
            if asks_again and number == run.pieces // 2:
                again = self._decide(run, holders, clock)
                lanes = self._lanes(
                    run, list({h.peer_id: h for h in chosen + again}.values()), clock
                )
            clock = max(clock, self._piece(run, lanes, number))
        for holder in chosen:
            holder.host.uploads.append((run.begin, clock))
        self.records.append(
            DownloadRecord(
                at_s=EPOCH_S + clock, started_at_s=EPOCH_S + run.begin, task_id=run.task_id,
                child_id=run.child_id, child_host_id=run.host.host_id, is_seed=False,
                content_length=run.pieces * shape.piece_length, piece_length=shape.piece_length,
                from_peers_bytes=run.stored * shape.piece_length, from_seeds_bytes=0,
                from_source_bytes=(run.pieces - run.stored) * shape.piece_length,
                piece_count=run.pieces, decision_count=run.decisions, first_piece_s=0.1,
                result="ok",
            )
        )  # fmt: skip
        return clock

    def _lanes(
        self, run: Run, parents: list[Holder], now: float
    ) -> list[tuple[float, int, Holder, float]]:
        """(free at, order, parent, rate) for each piece that may be in flight."""
        in_flight = 2 if run.host.is_stock else 1
        lanes: list[tuple[float, int, Holder, float]] = []
        for parent in parents:
            near = 1.0 if parent.host.idc == run.host.idc else 0.7
            rate = parent.host.rate * near / (1 + parent.host.children(now))
            lanes += [(now, len(lanes) + i, parent, rate / in_flight) for i in range(in_flight)]
        heapq.heapify(lanes)
        return lanes

    def _piece(self, run: Run, lanes: list[tuple[float, int, Holder, float]], number: int) -> float:
        """Fetch one piece, trying again as often as it takes; when it is stored."""
        fastest = max((lane[3] for lane in lanes), default=1.0)
        for _ in range(6):
            if not lanes:
                break
            free_at, order, parent, rate = heapq.heappop(lanes)
            cost_s = self.shape.piece_length / rate * exp(self.rng.gauss(0, 0.1))
            late_s = LATE_FACTOR * self.shape.piece_length / fastest
            result, reason = "ok", ""
            if self.rng.random() < parent.host.failure_probability:
                result, reason, cost_s = "failed", "unreachable", cost_s * self.rng.random()
            elif cost_s > late_s and not run.host.is_stock:
                result, reason, cost_s = "cancelled", "late", late_s
            self._try(run, parent, number, free_at + cost_s, cost_s, result, reason)
            heapq.heappush(lanes, (free_at + cost_s, order, parent, rate))
            if result == "ok":
                run.stored += 1
                return free_at + cost_s
        end = (lanes[0][0] if lanes else run.begin) + 1.0
        self._try(run, None, number, end, 1.0, "ok", "")
        return end

    def _try(
        self,
        run: Run,
        parent: Holder | None,
        number: int,
        end: float,
        cost_s: float,
        result: str,
        reason: str,
    ) -> None:
        named_by = "" if parent is None else run.named_by[parent.peer_id]
        self.records.append(
            PieceRecord(
                at_s=EPOCH_S + end, decision_id=named_by, task_id=run.task_id,
                child_id=run.child_id, child_host_id=run.host.host_id,
                parent_id="" if parent is None else parent.peer_id,
                parent_host_id="" if parent is None else parent.host.host_id,
                traffic="back_to_source" if parent is None else "remote_peer", number=number,
                length=self.shape.piece_length, total_s=cost_s, concurrency=self.shape.parents,
                result=result, reason=reason,
                written_by="scheduler" if run.host.is_stock else "peer",
            )
        )  # fmt: skip
        if parent is not None:
            index = self.hosts.index(parent.host)
            seen = (end, len(self.records), index, self.shape.piece_length, cost_s, result == "ok")
            heapq.heappush(self._seen, seen)
        run.host.received_bytes += self.shape.piece_length
        run.host.received_s += cost_s

    # --- one decision ---------------------------------------------------------------------------

    def _decide(self, run: Run, holders: list[Holder], now: float) -> list[Holder]:
        """Write the decision record; the parents that were chosen, best first."""
        while self._seen and self._seen[0][0] <= now:
            end, _, index, length, cost_s, ok = heapq.heappop(self._seen)
            self.hosts[index].serve(end, length, cost_s, ok=ok)
        shape = self.shape
        able = [holder for holder in holders if holder.host is not run.host]
        able = self.rng.sample(able, min(shape.candidates, len(able)))
        batch = CandidateBatch.of_columns(self._facts(run, able, now))
        features = feature_matrix(batch)
        scores = features[:, FEATURE_NAMES.index("served_to_swarm")] - np.log1p(
            batch["child_count"]
        )
        draw_seed = self.rng.getrandbits(64)
        explored = self.rng.random() < shape.exploration
        order = sorted(range(len(able)), key=lambda n: -float(scores[n]))
        if explored:
            self.rng.shuffle(order)
        chosen = order[: shape.parents]
        top = sorted(range(len(able)), key=lambda n: -float(scores[n]))[: shape.parents]
        uniform = min(1.0, shape.parents / len(able))
        slots = np.full(len(able), -1, dtype="<i4")
        slots[chosen] = np.arange(len(chosen))
        propensities = [
            shape.exploration * uniform + (1 - shape.exploration) * (n in top)
            for n in range(len(able))
        ]
        run.decisions += 1
        own_id = decision_id(run.child_id, run.decisions)
        self.records.append(
            DecisionRecord(
                decision_id=own_id, at_s=EPOCH_S + now, task_id=run.task_id,
                child_id=run.child_id, child_host_id=run.host.host_id, outcome="parents",
                reason="", policy=shape.policy, ranked_by=shape.policy, draw_seed=draw_seed,
                exploration=shape.exploration, explored=explored, useful_count=len(able),
                peer_count=len(holders), feature_schema=schema_hash(), fact_names=FACT_NAMES,
                feature_names=FEATURE_NAMES, peer_ids=tuple(h.peer_id for h in able),
                host_ids=tuple(h.host.host_id for h in able),
                scores=scores.astype("<f8").tobytes(), slots=slots.tobytes(),
                propensities=np.array(propensities, dtype="<f8").tobytes(), bad=bytes(len(able)),
                facts=batch.facts.astype("<f8").tobytes(),
                features=features.astype("<f8").tobytes(),
            )
        )  # fmt: skip
        for number in chosen:
            run.named_by[able[number].peer_id] = own_id
        return [able[number] for number in chosen]

    def _facts(self, run: Run, able: list[Holder], now: float) -> dict[str, list[float]]:
        rates = [log(h.served_rate) for h in self.hosts if h.served_bytes]
        child = run.host
        swarm = {
            "swarm_rate_bytes_per_s": exp(sum(rates) / len(rates)) if rates else nan,
            "child_rate_bytes_per_s": (
                child.received_bytes / child.received_s if child.received_s else nan
            ),
            "pairs_rate_bytes_per_s": 15e6,
            "piece_length": float(self.shape.piece_length),
            "total_piece_count": float(run.pieces),
        }
        rows = [{**self._facts_of(run, holder, now), **swarm} for holder in able]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _facts_of(self, run: Run, holder: Holder, now: float) -> dict[str, float]:
        host, share = holder.host, holder.share(now)
        children = host.children(now)
        cost_s = (holder.end - holder.begin) / run.pieces
        facts: dict[str, Any] = {
            "max_tx_bits_per_s": host.max_tx_bits_per_s,
            "reported_tx_bits_per_s": children * host.max_tx_bits_per_s / 8,
            "report_age_s": (now - host.announced_at) % 30.0,
            "is_seed": host.is_seed,
            "booked_tx_bits_per_s": children * host.max_tx_bits_per_s / 10,
            "child_count": children,
            "reported_child_count": children // 2,
            "upload_slots": 2,
            "depth": 0 if host.is_seed else 1 + (share < 1),
            "same_idc": same_idc(run.host.idc, host.idc),
            "pair_rate_bytes_per_s": 10e6 * (1 + same_idc(run.host.idc, host.idc)),
            "pair_piece_count": host.served_pieces,
            "location_affinity": location_affinity(run.host.location, host.location),
            "is_first_download": share < 1,
            "is_finished": share >= 1,
            "can_serve": 1.0,
            "finished_piece_count": int(share * run.pieces),
            "parent_count": 0 if host.is_seed else self.shape.parents,
            "cost_count": int(share * run.pieces),
            "cost_last_s": cost_s,
            "cost_mean_s": cost_s,
            "served_rate_bytes_per_s": host.served_rate,
            "served_recent_rate_bytes_per_s": host.served_rate * exp(self.rng.gauss(0, 0.05)),
            "served_piece_count": host.served_pieces,
            "served_failure_count": host.failures,
            "served_age_s": now - host.served_at,
        }
        return {name: float(value) for name, value in facts.items()}


def small_world(seed: int = 1, **shape: Any) -> list[Record]:
    """The telemetry of a world with the given seed; keywords as in `Shape`."""
    return SmallWorld(seed, Shape(**shape)).records
