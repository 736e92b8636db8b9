"""Records of decisions: what is in them, that a decision can be made again from its record."""

from random import Random

import numpy as np
import pytest
from support.decision_record import bad, chosen_rows, doubles, slots
from support.scheduler_world import PIECE_LENGTH, World, download, host, parents

from models.dragonfly import DragonflyRanker
from models.facts import FACT_NAMES, CandidateBatch
from models.features import FEATURE_NAMES, FEATURES, feature_matrix, schema_hash
from models.random import RandomRanker
from models.ranker import Ranker, Ranking
from models.rule_ranker import RuleRanker
from odonata.telemetry.record import DecisionRecord
from odonata.wire.message import Download
from scheduler.core.choice import may_explore
from scheduler.core.limits import Limits
from scheduler.core.pick import Lots, pick
from scheduler.core.story import Outcome


class Asked:
    """A ranker that another one stands in for; the candidate of the second row is bad."""

    name = "asked"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        return Ranking(
            scores=np.arange(len(batch), dtype=np.float64),
            bad=np.arange(len(batch)) == 1,
            ranked_by="stand-in",
            model_version="v7",
            fallback="too slow",
            features=np.full((len(batch), len(FEATURES)), 0.125),
        )


def world_with_holders(
    count: int, limits: Limits | None = None, ranker: Ranker | None = None
) -> World:
    world = World(limits, ranker=ranker)
    for number in range(count):
        world.announce(host(f"h{number}"))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx"))
    world.records.clear()
    return world


