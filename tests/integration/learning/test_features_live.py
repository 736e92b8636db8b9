"""Features in a real run: as recorded they are what the ranker saw, and each of them lives.

Hosts in several places and of several rates download files of all sizes; one dies while it gives.
Then the telemetry is read as training reads it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.daemon import MIB, PATIENCE_S, daemon_arguments, process, watch
from support.eventually import eventually
from support.learning_swarm import SEED_NUMBER, LearningSwarm, learning_swarm
from support.ranker_bundle import published
from support.scheduler_page import watching

from models.facts import FACT_NAMES, CandidateBatch, FloatArray
from models.features import feature_matrix
from odonata.ids import host_id
from odonata.telemetry.parquet import read_table
from odonata.telemetry.settings import TelemetrySettings
from odonata.wire.message import Piece
from peer.runtime.limit import BucketLimit
from scheduler.core.story import Decision
from scheduler.runtime.app import SchedulerApp
from training.dataset import assemble
from training.rows import FEATURE_COLUMNS, DataSet
from training.skew import liveness, skew

Row = dict[str, Any]
Kill = Callable[[], Awaitable[None]]
VICTIM_NUMBER = 8
SIZES = (700, MIB, 5 * MIB, 26 * MIB, 41 * MIB)
KILLED_FILE = "killed"
KILLED_BYTES = 33 * MIB
VICTIM_ID = host_id(f"127.0.0.{VICTIM_NUMBER}", f"host{VICTIM_NUMBER}")

MB = 1_000_000
PLACES: dict[int, dict[str, Any]] = {
    SEED_NUMBER: {
        "host__idc": "north",
        "host__location": "eu|berlin|rack1",
        "upload__bandwidthLimit": 400 * MB,
    },
    3: {
        "host__idc": "north",
        "host__location": "eu|berlin|rack2",
        "upload__bandwidthLimit": 100 * MB,
    },
    4: {
        "host__idc": "NORTH",
        "host__location": "eu|paris",
        "upload__bandwidthLimit": 40 * MB,
    },
    5: {
        "host__idc": "south",
        "host__location": "us|denver",
        "upload__bandwidthLimit": 20 * MB,
        "upload__announcedBandwidth": 200 * MB,
    },
    6: {},
}
"""What each host says of itself; number 5 promises more than it gives, number 6 says nothing."""


OUT_OF_OFFER_S = 5.0


class Run:
    """What happened: the data set, the raw rows, and what the scheduler itself still tells."""

    def __init__(self, telemetry: Path, told: list[Decision]) -> None:
        self.data: DataSet = assemble([telemetry])
        self.decisions: list[Row] = read_table([telemetry], "decision").to_pylist()
        self.candidates: list[Row] = read_table([telemetry], "candidate").to_pylist()
        self.pieces: list[Row] = read_table([telemetry], "piece").to_pylist()
        self.downloads: list[Row] = read_table([telemetry], "download").to_pylist()
        self.told = told

    @property
    def rows(self) -> pd.DataFrame:
        return self.data.frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for all tests of this file."""
    folder = tmp_path_factory.mktemp("live")
    told = asyncio.run(live(folder))
    return Run(folder / "telemetry", told)


async def live(folder: Path) -> list[Decision]:
    place = folder / "place"
    telemetry = TelemetrySettings(dir=folder / "telemetry")
    settings = watching(place).model_copy(update={"telemetry": telemetry})
    async with (
        SchedulerApp(settings) as app,
        learning_swarm(folder, app.address, **PLACES[SEED_NUMBER]) as swarm,
    ):
        app.core.state.limits = replace(app.core.state.limits, feature_record_interval=1)
        for number, more in PLACES.items():
            if number != SEED_NUMBER:
                await swarm.add(number, **more)
        await lose_a_parent(app, swarm)
        for number, size in enumerate(SIZES):
            if number == len(SIZES) // 2:  # the rule ranked so far
                published(place)
                await eventually(lambda: app.ranker.holder.model)
            swarm.offer(f"file{number}", size)
            await swarm.fetch_all(f"file{number}", (3, 4, 5, 6))
        return app.core.explain()


