"""Data sets of what the real cores record: everything joins, nothing is skewed, slow hosts show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from models.rule_ranker import RuleRanker
from odonata.telemetry.parquet import write_tables
from odonata.telemetry.record import ListRecorder
from simulator.place import Place
from simulator.scenario import Scenario
from simulator.swarm import TaskSwarm
from training.dataset import assemble
from training.rows import DataSet
from training.skew import liveness, skew

MIB = 1024 * 1024
SLOW_FACTOR = 10.0


@pytest.fixture(scope="module")
def place() -> Place:
    """Thirty peers of ours fetch three files one after the other; some are slow, nobody says so."""
    scenario = Scenario(
        size=64 * MIB,
        peers=30,
        seeds=1,
        peer_up=5 * MIB,
        peer_down=20 * MIB,
        seed_up=20 * MIB,
        source_up=20 * MIB,
        arrival_s=10.0,
        hidden_slow_share=0.15,
        hidden_slow_factor=SLOW_FACTOR,
        idcs=2,
    )
    place = Place(scenario, seed=1, ranker=RuleRanker(), recorder=ListRecorder(), keep_log=False)
    place.begin()
    for number in (1, 2, 3):
        TaskSwarm(place, number).run()
    return place


@pytest.fixture(scope="module")
def dataset(place: Place, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder: Path = tmp_path_factory.mktemp("telemetry")
    assert isinstance(place.recorder, ListRecorder)
    write_tables(place.recorder.records, folder, "swarm")
    return assemble([folder])


def test_every_piece_joins_its_decision(dataset: DataSet) -> None:
    pieces, decisions = dataset.card.pieces, dataset.card.decisions
    assert pieces.joined + pieces.from_source == pieces.read > 1000
    assert decisions.kept + decisions.without_choice == decisions.read
    downloads = dataset.card.downloads
    assert downloads.decisions_told == downloads.decisions_recorded
    assert downloads.pieces_told == downloads.pieces_recorded


def test_features_are_those_that_were_logged(dataset: DataSet) -> None:
    assert skew(dataset.frame).mismatches == ()
    # Files of one size, and hosts that name no location.
    assert set(liveness(dataset.frame)) <= {"task_pieces", "location_affinity"}


def test_slow_hosts_show_although_our_peers_hedge(place: Place, dataset: DataSet) -> None:
    """Mostly their pieces are hedged away: what was outrun must be labelled, and labelled low."""
    usual = place.scenario.peer_up
    slow = {host.host.id for host in place.peers if host.link.up < 2 * usual / SLOW_FACTOR}
    assert slow, "the world has slow hosts"
    chosen: pd.DataFrame = dataset.frame[dataset.frame["chosen"]]
    of_slow = chosen["host_id"].isin(slow)
    assert of_slow.sum() >= 10
    # Of eight parents of a file of sixteen pieces, some are never asked.
    assert chosen.loc[of_slow, "observed"].mean() > 0.8
    assert chosen.loc[of_slow, "is_censored"].any()
    labels = chosen["label_log_goodput"]
    assert labels[of_slow].median() < labels[~of_slow].median() - 1.0
