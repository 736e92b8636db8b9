"""Rankers by name: each keeps the promises of the protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.ranker_bundle import candidates, tiny_bundle

from models.bundle import BundleError, load_bundle
from models.guard import ModelHolder
from models.named import RANKER_NAMES, make_ranker
from odonata.errors import CallerError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle(folder)
    return folder


@pytest.mark.parametrize("name", RANKER_NAMES)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_every_ranker_is_pure_and_scores_everybody(bundle: Path, name: str, count: int) -> None:
    ranker = make_ranker(name, bundle=bundle)
    assert ranker.name == name
    batch = candidates(9, count)
    before = batch.facts.tobytes()
    first, again = ranker.rank(batch, 5), make_ranker(name, bundle=bundle).rank(batch, 5)
    assert batch.facts.tobytes() == before
    assert first.scores.tobytes() == again.scores.tobytes()
    assert first.scores.shape == first.bad.shape == (count,)
    assert np.isfinite(first.scores).all()
    assert (first.ranked_by, first.fallback) == (name, "")


def test_the_learned_one_takes_its_model_from_anywhere(bundle: Path) -> None:
    batch = candidates(1)
    model = load_bundle(bundle)
    holder = ModelHolder(model)
    for ranker in (
        make_ranker("learned", model=model),
        make_ranker("learned", bundle=bundle),
        make_ranker("learned", holder=holder),
    ):
        assert ranker.rank(batch, 0).model_version == "1"
    ranker = make_ranker("learned", holder=holder)
    holder.swap(None, "missing")
    assert ranker.rank(batch, 0).fallback == "missing"
    assert make_ranker("learned").rank(batch, 0).fallback == "no_model"


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="no ranker 'best': choose one of dragonfly, rule"):
        make_ranker("best")
    with pytest.raises(BundleError, match="is not there"):
        make_ranker("learned", bundle=tmp_path)
