"""LightGBM's model text (native format v4), read strictly and written anew before it is parsed.

LightGBM trusts what it parses, and would follow a wild index out of its memory: a damaged text
crashes the process, or scores nonsense. So what it gets is never the text from the disk, but one
made here of what was understood: trees whose every index is in range and whose nodes form a tree,
so that evaluating them ends and stays in memory. Thresholds and leaves are taken over digit by
digit, hence the scores are the same bit for bit.

Only what our rankers are made of is understood: one score, numerical splits, constant leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite

TREE_LIMIT = 4000
"""Trees of one model. Rankers have at most a few hundred; more would not fit the time budget."""
LEAF_LIMIT = 4096
"""Leaves of one tree; ours have 31."""

_HEADER = {"num_class": "1", "num_tree_per_iteration": "1", "version": "v4"}
_RAW_OBJECTIVES = frozenset({"lambdarank", "rank_xendcg", "regression", "regression_l1", "huber"})
"""Objectives whose raw score is the prediction: no function is applied to it."""
_DECISION_TYPES = frozenset({0, 2, 4, 6, 8, 10})
"""Bit 0: by category (never); bit 1: the unknown goes left; bits 2-3: what counts as unknown."""
_BEGINNING = "tree\n"
_END = "end of trees"

# Narrower than Python's int() and float(), which also take "1_0" and digits of other scripts.
_INT = re.compile(r"-?[0-9]{1,9}")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?|inf|nan)")


def rewritten(text: bytes, feature_names: tuple[str, ...]) -> bytes:
    """The model in `text`, which must be over exactly these features, as a text that is safe.

    ValueError says what is not understood, or why it is no model over these features.
    """
    head, blank, body = text.decode("ascii").partition("\n\n")
    if not blank or not head.startswith(_BEGINNING):
        raise ValueError("the model does not begin like one of LightGBM: was it cut off?")
    header = _fields(head)
    _check_header(header, feature_names)
    sizes = _whole_numbers(header, "tree_sizes")
    if len(sizes) > TREE_LIMIT:
        raise ValueError(f"the model has {len(sizes)} trees: at most {TREE_LIMIT}")
    trees: list[str] = []
    at = 0
    for number, size in enumerate(sizes):
        block = body[at : at + size]
        if size < 1 or len(block) != size or not block.startswith(f"Tree={number}\n"):
            raise ValueError(f"tree {number} is not where the header says: was it cut off?")
        trees.append(_tree(block, number, len(feature_names)))
        at += size
    if not trees or not body[at:].lstrip("\n").startswith(_END):
        raise ValueError("the model does not end after its trees: was it cut off?")
    return _model(trees, feature_names).encode()


def _model(trees: list[str], feature_names: tuple[str, ...]) -> str:
    lines = (
        "tree",
        *(f"{key}={value}" for key, value in _HEADER.items()),
        "label_index=0",
        f"max_feature_idx={len(feature_names) - 1}",
        f"feature_names={' '.join(feature_names)}",
        f"feature_infos={' '.join('none' for _ in feature_names)}",
        f"tree_sizes={' '.join(str(len(tree)) for tree in trees)}",
        "",
        "",
    )
    return "\n".join(lines) + "".join(trees) + f"{_END}\n"


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


def _tree(block: str, number: int, n_features: int) -> str:
    """One tree, checked and written anew."""
    tree: dict[str, str] = {}
    try:
        tree = _fields(block)
        problem = _problem(tree, n_features)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(f"tree {number}: {problem}")
    lines = (
        f"Tree={number}",
        f"num_leaves={tree['num_leaves']}",
        "num_cat=0",
        *(f"{key}={tree.get(key, '')}" for key in _ARRAYS),
        f"leaf_value={tree['leaf_value']}",
        "is_linear=0",
        "shrinkage=1",  # said only: leaves are shrunk already
    )
    return "\n".join(lines) + "\n\n\n"


_ARRAYS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def _problem(tree: Mapping[str, str], n_features: int) -> str:
    n_leaves = _whole_number(tree, "num_leaves")
    if not 1 <= n_leaves <= LEAF_LIMIT:
        return f"num_leaves is {n_leaves}: 1 to {LEAF_LIMIT}"
    if _whole_number(tree, "num_cat") != 0 or tree.get("is_linear", "0") != "0":
        return "only numerical splits and constant leaves are served"
    leaves = _numbers(tree, "leaf_value")
    if len(leaves) != n_leaves:
        return f"{len(leaves)} values for {n_leaves} leaves"
    if not all(map(isfinite, leaves)):
        return "leaf_value is not finite"
    return _node_problem(tree, n_leaves, n_features)


def _node_problem(tree: Mapping[str, str], n_leaves: int, n_features: int) -> str:
    n_nodes = n_leaves - 1
    features = _whole_numbers(tree, "split_feature")
    left = _whole_numbers(tree, "left_child")
    right = _whole_numbers(tree, "right_child")
    kinds = _whole_numbers(tree, "decision_type")
    # NaN is a threshold too: it parts the unknown from all the known.
    if any(
        len(array) != n_nodes
        for array in (features, left, right, kinds, _numbers(tree, "threshold"))
    ):
        return f"its arrays are not of {n_nodes} nodes"
    if not all(0 <= feature < n_features for feature in features):
        return f"it splits by a feature beyond the {n_features} there are"
    if not _DECISION_TYPES.issuperset(kinds):
        return "only numerical splits are served"
    return _shape_problem(left, right) if n_nodes else ""


def _shape_problem(left: list[int], right: list[int]) -> str:
    """Every node and leaf is reached once from the root."""
    n_nodes = len(left)
    seen: set[int] = set()
    pending = [0]
    while pending:
        child = pending.pop()
        # Nodes are numbers from 0, leaves the complement of theirs: -1 is leaf 0.
        if child in seen or not -n_nodes - 1 <= child < n_nodes:
            return f"node {child} is reached twice or is not there"
        seen.add(child)
        if child >= 0:
            pending += (left[child], right[child])
    return "" if len(seen) == 2 * n_nodes + 1 else "some of its nodes are never reached"


def _fields(block: str) -> dict[str, str]:
    """`key=value` lines; a line without "=" is a key of its own. No key twice."""
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        key, _, value = line.partition("=")
        if line and key in fields:
            raise ValueError(f"{key} is said twice")
        fields[key] = value
    return fields


def _whole_number(fields: Mapping[str, str], key: str) -> int:
    if key not in fields:
        raise ValueError(f"{key} is missing")
    return _int(fields[key])


def _whole_numbers(fields: Mapping[str, str], key: str) -> list[int]:
    return [_int(word) for word in _words(fields, key)]


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _numbers(fields: Mapping[str, str], key: str) -> list[float]:
    words = _words(fields, key)
    strange = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if strange is not None:
        raise ValueError(f"{strange[:40]!r} in {key} is no number")
    return [float(word) for word in words]


def _words(fields: Mapping[str, str], key: str) -> list[str]:
    text = fields.get(key, "")
    return text.split(" ") if text else []
