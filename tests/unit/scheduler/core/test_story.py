"""The story of decisions."""

import tracemalloc

from support.scheduler_world import World, host

from models.facts import FACT_NAMES
from models.features import FEATURE_NAMES
from odonata.telemetry.record import DecisionRecord
from scheduler.core.limits import Limits
from scheduler.core.story import Decision, Outcome, Ranked, Story


def test_a_story_is_bounded_and_can_be_searched() -> None:
    story = Story(3)
    for number in range(5):
        story.add(
            Decision(
                at_s=float(number),
                task_id=f"t{number % 2}",
                child_id=f"p{number}",
                outcome=Outcome.WAIT,
                reason="",
            )
        )
    assert [one.child_id for one in story.explain()] == ["p2", "p3", "p4"]
    assert [one.child_id for one in story.explain(task_id="t0")] == ["p2", "p4"]
    assert [one.child_id for one in story.explain(child_id="p3")] == ["p3"]


def test_a_choice_tells_scores_and_why_others_were_dropped() -> None:
    world = World(Limits(candidate_parent_limit=1))
    world.announce(host("h1"), host("h2", idc="a"), host("h3", idc="a"))
    world.holder("p1", "h1")
    world.holder("p2", "h2")
    world.holder("p3", "h3")
    world.register("child", "h3")
    (decision,) = world.core.explain(child_id="child")
    assert decision.outcome is Outcome.PARENTS
    assert decision.ranker == "dragonfly"
    assert decision.useful_count == 3
    told = {one.peer_id: (one.score, one.dropped) for one in decision.candidates}
    assert told["p2"] == (0.25, "")
    assert told["p1"] == (0.05, "others scored higher")
    assert told["p3"] == (None, "runs on the child's own host")


def test_the_candidates_told_are_bounded() -> None:
    world = World(Limits(story_candidate_limit=3))
    for number in range(8):
        world.announce(host(f"h{number}"))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx"))
    world.register("child", "hx")
    (decision,) = world.core.explain(child_id="child")
    assert len(decision.candidates) == 3


def test_of_many_decisions_the_latest_are_told_and_all_are_counted() -> None:
    story = Story(3)
    for number in range(5):
        told = Decision(
            at_s=number,
            task_id="t",
            child_id=f"p{number}",
            outcome=Outcome.PARENTS,
            reason="",
            ranked_by="rule" if number % 2 else "learned",
            fallback="budget" if number % 2 else "",
        )
        story.add(told)
    assert [one.child_id for one in story.explain(latest=2)] == ["p3", "p4"]
    assert [one.child_id for one in story.explain(task_id="t", latest=9)] == ["p2", "p3", "p4"]
    assert story.counts == {
        (Outcome.PARENTS, "learned", ""): 3,
        (Outcome.PARENTS, "rule", "budget"): 2,
    }


def test_a_decision_tells_who_ranked_and_what_it_saw() -> None:
    world = World(Limits(candidate_parent_limit=1, exploration=0.0))
    world.announce(host("h1"), host("h2", idc="a"), host("h3", idc="a"))
    world.holder("p1", "h1")
    world.holder("p2", "h2")
    world.register("child", "h3")
    (decision,) = world.core.explain(child_id="child")
    assert (decision.ranker, decision.ranked_by, decision.reason) == ("dragonfly",) * 3
    assert (decision.model_version, decision.fallback, decision.explored) == ("", "", False)
    first, second = decision.candidates
    assert tuple(first.features) == FEATURE_NAMES
    assert (first.features["same_idc"], second.features["same_idc"]) == (1.0, 0.0)
    assert first.features["report_age"] == 0.0


def test_who_was_not_scored_comes_last_and_without_features() -> None:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.holder("p1", "h1")
    world.holder("p2", "h2")
    world.register("child", "h2")
    (decision,) = world.core.explain(child_id="child")
    assert [one.peer_id for one in decision.candidates] == ["p1", "p2"]
    assert decision.candidates[1].features == {}


def test_what_begins_alike_is_found_once() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), host("h3"))
    world.holder("p1", "h1")
    for child in ("child-1", "child-2"):
        world.register(child, f"h{child[-1]}" if child != "child-1" else "h3")
        world.started(child)
    world.register("child-1", "h3")
    assert world.core.named_in_story("child-") == (["child-1", "child-2"], [])
    assert world.core.named_in_story("t") == ([], ["t"])
    assert world.core.named_in_story("nobody") == ([], [])


def kept(number: int, count: int, ids: tuple[str, ...]) -> Ranked:
    record = DecisionRecord(
        decision_id=f"child#{number}",
        at_s=float(number),
        task_id="t",
        child_id="child",
        child_host_id="hx",
        outcome="parents",
        reason="rule",
        policy="rule",
        ranked_by="rule",
        peer_ids=ids[:],
        host_ids=ids[:],
        scores=bytes(8 * count),
        slots=bytes(4 * count),
        propensities=bytes(8 * count),
        bad=bytes(count),
        facts=bytes(8 * len(FACT_NAMES) * count),
    )
    return Ranked(record, tuple(range(number, number + count)), (), (), count)


def test_decisions_are_kept_small() -> None:
    """What `Limits.story_decision_limit` and `Ranked` say of the memory."""
    count = Limits().candidate_batch_limit
    ids = tuple(f"peer-{number}" for number in range(count))
    tracemalloc.start()
    try:
        decisions = [kept(number, count, ids) for number in range(100)]
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(decisions) < 10 * 1024
