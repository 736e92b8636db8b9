"""A settings document as a tree whose every leaf knows where it was written.

YAML is read by the rules of YAML 1.2's core schema, as Dragonfly's Go and Rust programs read it:
`yes`, `no`, `on` and dates are text, a key may stand only once. One slip of the field is forgiven:
keys that belong to the last item of a list, but stand at the column of its dashes (`_rejoin`).

It knows no setting by name: see `odonata.settings.dialect` and `odonata.settings.schema` for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import yaml

from odonata.errors import SettingsError

# A settings file is written by hand; the largest of Dragonfly's samples has 20 KB.
_FILE_BYTES = 1 << 20
# Deeper than any setting; an alias that holds itself would never end.
_DEPTH = 32
# Aliases of aliases grow without end; a file of ours has some hundred values.
_NODES = 20_000

SourceKind = Literal["default", "file", "environment", "command line"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: `source` for programs, `label` for people ("peer.yaml:9")."""

    source: SourceKind
    label: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """A single value (or an empty mapping or list), its place, and its path as spelled there."""

    value: object
    place: Place
    path: str


Node: TypeAlias = "Leaf | dict[str, Node] | list[Node]"
Tree: TypeAlias = "dict[str, Node]"


def read_document(file: Path) -> Tree:
    """The tree of a YAML file. Errors: SettingsError if it can't be read or is no mapping."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: can't read the settings file: {error.strerror}") from None
    if len(data) > _FILE_BYTES:
        raise SettingsError(
            f"{file}: {len(data)} bytes are no settings file: at most {_FILE_BYTES}"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: not UTF-8 text: bad byte at {error.start}") from None
    return parse_document(text, file.name)


def parse_document(text: str, name: str) -> Tree:
    """The tree of YAML text; `name` opens every place ("peer.yaml:9")."""
    root = _compose(text, name)
    if root is None:
        return {}
    node = _Reader(name).convert(root, "")
    if isinstance(node, dict):
        return node
    if isinstance(node, Leaf) and node.value in (None, {}):
        return {}
    raise SettingsError(f"{name}:1: the file must hold a mapping of keys to values")


def parse_text(text: str, place: Place, path: str, *, split_commas: bool) -> Node:
    """The node of one value given as text outside of a file (a variable or a flag).

    Text that opens with a bracket is YAML; any other is one value, or a list by commas where the
    setting is a list.
    """
    if text.startswith(("[", "{")):
        root = _compose(text, place.label)
        if root is not None:
            return _placed(_Reader(place.label).convert(root, path), place)
    if split_commas:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [Leaf(part, place, f"{path}[{i}]") for i, part in enumerate(parts)]
    return Leaf(text, place, path)


def leaf_tree(value: object, place: Place, path: str) -> Node:
    """The node of a Python value: mappings and sequences become branches."""
    if mapping := as_mapping(value):
        return {
            str(key): leaf_tree(inner, place, join(path, str(key)))
            for key, inner in mapping.items()
        }
    if items := as_sequence(value):
        return [leaf_tree(inner, place, f"{path}[{i}]") for i, inner in enumerate(items)]
    return Leaf(value, place, path)


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every leaf with its present path ("proxy.rules[0].regex"), in order."""
    match node:
        case Leaf():
            yield path, node
        case dict():
            for key, inner in node.items():
                yield from leaves(inner, join(path, key))
        case list():
            for i, inner in enumerate(node):
                yield from leaves(inner, f"{path}[{i}]")


def plain(node: Node) -> object:
    """The node without places."""
    match node:
        case Leaf():
            return node.value
        case dict():
            return {key: plain(inner) for key, inner in node.items()}
        case list():
            return [plain(inner) for inner in node]


def merge(lower: Tree, upper: Tree) -> Tree:
    """Both trees; where they differ, `upper` wins.

    Lists are replaced whole; a key without a value says nothing.
    """
    merged = dict(lower)
    for key, node in upper.items():
        below = merged.get(key)
        if isinstance(node, Leaf) and node.value is None:
            continue
        if isinstance(node, dict):
            merged[key] = merge(below if isinstance(below, dict) else {}, node)
        else:
            merged[key] = node
    return merged


def as_mapping(value: object) -> Mapping[object, object] | None:
    """The value if it is a mapping."""
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else None


def as_sequence(value: object) -> Sequence[object] | None:
    """The value if it is a list or tuple."""
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else None


def join(path: str, key: str) -> str:
    """`proxy` and `server` -> `proxy.server`."""
    return f"{path}.{key}" if path else key


def _placed(node: Node, place: Place) -> Node:
    """The same node, all of it written at `place`."""
    match node:
        case Leaf():
            return Leaf(node.value, place, node.path)
        case dict():
            return {key: _placed(inner, place) for key, inner in node.items()}
        case list():
            return [_placed(inner, place) for inner in node]