async def lose_a_parent(app: SchedulerApp, swarm: LearningSwarm) -> None:
    """A host is killed while it gives; afterwards it is a candidate that has failed."""
    url = swarm.offer(KILLED_FILE, KILLED_BYTES)
    more = swarm.settings(
        host__idc="north",  # where a seed has it, nobody in the south would be asked
        host__location="eu|berlin|rack7",
        upload__bandwidthLimit=4 * MB,
        upload__announcedBandwidth=100 * MB,
    )
    async with process(*daemon_arguments(swarm.folder, VICTIM_NUMBER, **more)) as victim:
        await swarm.fetch(victim.socket_path, KILLED_FILE)
        uplink = swarm.peers[SEED_NUMBER].upload_limit
        assert isinstance(uplink, BucketLimit)
        uplink.set_rate(6 * MB)  # so that the file is not all there before anybody notices
        history = app.core.state.hosts[VICTIM_ID].history
        async with asyncio.TaskGroup() as tasks:
            child = tasks.create_task(_kill_at_first_piece(swarm, url, victim.kill))
            await eventually(lambda: history.failures.value or child.done(), PATIENCE_S)
            assert history.failures.value, "nobody was told that the dead host failed"
            uplink.set_rate(400 * MB)
    await swarm.fetch_all(KILLED_FILE, (4, 5, 6))


async def _kill_at_first_piece(swarm: LearningSwarm, url: str, kill: Kill) -> None:
    output = swarm.folder / "watched"
    pieces: list[Piece] = []
    async for piece in watch(swarm.peers[3], url, output):
        if not pieces:
            await kill()
        pieces.append(piece)
    assert output.read_bytes() == swarm.content(KILLED_FILE)


# --- features -----------------------------------------------------------------------------------


def test_features_recomputed_from_the_facts_are_those_that_were_logged(run: Run) -> None:
    report = skew(run.rows)
    assert report.is_clean, report.mismatches
    assert report.decision_count == run.data.card.decisions.kept >= len(SIZES) * 4
    assert run.data.card.decisions.recomputed == 0, "nothing may hide a difference"


