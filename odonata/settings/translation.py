"""Applies a dialect to a tree: older words become canonical keys, unknown ones are refused.

The rules are data in `odonata.settings.dialect`; what the keys may hold is checked afterwards, by
the model. Every message speaks in the words of whoever wrote the document, and names where.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from odonata.errors import SettingsError
from odonata.redaction import is_secret_key, shown
from odonata.settings.dialect import Dialect, Ignored, Rename
from odonata.settings.document import Leaf, Node, Tree, leaf_tree, leaves, plain
from odonata.settings.schema import Schema, Shape, pattern_of

# How alike two words must be for "did you mean": difflib's own default; below it, offers read as
# random. A neighbour more alike than the second number is a slip of the pen; among those less
# alike, the same word elsewhere is the better guess.
_LIKENESS = 0.6
_LIKENESS_OF_NEIGHBOURS = 0.75


@dataclass
class Translation:
    """A tree in canonical keys only, and what there is to say about it."""

    tree: Tree
    warnings: list[str] = field(default_factory=list[str])


def translate(tree: Tree, schema: Schema, dialect: Dialect) -> Translation:
    """Rename, warn, and drop what has no effect. `tree` is used up.

    Errors: SettingsError that names every unknown key.
    """
    unknown = [
        _unknown(path, leaf, schema, dialect)
        for path, leaf in _unknown_leaves(tree, schema, dialect)
    ]
    if unknown:
        raise SettingsError("\n".join(unknown))
    for rename in dialect.renames:
        _apply(rename, tree)
    result = Translation(tree)
    _drop_ignored(result, schema, dialect)
    _prune(tree)
    return result


def _unknown_leaves(tree: Tree, schema: Schema, dialect: Dialect) -> Iterator[tuple[str, Leaf]]:
    old = {rename.old + inner for rename in dialect.renames for inner in ("", *rename.inner)}
    for path, leaf in leaves(tree):
        pattern = pattern_of(path)
        setting = schema.find(path)
        if setting is not None or pattern in old or _is_ignored_name(pattern, schema, dialect):
            continue
        # An empty or missing mapping where only its keys are known (`tcpListen:`) says nothing.
        if leaf.value in (None, {}, []) and any(known.startswith(f"{pattern}.") for known in old):
            continue
        yield path, leaf


def _ignored(pattern: str, dialect: Dialect) -> Ignored | None:
    return next(_matching(pattern, dialect), None)


def _matching(pattern: str, dialect: Dialect) -> Iterator[Ignored]:
    for ignored in dialect.ignored:
        key = ignored.key.removesuffix(".*")
        below = ignored.key.endswith(".*") and re.match(r"[.\[]", pattern.removeprefix(key))
        if pattern == key or (below and pattern.startswith(key)):
            yield ignored


def _is_ignored_name(pattern: str, schema: Schema, dialect: Dialect) -> bool:
    """Whether the key is known to be ignored.

    Below a mapping that the model spells out, the model's words and the table's own are the only
    ones; otherwise a slip of the pen would go unnoticed there.
    """
    for ignored in _matching(pattern, dialect):
        root = schema.settings.get(ignored.key.removesuffix(".*"))
        if root is None or root.shape is Shape.VALUE or pattern == root.path:
            return True
    return False


def _unknown(path: str, leaf: Leaf, schema: Schema, dialect: Dialect) -> str:
    value = "" if isinstance(leaf.value, dict | list) else f" ({_shown(leaf, schema)})"
    holder = _holder(path, schema)
    if holder is not None:
        return f"{leaf.place.label}: {leaf.path}{value} is not a key: {holder} holds a single value"
    nearest = _nearest(pattern_of(path), _known(schema, dialect))
    hint = f"did you mean {nearest}?" if nearest else "see `odonata config` for all keys"
    return f"{leaf.place.label}: {leaf.path}{value} is not a known key; {hint}"


def _holder(path: str, schema: Schema) -> str | None:
    """The single-valued setting below which `path` pretends to lie."""
    while "." in path:
        path = path.rpartition(".")[0]
        setting = schema.settings.get(pattern_of(path))
        if setting is not None and setting.shape is Shape.VALUE:
            return path
    return None


def _shown(leaf: Leaf, schema: Schema) -> str:
    setting = schema.find(leaf.path)
    secret = (setting is not None and setting.secret) or is_secret_key(leaf.path)
    return shown(leaf.value, secret=secret)


def _known(schema: Schema, dialect: Dialect) -> list[str]:
    keys = [setting.path for setting in schema.settings.values()]
    keys += [rename.old for rename in dialect.renames]
    keys += [ignored.key.removesuffix(".*") for ignored in dialect.ignored]
    return list(dict.fromkeys(keys))


def _nearest(pattern: str, known: list[str]) -> str | None:
    """The known key most like an unknown one.

    Looked for among its neighbours, then by its last word, then anywhere.
    """
    parent, _, word = pattern.rpartition(".")
    lower = {key.lower(): key for key in known}
    if pattern.lower() in lower:
        return lower[pattern.lower()]
    prefix = f"{parent}." if parent else ""
    words = {key.removeprefix(prefix).split(".")[0]: key for key in known if key.startswith(prefix)}
    same_word = [key for key in known if key.rpartition(".")[2].lower() == word.lower()]
    for offered, wanted, likeness, before in (
        (list(words), word, _LIKENESS_OF_NEIGHBOURS, prefix),
        (same_word, pattern, 0.0, ""),
        (list(words), word, _LIKENESS, prefix),
        (known, pattern, _LIKENESS, ""),
    ):
        near = difflib.get_close_matches(wanted, offered, n=1, cutoff=likeness)
        if near:
            return f"{before}{near[0]}".removesuffix("[]")
    return None


def _apply(rename: Rename, tree: Tree) -> None:
    if rename.when and not _is_true(tree, rename.when):
        return
    if rename.unless and any(True for _ in _take(tree, rename.unless, remove=False)):
        return
    for indices, node in list(_take(tree, rename.old, remove=True)):
        if not rename.new:
            continue
        first = next((leaf for _, leaf in leaves(node)), None)
        if first is None:
            continue
        moved = node if rename.convert is None else _converted(rename, node, first)
        _put(tree, _segments(rename.new), list(indices), moved)


def _is_true(tree: Tree, key: str) -> bool:
    return any(str(plain(node)).lower() == "true" for _, node in _take(tree, key, remove=False))


def _converted(rename: Rename, node: Node, first: Leaf) -> Node:
    assert rename.convert is not None
    # The path as written, up to the key that the rule names.
    path = ".".join(first.path.split(".")[: rename.old.count(".") + 1])
    path = path if rename.old.endswith("[]") else re.sub(r"\[\d+\]$", "", path)
    value = plain(node)
    if value is None:
        return Leaf(None, first.place, path)
    try:
        return leaf_tree(rename.convert(value), first.place, path)
    except ValueError as error:
        raise SettingsError(f"{first.place.label}: {path}: {error}") from None


def _segments(pattern: str) -> list[str]:
    """`proxy.rules[].regex` -> proxy, rules, [], regex."""
    return [part for part in re.split(r"\.|(\[\])", pattern) if part]


def _take(tree: Tree, pattern: str, *, remove: bool) -> Iterator[tuple[tuple[int, ...], Node]]:
    """Each node at the pattern, with the list positions on the way."""
    yield from _take_from(tree, _segments(pattern), (), remove=remove)


def _take_from(
    node: Node, segments: list[str], indices: tuple[int, ...], *, remove: bool
) -> Iterator[tuple[tuple[int, ...], Node]]:
    segment, *rest = segments
    if segment == "[]":
        for i, inner in enumerate(node if isinstance(node, list) else ()):
            yield from _take_from(inner, rest, (*indices, i), remove=remove)
        return
    if not isinstance(node, dict) or segment not in node:
        return
    if rest:
        yield from _take_from(node[segment], rest, indices, remove=remove)
    else:
        yield indices, node.pop(segment) if remove else node[segment]


def _put(node: Node, segments: list[str], indices: list[int], moved: Node) -> None:
    """Place `moved` where it belongs; what stands there already must say the same."""
    segment, *rest = segments
    if segment == "[]":
        assert isinstance(node, list)
        while len(node) <= indices[0]:
            node.append({})
        _put(node[indices[0]], rest, indices[1:], moved)
        return
    assert isinstance(node, dict)
    standing = node.get(segment)
    if isinstance(standing, Leaf) and standing.value is None:
        standing = None
    if not rest:
        if standing is not None and plain(standing) != plain(moved):
            raise SettingsError(_conflict(standing, moved))
        node[segment] = moved
        return
    if standing is None or isinstance(standing, Leaf):
        empty: list[Node] = []
        node[segment] = standing = empty if rest[0] == "[]" else dict[str, Node]()
    _put(standing, rest, indices, moved)


def _prune(node: Tree) -> None:
    """Remove branches from which everything was moved away.

    What was written empty is a leaf, and stays.
    """
    for key, inner in list(node.items()):
        for branch in inner if isinstance(inner, list) else [inner]:
            if isinstance(branch, dict):
                _prune(branch)
        if inner == {} or (isinstance(inner, list) and all(item == {} for item in inner)):
            del node[key]


def _conflict(standing: Node, moved: Node) -> str:
    _, one = next(leaves(standing))
    _, other = next(leaves(moved))
    return (
        f"{other.place.label}: {other.path} says the same thing as {one.path} "
        f"({one.place.label}), but with another value: keep one of them"
    )


def _drop_ignored(result: Translation, schema: Schema, dialect: Dialect) -> None:
    spoken: set[str] = set()
    for path, leaf in list(leaves(result.tree)):
        ignored = _ignored(pattern_of(path), dialect)
        if ignored is None:
            continue
        if schema.find(path) is None:
            list(_take(result.tree, pattern_of(path).rstrip("[]"), remove=True))
        key = _top(leaf.path, path, ignored)
        if leaf.value is None or key in spoken:
            continue
        spoken.add(key)
        result.warnings.append(f"{leaf.place.label}: {key} has no effect: {ignored.why}")


def _top(written: str, path: str, ignored: Ignored) -> str:
    """The highest key, as written, that the entry covers.

    One warning for `tracing`, not one for each key in it.
    """
    if not ignored.key.endswith(".*") or written != path:
        return re.sub(r"\[\d+\]", "[]", written)
    return ".".join(written.split(".")[: ignored.key.count(".")])
