"""Is a text a whole LightGBM model (native format v4) for these features? Checked before it parses.

Only what our rankers are made of is allowed: one score, numerical splits, constant leaves. Each
tree must be a tree (every node reached once from the root, every index in range), so that a text
that passes can be evaluated without leaving memory, and in finite time.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

TREE_LIMIT = 4000
"""Trees of one model. Rankers have at most a few hundred; more would not fit the time budget."""
LEAF_LIMIT = 4096
"""Leaves of one tree; ours have 31."""

_HEADER = {"num_class": "1", "num_tree_per_iteration": "1", "version": "v4"}
_RAW_OBJECTIVES = frozenset({"lambdarank", "rank_xendcg", "regression", "regression_l1", "huber"})
"""Objectives whose raw score is the prediction: no function is applied to it."""
_END = b"end of trees"


def check_trees(text: bytes, feature_names: tuple[str, ...]) -> None:
    """Return if `text` is a model over exactly these features, in this order; else ValueError."""
    if b"\0" in text:
        raise ValueError("the model holds a zero byte: it is no text")
    head, blank, body = text.partition(b"\n\n")
    if not blank or not head.startswith(b"tree\n"):
        raise ValueError("the model does not begin like one of LightGBM: was it cut off?")
    header = _fields(head)
    _check_header(header, feature_names)
    at = 0
    for number, size in enumerate(_whole_numbers(header, "tree_sizes")):
        if number >= TREE_LIMIT:
            raise ValueError(f"the model has more than {TREE_LIMIT} trees")
        block = body[at : at + size]
        if size < 1 or len(block) != size or not block.startswith(f"Tree={number}\n".encode()):
            raise ValueError(f"tree {number} is not where the header says: was it cut off?")
        _check_tree(_fields(block), number, len(feature_names))
        at += size
    if not body[at:].lstrip(b"\n").startswith(_END):
        raise ValueError("the model does not end after its trees: was it cut off?")


def _check_header(header: Mapping[str, str], feature_names: tuple[str, ...]) -> None:
    for key, wanted in _HEADER.items():
        if header.get(key) != wanted:
            raise ValueError(f"{key} is {header.get(key)!r}, not {wanted!r}")
    objective, *options = header.get("objective", "").split() or [""]
    if objective not in _RAW_OBJECTIVES or "sqrt" in options:
        raise ValueError(f"the objective {header.get('objective')!r} is none of a ranker's")
    if header.get("feature_names", "").split(" ") != list(feature_names):
        raise ValueError(f"its features are {header.get('feature_names')!r}")
    if header.get("max_feature_idx") != str(len(feature_names) - 1):
        raise ValueError(f"max_feature_idx is {header.get('max_feature_idx')!r}")
    if "average_output" in header:
        raise ValueError("random forests are not served")


def _check_tree(tree: Mapping[str, str], number: int, n_features: int) -> None:
    """One tree: its arrays fit each other, and its nodes form a tree."""
    try:
        problem = _problem(tree, n_features)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(f"tree {number}: {problem}")


def _problem(tree: Mapping[str, str], n_features: int) -> str:
    n_leaves = _whole_number(tree, "num_leaves")
    if not 1 <= n_leaves <= LEAF_LIMIT:
        return f"num_leaves is {n_leaves}: 1 to {LEAF_LIMIT}"
    if _whole_number(tree, "num_cat") != 0 or tree.get("is_linear", "0") != "0":
        return "only numerical splits and constant leaves are served"
    leaves = _finite_numbers(tree, "leaf_value")
    if len(leaves) != n_leaves:
        return f"{len(leaves)} values for {n_leaves} leaves"
    return _node_problem(tree, n_leaves, n_features) if n_leaves > 1 else ""


def _node_problem(tree: Mapping[str, str], n_leaves: int, n_features: int) -> str:
    n_nodes = n_leaves - 1
    features = _whole_numbers(tree, "split_feature")
    left = _whole_numbers(tree, "left_child")
    right = _whole_numbers(tree, "right_child")
    arrays = (features, left, right, _whole_numbers(tree, "decision_type"), _thresholds(tree))
    if any(len(array) != n_nodes for array in arrays):
        return f"its arrays are not of {n_nodes} nodes"
    if not all(0 <= feature < n_features for feature in features):
        return f"it splits by a feature beyond the {n_features} there are"
    seen: set[int] = set()
    pending = [0]
    while pending:
        child = pending.pop()
        # Nodes are numbers from 0, leaves the complement of theirs: -1 is leaf 0.
        if child in seen or not -n_leaves <= child < n_nodes:
            return f"node {child} is reached twice or is not there"
        seen.add(child)
        if child >= 0:
            pending += (left[child], right[child])
    return "" if len(seen) == n_nodes + n_leaves else "some of its nodes are never reached"


def _fields(block: bytes) -> dict[str, str]:
    """`key=value` lines; a line without "=" is a key of its own."""
    lines = (line.partition("=") for line in block.decode("ascii").splitlines())
    return {key: value for key, _, value in lines}


def _whole_number(fields: Mapping[str, str], key: str) -> int:
    if key not in fields:
        raise ValueError(f"{key} is missing")
    return int(fields[key])


def _whole_numbers(fields: Mapping[str, str], key: str) -> list[int]:
    return [int(text) for text in fields.get(key, "").split()]


def _finite_numbers(fields: Mapping[str, str], key: str) -> list[float]:
    numbers = [float(text) for text in fields.get(key, "").split()]
    if not all(map(isfinite, numbers)):
        raise ValueError(f"{key} is not finite")
    return numbers


def _thresholds(fields: Mapping[str, str]) -> list[float]:
    """NaN is one too: LightGBM writes it where a split parts the unknown from all the known."""
    return [float(text) for text in fields.get("threshold", "").split()]