def test_so_they_are_without_any_code_of_training(run: Run) -> None:
    """Straight from the recorded columns, decision by decision."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in run.candidates:
        groups[row["decision_id"]].append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: row["row"])
        batch = CandidateBatch.of_rows([[row[name] for name in FACT_NAMES] for row in rows])
        logged = np.array([[row[name] for name in FEATURE_COLUMNS] for row in rows])
        np.testing.assert_array_equal(bits(feature_matrix(batch)), bits(logged))
    assert len(groups) >= len(SIZES) * 4


def test_so_they_are_as_the_scheduler_itself_tells_them(run: Run) -> None:
    """It keeps them for `explain` in single precision, in its memory."""
    logged = {(row["decision_id"], row["peer_id"]): row for row in run.candidates}
    compared = 0
    for decision in run.told:
        for one in decision.candidates:
            if not one.features:
                continue
            row = logged[decision.decision_id, one.peer_id]
            told = np.array(list(one.features.values()), dtype=np.float32)
            again = np.array([row[f"feature_{name}"] for name in one.features], dtype=np.float32)
            np.testing.assert_array_equal(told, again)
            assert one.score == row["score"]
            assert (one.dropped == "") == (row["slot"] >= 0)
            compared += 1
    assert compared == len(run.candidates)


def test_no_feature_is_dead(run: Run) -> None:
    """But `slot_load`: six hosts never have more children than slots (larger worlds do)."""
    dead = set(liveness(run.rows)) - {"slot_load"}
    assert not dead, f"one and the same value in a real run: {', '.join(dead)}"
    known = run.rows[list(FEATURE_COLUMNS)].nunique(dropna=True).drop("feature_slot_load")
    poor = [str(name) for name in known.index[known < 2]]
    assert not poor, f"one value, or unknown, in a real run: {', '.join(poor)}"


def test_both_rankers_were_at_work(run: Run) -> None:
    ranked = Counter(row["ranked_by"] for row in run.decisions if row["outcome"] == "parents")
    assert set(ranked) == {"rule", "learned"}
    assert min(ranked.values()) >= 8
    assert set(run.rows["model_version"]) == {"", "1"}


def bits(values: FloatArray) -> NDArray[np.int64]:
    """The same for any NaN."""
    clean = np.where(np.isnan(values), np.nan, values)
    return np.ascontiguousarray(clean).view(np.int64)


# --- outcomes -----------------------------------------------------------------------------------


def test_every_try_names_a_decision_that_named_its_parent(run: Run) -> None:
    named = {
        (row["decision_id"], row["peer_id"], row["host_id"])
        for row in run.candidates
        if row["slot"] >= 0
    }
    child_of = {row["decision_id"]: row["child_id"] for row in run.decisions}
    from_parents = [row for row in run.pieces if row["parent_id"]]
    assert len(from_parents) > 100
    for row in from_parents:
        assert (row["decision_id"], row["parent_id"], row["parent_host_id"]) in named
        assert child_of[row["decision_id"]] == row["child_id"]


def test_every_try_is_in_an_outcome(run: Run) -> None:
    card = run.data.card
    assert card.pieces.read == len(run.pieces)
    assert card.pieces.joined == sum(1 for row in run.pieces if row["parent_id"])
    assert card.pieces.joined + card.pieces.from_source == card.pieces.read
    assert (card.lost_decisions, card.orphan_candidates) == (0, 0)
    # An answer that nobody asked for may come when the download has just ended.
    unheard = card.downloads.decisions_recorded - card.downloads.decisions_told
    assert 0 <= unheard <= len(run.downloads)
    assert card.downloads.pieces_told == card.downloads.pieces_recorded
    tries = run.rows[["piece_count", "failed_count", "refused_count", "late_count"]].sum().sum()
    passed_on = sum(row["reason"] == "passed_on" for row in run.pieces)
    assert tries + run.rows["neutral_count"].sum() + passed_on == card.pieces.joined


def test_bytes_by_decision_are_what_the_peers_got_from_parents(run: Run) -> None:
    from_parents: Counter[tuple[str, str]] = Counter()
    passed_on: Counter[str] = Counter()  # as fast as the parent's own parent: no measure of it
    for row in run.pieces:
        if not row["parent_id"] or row["result"] != "ok":
            continue
        if row["reason"] == "passed_on":
            passed_on[row["child_id"]] += row["length"]
        else:
            from_parents[row["decision_id"], row["parent_id"]] += row["length"]
    joined = run.rows[run.rows["bytes"] > 0].set_index(["decision_id", "peer_id"])["bytes"]
    assert joined.to_dict() == from_parents
    by_child = run.rows.groupby("child_id")["bytes"].sum()
    for row in run.downloads:
        told = row["from_peers_bytes"] + row["from_seeds_bytes"]
        assert by_child.get(row["child_id"], 0) + passed_on[row["child_id"]] == told
        assert told + row["from_source_bytes"] == row["content_length"]
        assert row["result"] == "ok"


def test_every_download_is_recorded(run: Run) -> None:
    sizes = Counter(row["content_length"] for row in run.downloads if not row["is_seed"])
    assert {size: sizes[size] for size in SIZES} == dict.fromkeys(SIZES, 4)
    assert sizes[KILLED_BYTES] in {4, 5}, "the victim's own record may have died with it"
    assert sum(row["is_seed"] for row in run.downloads) == 1 + len(SIZES)
    assert sum(row["from_source_bytes"] for row in run.downloads) == KILLED_BYTES + sum(SIZES)


def test_the_death_of_a_parent_is_an_outcome_and_it_is_offered_no_more(run: Run) -> None:
    victim = run.rows["host_id"] == VICTIM_ID
    failed = run.rows[victim & (run.rows["failed_count"] > 0)]
    assert len(failed) >= 1
    assert bool(failed["chosen"].all())
    first_s = float(np.min(failed["at_s"].to_numpy()))
    offered_s = run.rows.loc[victim, "at_s"].to_numpy()
    assert float(np.max(offered_s)) - first_s < OUT_OF_OFFER_S, "it is out of contact"