_BOOL, _INT, _FLOAT, _NULL, _MERGE, _STR = (
    f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null", "merge", "str")
)
_Resolvers: TypeAlias = dict[str, list[tuple[str, re.Pattern[str]]]]


def _core_resolvers() -> _Resolvers:
    """YAML 1.2's core schema as PyYAML wants it: rules by a scalar's first character."""
    resolvers: _Resolvers = {}
    exponent = r"[eE][-+]?[0-9]+"
    for tag, regex, firsts in (
        (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
        # Longer numbers are no number of ours, and Python refuses thousands of digits.
        (_INT, r"[-+]?[0-9]{1,18}", "-+0123456789"),
        (_FLOAT, rf"[-+]?[0-9]*\.[0-9]+({exponent})?|[-+]?[0-9]+{exponent}", "-+.0123456789"),
        (_NULL, r"~|null|Null|NULL", "~nN"),
        (_MERGE, r"<<", "<"),
    ):
        for first in firsts:
            resolvers.setdefault(first, []).append((tag, re.compile(rf"(?:{regex})\Z")))
    resolvers[""] = [(_NULL, re.compile(r"\Z"))]
    return resolvers


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does."""

    yaml_implicit_resolvers = _core_resolvers()


def _compose(text: str, name: str) -> yaml.Node | None:
    """The node graph of the text, repaired once if it is only the one slip we know."""
    try:
        return _CoreLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        repaired = _rejoin(text, error)
        if repaired is None:
            raise SettingsError(_syntax_message(name, error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{name}:{line}: not YAML: {error.reason}") from None
    try:
        return _CoreLoader(repaired).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise SettingsError(_syntax_message(name, error)) from None


def _syntax_message(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f":{mark.line + 1}" if mark else ""
    return f"{name}{line}: not YAML: {error.problem or error.context}"


def _rejoin(text: str, error: yaml.MarkedYAMLError) -> str | None:
    """Move keys that stand at the column of a list's dashes into the last item of that list.

    A published seed-peer file has `refreshInterval` and `seedPeer` there, right after the list of
    addresses, which no YAML reader accepts; what it means is plain. None: the error is another one.
    """
    list_mark, key_mark = error.context_mark, error.problem_mark
    if list_mark is None or key_mark is None or error.context != "while parsing a block collection":
        return None
    lines = text.splitlines()
    column = list_mark.column
    if key_mark.column != column or not re.match(r"[A-Za-z]\w*:", lines[key_mark.line][column:]):
        return None
    for number in range(key_mark.line, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) < column:
            break
        lines[number] = f"  {line}"
    return "\n".join(lines) + "\n"


class _Reader:
    """Turns YAML's nodes into ours."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0

    def convert(self, node: yaml.Node, path: str, depth: int = 0) -> Node:
        place = Place("file", f"{self._name}:{node.start_mark.line + 1}")
        self._nodes += 1
        if depth > _DEPTH or self._nodes > _NODES:
            raise SettingsError(
                f"{place.label}: {path}: nested too deeply, or an alias holds itself"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth) or Leaf({}, place, path)
        if isinstance(node, yaml.SequenceNode):
            items: list[Node] = [
                self.convert(inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(node.value)
            ]
            return items or Leaf([], place, path)
        assert isinstance(node, yaml.ScalarNode)
        return Leaf(_scalar(node, place), place, path)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Tree:
        merged: Tree = {}
        own: Tree = {}
        for key_node, value_node in node.value:
            where = f"{self._name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise SettingsError(f"{where}: a key must be plain text")
            key: str = key_node.value
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node, path, depth), **merged}
            elif key in own:
                raise SettingsError(f"{where}: {join(path, key)} stands twice: keep one of them")
            else:
                own[key] = self.convert(value_node, join(path, key), depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: str, depth: int) -> Tree:
        """What `<<: *alias` or `<<: [*one, *other]` brings in; the first to name a key wins."""
        sources: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
        tree: Tree = {}
        for source in sources:
            inner = self.convert(source, path, depth + 1)
            tree = {**(inner if isinstance(inner, dict) else {}), **tree}
        return tree


def _scalar(node: yaml.ScalarNode, place: Place) -> object:
    text: str = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    try:
        if node.tag in {_INT, _FLOAT}:
            return int(text) if node.tag == _INT else float(text)
    except ValueError:
        raise SettingsError(f"{place.label}: {text!r} is not a number") from None
    if node.tag == _STR:
        return text
    raise SettingsError(f"{place.label}: tag {node.tag} is not understood: write a plain value")
