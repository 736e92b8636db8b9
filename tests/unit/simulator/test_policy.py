"""Policies by name, and where the learned one finds its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ranker_bundle import published, tiny_bundle

from odonata.errors import CallerError
from simulator.policy import MODEL_PLACE, find_model, policy_named


def test_dragonfly_looks_at_fifteen_and_names_three() -> None:
    limits = policy_named("dragonfly").limits(records=False)
    assert (limits.candidate_batch_limit, limits.candidate_parent_limit) == (15, 3)
    assert limits.blind_sample
    assert not limits.records
    assert not policy_named("rule").limits(records=False).blind_sample


def test_nothing_explores_unless_it_is_told_to() -> None:
    assert policy_named("rule").limits(records=True).exploration == 0.0
    assert policy_named("rule", exploration=0.3).limits(records=True).exploration == 0.3
    with pytest.raises(CallerError, match=r"exploration is 2\.0"):
        policy_named("rule", exploration=2.0)


def test_each_world_gets_a_ranker_of_its_own() -> None:
    policy = policy_named("random")
    assert policy.ranker().name == "random"
    assert policy.ranker() is not policy.ranker()


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(CallerError, match="dragonfly, rule, random, round_robin, learned"):
        policy_named("best")


def test_a_named_model_is_used(tmp_path: Path) -> None:
    tiny_bundle(tmp_path)
    assert policy_named("learned", model=tmp_path).ranker().name == "learned"


def test_so_is_a_place_where_models_are_published(tmp_path: Path) -> None:
    published(tmp_path)
    policy = policy_named("learned", model=tmp_path)
    assert policy.model == (tmp_path / "current").resolve()


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"manifest\.json"):
        policy_named("learned", model=tmp_path)


def test_the_published_model_comes_before_the_checkouts(tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    tiny_bundle(sample)
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert find_model(environ, 1000, sample) == sample
    place = tmp_path / "odonata" / MODEL_PLACE
    published(place)
    assert find_model(environ, 1000, sample) == place / "current"


def test_without_any_model_it_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="odonata train"):
        find_model({"XDG_STATE_HOME": str(tmp_path)}, 1000, tmp_path)