def test_a_record_tells_all_that_was_ranked() -> None:
    world = world_with_holders(6, Limits(exploration=0.0), ranker=Asked())
    world.now = 7.5
    given = parents(world.register("x", "hx"))["x"]
    assert given == ["p5", "p4", "p3"]
    (record,) = world.decisions("x")
    assert record.decision_id == "x#1"
    assert (record.at_s, record.task_id, record.child_id) == (7.5, "t", "x")
    assert (record.child_host_id, record.outcome) == ("hx", "parents")
    assert (record.policy, record.ranked_by, record.model_version) == ("asked", "stand-in", "v7")
    assert (record.fallback, record.reason) == ("too slow", "too slow")
    assert (record.useful_count, record.peer_count) == (6, 7)
    assert record.feature_schema == schema_hash()
    assert record.peer_ids == ("p0", "p1", "p2", "p3", "p4", "p5")
    assert record.host_ids == ("h0", "h1", "h2", "h3", "h4", "h5")
    assert doubles(record.scores, 1)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert slots(record) == [-1, -1, -1, 2, 1, 0]
    assert bad(record).tolist() == [False, True, False, False, False, False]
    assert doubles(record.propensities, 1)[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert record.fact_names == FACT_NAMES
    assert record.feature_names == FEATURE_NAMES
    assert (doubles(record.features, len(FEATURES)) == 0.125).all()  # as the ranker saw them


def test_the_way_to_the_source_is_recorded_too() -> None:
    world = World()
    world.announce(host("hx"))
    world.register("x", "hx")
    world.at_source("x")
    world.failed_from_source("x")
    (record,) = world.decisions("x")
    assert record.decision_id == "x#source1"
    assert (record.outcome, record.reason) == ("source", "no parent and no seed can help")
    assert (record.policy, record.ranked_by, record.peer_ids) == ("dragonfly", "", ())


def test_waiting_is_not_recorded() -> None:
    world = World()
    world.announce(host("s", seed=True), host("hx"))
    world.register("x", "hx")
    assert not world.decisions("x")
    assert world.core.explain(child_id="x")[-1].outcome is Outcome.SEED


def test_answers_with_parents_are_counted_per_life() -> None:
    world = world_with_holders(6)
    world.register("x", "hx")
    world.started("x")
    world.reschedule("x", "p0")
    assert [one.decision_id for one in world.decisions("x")] == ["x#1", "x#2"]
    assert [one.decision_id for one in world.core.explain(child_id="x")] == ["x#1", "x#2"]
    world.register("x", "hx")
    assert world.decisions("x")[-1].decision_id == "x#1"


def test_a_scheduler_without_telemetry_records_nothing() -> None:
    world = world_with_holders(3, Limits(records=False))
    assert parents(world.register("x", "hx"))
    world.started("x")
    world.piece("x", 0, "p0")
    world.finished("x")
    world.announce(host("hy"))
    world.register("y", "hy", download(source=True))
    assert not world.records
    assert world.core.explain(child_id="x")[-1].candidates[0].features


@pytest.mark.parametrize("ranker", [DragonflyRanker(), RuleRanker(), RandomRanker()])
def test_a_decision_can_be_made_again_from_its_record(ranker: Ranker) -> None:
    """Facts and seed give the same features, scores, propensities and answer, bit for bit."""
    limits = Limits(
        exploration=0.3, candidate_batch_limit=12, admission=False, feature_record_interval=4
    )
    world, sampled = World(limits, ranker=ranker), set[bool]()
    chance = Random(3)
    for number in range(40):
        world.now = float(number)
        world.announce(host(f"h{number}", idc=chance.choice("ab"), bandwidth=number % 3 * 10**9))
        peer_id = f"p{number}"
        world.register(peer_id, f"h{number}", download(source=number < 3))
        given = world.core.stat_peer(peer_id).parent_ids
        world.started(peer_id) if given else world.at_source(peer_id)
        for piece in range(number % 5):
            cost_s = chance.expovariate(10)
            world.piece(peer_id, piece, given[piece % len(given)] if given else "", cost_s=cost_s)
    records = [one for one in world.records if isinstance(one, DecisionRecord) and one.peer_ids]
    assert len(records) == 37
    assert {one.explored for one in records} == {True, False}
    assert (
        max(len(one.peer_ids) for one in records) == 12 < max(one.useful_count for one in records)
    )
    for record in records:
        batch = CandidateBatch(doubles(record.facts, len(FACT_NAMES)).copy())
        ranking = ranker.rank(batch, record.draw_seed)
        again = pick(
            ranking,
            batch["child_count"].tolist(),
            Lots(Random(), record.draw_seed),
            places=len(chosen_rows(record)),
            exploration=record.exploration,
        )
        assert list(again.rows) == chosen_rows(record)
        assert again.explored == record.explored
        assert again.propensities.tobytes() == record.propensities
        assert ranking.scores.tobytes() == record.scores
        # These rankers look at none; they follow from the facts.
        is_sampled = record.draw_seed % 4 == 0
        assert record.features == (feature_matrix(batch).tobytes() if is_sampled else b"")
        sampled.add(is_sampled)
        assert np.array_equal(again.left_out, bad(record))
    assert sampled == {True, False}


def explorer(what: Download | None = None) -> World:
    world = world_with_holders(9, Limits(exploration=1.0))
    world.register("x", "hx", what)
    return world


def test_exploration_is_recorded_and_told() -> None:
    world = explorer()
    (record,) = world.decisions("x")
    (decision,) = world.core.explain(child_id="x")
    assert (record.exploration, record.explored, record.reason) == (1.0, True, "explored")
    assert doubles(record.propensities, 1)[:, 0] == pytest.approx([3 / 9] * 9)
    assert decision.explored
    told = [one.dropped for one in decision.candidates]
    assert told == [""] * 3 + ["others were drawn, to explore"] * 6


@pytest.mark.parametrize("priority", [0, 6])
def test_ordinary_downloads_may_explore(priority: int) -> None:
    (record,) = explorer(download(priority=priority)).decisions("x")
    assert record.explored


@pytest.mark.parametrize("priority", [1, 2, 3, 4, 5])
def test_a_download_with_a_priority_of_its_own_never_explores(priority: int) -> None:
    (record,) = explorer(download(priority=priority)).decisions("x")
    assert (record.exploration, record.explored) == (0.0, False)


def test_a_task_of_one_piece_never_explores() -> None:
    world = World(Limits(exploration=1.0))
    for number in range(9):
        world.announce(host(f"h{number}"))
        world.register(f"p{number}", f"h{number}", download(metadata=True, size=PIECE_LENGTH))
    world.announce(host("hx"))
    world.register("x", "hx")
    (record,) = world.decisions("x")
    assert (record.exploration, record.explored) == (0.0, False)


def test_a_child_that_was_given_parents_before_never_explores() -> None:
    world = explorer()
    world.started("x")
    world.reschedule("x")
    first, second = world.decisions("x")
    assert (first.explored, second.explored) == (True, False)
    assert second.exploration == 0.0


def test_a_child_whose_parent_failed_never_explores() -> None:
    world = world_with_holders(2)
    world.register("x", "hx", download(source=True))
    assert may_explore(world.peer("x"))
    world.piece_failed("x", "p0")
    assert not may_explore(world.peer("x"))


def test_a_reader_can_tell_what_a_ranker_did_not_hand_over() -> None:
    """Features of rankers that look at none follow from the recorded facts, and are explained."""
    world = world_with_holders(2)
    world.now = 12.0
    world.register("x", "hx")
    (record,) = world.decisions("x")
    assert (record.features, record.feature_names, record.feature_schema) == (b"", (), "")
    batch = CandidateBatch(doubles(record.facts, len(FACT_NAMES)).copy())
    (decision,) = world.core.explain(child_id="x")
    for told in decision.candidates:
        seen = feature_matrix(batch)[record.peer_ids.index(told.peer_id)]
        expected = pytest.approx(seen.tolist(), rel=1e-5, abs=1e-5, nan_ok=True)
        assert list(told.features.values()) == expected
