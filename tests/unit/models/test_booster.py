"""The C interface scores as LightGBM's own package does; a broken text is an error, not a crash."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ranker_bundle import boosters, candidates, grow

from models import booster
from models.booster import Booster, BrokenModelError, NoLightgbmError
from models.features import FEATURE_NAMES, feature_matrix
from models.tree_text import TREE_LIMIT, rewritten

NAMES = tuple("abcde")
Change = tuple[str, str]


def grown(objective: str, **params: Any) -> lightgbm.Booster:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(400, 5))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    grades = rng.integers(0, 5, 400)
    data = lightgbm.Dataset(rows, grades, group=[10] * 40, feature_name=list(NAMES))
    fixed = {"objective": objective, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 2}
    return grow({**fixed, **params}, data, 30)


def text_of(model: lightgbm.Booster) -> str:
    return str(model.model_to_string())


@pytest.mark.parametrize("objective", ["lambdarank", "regression", "regression_l1", "huber"])
def test_scores_are_those_of_lightgbms_own_package(objective: str) -> None:
    theirs = grown(objective)
    ours = Booster(text_of(theirs).encode(), NAMES)
    rows = np.random.default_rng(6).normal(size=(128, 5))
    rows[::7, 2] = np.nan
    rows[3, 0], rows[4, 1] = np.inf, -np.inf
    expected = np.asarray(theirs.predict(rows, num_threads=1))
    assert ours.predict(rows).tobytes() == expected.tobytes()
    assert ours.predict(rows[:1]).tobytes() == expected[:1].tobytes()
    assert ours.predict(np.asfortranarray(rows)).tobytes() == expected.tobytes()
    assert len(ours.predict(rows[:0])) == 0


def test_a_model_without_splits_is_a_constant() -> None:
    data = lightgbm.Dataset(np.zeros((50, 5)), np.full(50, 3.0), feature_name=list(NAMES))
    model = grow({"objective": "regression", "verbosity": -1}, data, 3)
    ours = Booster(text_of(model).encode(), NAMES)
    assert ours.predict(np.ones((2, 5))).tolist() == [3.0, 3.0]


def test_other_shapes_are_refused() -> None:
    ours = Booster(text_of(grown("regression")).encode(), NAMES)
    for shape in ((2, 4), (2, 6), (5,)):
        with pytest.raises(ValueError, match="knows 5 columns"):
            ours.predict(np.zeros(shape))


def test_several_threads_may_ask_and_models_are_given_back() -> None:
    rank, _ = boosters()
    ours = Booster(text_of(rank).encode(), FEATURE_NAMES)
    features = feature_matrix(candidates(3))
    expected = ours.predict(features).tobytes()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ours.predict, features) for _ in range(200)]
        answers = [one.result().tobytes() for one in asked]
    assert set(answers) == {expected}
    for _ in range(50):
        Booster(text_of(rank).encode(), FEATURE_NAMES)
    gc.collect()
    assert ours.predict(features).tobytes() == expected


def test_without_lightgbm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    with pytest.raises(NoLightgbmError, match=r"pip install 'odonata\[learned\]'"):
        booster.library_path()


def test_a_package_without_its_library_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    def found(_name: str) -> Spec:
        return Spec()

    monkeypatch.setattr("importlib.util.find_spec", found)
    with pytest.raises(NoLightgbmError, match="install lightgbm again"):
        booster.library_path()
    (tmp_path / "lib_lightgbm.so").write_bytes(b"no library")
    assert booster.library_path() == tmp_path / "lib_lightgbm.so"


# --- texts that are no models ---------------------------------------------------------------------


TEXT = text_of(grown("lambdarank"))


def changed(old: str, new: str) -> bytes:
    assert old in TEXT, old
    return TEXT.replace(old, new, 1).encode()


def line_of(key: str) -> str:
    return next(line for line in TEXT.splitlines() if line.startswith(f"{key}="))


def items(key: str, position: int, value: str) -> Change:
    """The first line of `key`, with one of its items exchanged for another of the same length."""
    line = line_of(key)
    words = line.removeprefix(f"{key}=").split(" ")
    words[position] = value.rjust(len(words[position]), "0") if value.isdigit() else value
    return line, f"{key}={' '.join(words)}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("version=v4", "version=v3"), "version"),
        (("num_class=1", "num_class=2"), "num_class"),
        (("num_tree_per_iteration=1", "num_tree_per_iteration=3"), "num_tree_per_iteration"),
        (("objective=lambdarank", "objective=binary sigmoid:1"), "objective"),
        (("objective=lambdarank", "objective=regression sqrt"), "objective"),
        (("feature_names=a b c d e", "feature_names=a b c e d"), "features are"),
        (("max_feature_idx=4", "max_feature_idx=5"), "max_feature_idx"),
        (("\n\nTree=0", "\naverage_output\n\nTree=0"), "random forests"),
        (("Tree=3\n", "Tree=9\n"), "tree 3 is not where"),
        (("num_cat=0", "num_cat=1"), "numerical splits"),
        (("is_linear=0", "is_linear=1"), "constant leaves"),
        (("num_leaves=31", "num_leaves=30"), "values for 30 leaves"),
        (("num_leaves=31", "num_leaves=-1"), "num_leaves"),
        (items("split_feature", 0, "9"), "beyond the 5"),
        (items("left_child", 0, "0"), "reached twice"),
        (items("right_child", 0, "9"), "reached twice"),
        ((line_of("tree_sizes"), "tree_sizes=1"), "tree 0 is not where"),
        ((line_of("tree_sizes"), "tree_sizes=x"), "no whole number"),
        ((line_of("tree_sizes"), "tree_sizes=1_0"), "no whole number"),
        (("num_leaves=31", " num_leaves=31"), "num_leaves is missing"),
        (("num_leaves=31", "num_leaves=31\r"), "no whole number"),
        (items("decision_type", 0, "1"), "only numerical splits"),
        (items("decision_type", 0, "x"), "no whole number"),
        (("num_class=1", "num_class=1\nnum_class=1"), "said twice"),
        (("end of trees", "end of forest"), "does not end"),
        (("split_feature=", "spilt_feature="), "arrays"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_broken_text_is_named(change: Change, problem: str) -> None:
    with pytest.raises(BrokenModelError, match=problem):
        Booster(changed(*change), NAMES)


def test_a_key_said_twice_in_a_tree_is_refused() -> None:
    text = changed("num_cat=0\nsplit_feature", "num_cat=0\nnum_cat=0\nsplit_feature")
    size = line_of("tree_sizes").removeprefix("tree_sizes=").split(" ")[0]
    fitting = text.decode().replace(f"={size} ", f"={int(size) + len('num_cat=0') + 1} ", 1)
    with pytest.raises(BrokenModelError, match="num_cat is said twice"):
        Booster(fitting.encode(), NAMES)


def test_a_leaf_that_is_no_number_is_refused() -> None:
    line = line_of("leaf_value")
    first = line.removeprefix("leaf_value=").split(" ")[0]
    with pytest.raises(BrokenModelError, match="leaf_value is not finite"):
        Booster(changed(line, line.replace(first, "1e999".rjust(len(first), "0"), 1)), NAMES)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "does not begin"),
        (b"tree\n", "does not begin"),
        (b"tree\n\n", "does not begin"),
        (b"tree\nversion=v4\n\n", "num_class"),
        (b"\x00" + TEXT.encode(), "does not begin"),
        (b"{}", "does not begin"),
        ("tree\nä\n\n".encode(), "ascii"),
    ],
)
def test_what_is_no_model_at_all_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(BrokenModelError, match=problem):
        Booster(text, NAMES)


def test_too_many_trees_are_refused() -> None:
    head, _, _ = TEXT.partition("tree_sizes=")
    tree = "num_leaves=1\nnum_cat=0\nleaf_value=0\n\n\n"
    trees = [f"Tree={number}\n{tree}" for number in range(TREE_LIMIT + 1)]
    sizes = " ".join(str(len(one)) for one in trees)
    text = f"{head}tree_sizes={sizes}\n\n{''.join(trees)}end of trees\n"
    with pytest.raises(ValueError, match=f"at most {TREE_LIMIT}"):
        rewritten(text.encode(), NAMES)


@settings(max_examples=300)
@given(data=st.data())
def test_no_damaged_text_gets_past_the_check_and_crashes(data: st.DataObject) -> None:
    """Either it is refused, or it scores: the process lives on."""
    text = bytearray(TEXT.encode())
    end = text.index(b"end of trees")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, end - 1))
        size = data.draw(st.integers(0, 20))
        text[at : at + size] = data.draw(st.binary(max_size=20))
    try:
        scores = Booster(bytes(text), NAMES).predict(np.zeros((3, 5)))
    except BrokenModelError:
        return
    assert len(scores) == 3


@given(st.integers(0, len(TEXT)))
def test_a_text_that_was_cut_off_is_refused(size: int) -> None:
    if size < TEXT.index("end of trees") + len("end of trees"):
        with pytest.raises(ValueError, match=r".+"):
            rewritten(TEXT[:size].encode(), NAMES)
