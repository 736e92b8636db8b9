"""Fills a settings model from the command line, the environment, a file and its defaults.

In this order. Each source is read into a tree whose leaves know where they were written, brought
into canonical keys, and laid over the one below it; then the model judges the values. Whatever is
wrong is said in one SettingsError, a line for each, with the place, the key as it was written
there, the value and the fix.

It finds no files by itself and starts nothing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from odonata.errors import SettingsError
from odonata.redaction import is_secret_key, shown
from odonata.settings.document import (
    Leaf,
    Node,
    Place,
    Tree,
    join,
    leaf_tree,
    leaves,
    merge,
    parse_text,
    plain,
    read_document,
)
from odonata.settings.schema import ENVIRONMENT_PREFIX, Schema, Shape, schema_of
from odonata.settings.section import Settings
from odonata.settings.translation import translate
from odonata.settings.value import WRITTEN

DEFAULT = Place("default", "default")

# Variables with our prefix that are no settings: the command line reads them.
RESERVED_VARIABLES = frozenset({"ODONATA_CONFIG", "ODONATA_DAEMON_SOCKET"})
# What Kubernetes adds to every container of a namespace that has a service called "odonata-...".
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)")

SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[SettingsT]):
    """Settings, what is to be said about them, and where each came from."""

    settings: SettingsT
    warnings: tuple[str, ...] = ()
    """One line for each key that has no effect and each variable that is not understood."""
    origins: Mapping[str, Leaf] = field(default_factory=dict[str, Leaf])
    """By canonical path ("proxy.rules[0].regex"), what was written and where; defaults are not in
    it."""


def load(
    model: type[SettingsT],
    *,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> Loaded[SettingsT]:
    """The settings of one program.

    `overrides` maps dotted keys to values (text is read as in the environment); they win over
    `environ`, which wins over `file`. Only variables ODONATA_* count; None: none. `uid` decides the
    default folders (None: this process's). Errors: SettingsError.
    """
    environ = environ or {}
    schema = schema_of(model)
    warnings: list[str] = []
    merged: Tree = {}
    for tree in (
        _computed(model, environ, os.geteuid() if uid is None else uid),
        {} if file is None else read_document(file),
        _from_environment(environ, schema, model.program, warnings),
        _from_overrides(overrides or {}, schema),
    ):
        translation = translate(tree, schema, model.dialect)
        warnings += translation.warnings
        merged = merge(merged, translation.tree)
    try:
        settings = model.model_validate(plain(merged), context=WRITTEN)
    except ValidationError as error:
        lines = [_explained(detail, merged, schema) for detail in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from None
    origins = {path: leaf for path, leaf in leaves(merged) if leaf.place.source != "default"}
    return Loaded(settings, tuple(warnings), origins)


def _computed(model: type[Settings], environ: Mapping[str, str], uid: int) -> Tree:
    return _grown(
        (path, leaf_tree(value, DEFAULT, path))
        for path, value in model.computed_defaults(environ, uid).items()
    )


def _from_environment(
    environ: Mapping[str, str], schema: Schema, program: str, warnings: list[str]
) -> Tree:
    """A variable that is not understood earns only a warning: programs share one environment."""
    known = schema.variables()
    found: list[tuple[str, Node]] = []
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in RESERVED_VARIABLES:
            continue
        setting = known.get(name)
        if setting is not None:
            place = Place("environment", name)
            text = environ[name]
            node = parse_text(text, place, setting.path, split_commas=setting.shape is Shape.LIST)
            found.append((setting.path, node))
        elif not _SERVICE_LINK.search(name):
            # Without the prefix, which would make any two names alike.
            words = [variable.removeprefix(ENVIRONMENT_PREFIX) for variable in known]
            near = difflib.get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), words, n=1)
            hint = f"; did you mean {ENVIRONMENT_PREFIX}{near[0]}?" if near else ""
            warnings.append(f"{name} is not a setting of the {program}{hint}")
    return _grown(found)


def _from_overrides(overrides: Mapping[str, Any], schema: Schema) -> Tree:
    found: list[tuple[str, Node]] = []
    for path, value in overrides.items():
        place = Place("command line", "command line")
        if isinstance(value, str):
            setting = schema.find(path)
            split = setting is not None and setting.shape is Shape.LIST
            found.append((path, parse_text(value, place, path, split_commas=split)))
        else:
            found.append((path, leaf_tree(value, place, path)))
    return _grown(found)


def _grown(found: Any) -> Tree:
    """One tree out of nodes at dotted paths."""
    tree: Tree = {}
    for path, node in found:
        branch: Node = node
        for key in reversed(path.split(".")):
            branch = {key: branch}
        assert isinstance(branch, dict)
        tree = merge(tree, branch)
    return tree


def _explained(detail: ErrorDetails, merged: Tree, schema: Schema) -> str:
    """One line for one of pydantic's findings."""
    path, node = _located(detail["loc"], merged)
    first = next((leaf for _, leaf in leaves(node)), None)
    label = first.place.label if first is not None else DEFAULT.label
    written = first.path if isinstance(node, Leaf) and first is not None else path
    setting = schema.find(path)
    secret = is_secret_key(path) or (setting is not None and setting.secret)
    problem = _problem(detail, plain(node), secret=secret)
    return f"{label}: {written}: {problem}" if written else f"{label}: {problem}"


def _located(loc: tuple[int | str, ...], merged: Tree) -> tuple[str, Node]:
    """The path of a finding, and the node there (or the nearest one above what is missing)."""
    path = ""
    node: Node = merged
    for part in loc:
        path = f"{path}[{part}]" if isinstance(part, int) else join(path, part)
        child = _child(node, part)
        node = node if child is None else child
    return path, node


def _child(node: Node, part: int | str) -> Node | None:
    match node, part:
        case dict(), str():
            return node.get(part)
        case list(), int() if part < len(node):
            return node[part]
        case _:
            return None


_NOT_A: Mapping[str, str] = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "bool_parsing": "is not true or false",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "path_type": "is not a file name",
    "tuple_type": "is not a list: write [a, b], or one line with a dash for each",
    "model_type": "is not a mapping of keys to values",
    "model_attributes_type": "is not a mapping of keys to values",
    "dict_type": "is not a mapping of names to values",
    "greater_than_equal": "is too small: at least {ge:g}",
    "greater_than": "is too small: more than {gt:g}",
    "less_than_equal": "is too large: at most {le:g}",
    "finite_number": "is not a finite number",
}


def _problem(detail: ErrorDetails, value: object, *, secret: bool) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing: it has no default"
    if kind == "literal_error":
        return f"{shown(value, secret=secret)} is not one of {context['expected']}"
    if kind in _NOT_A:
        return f"{shown(value, secret=secret)} {_NOT_A[kind].format(**context)}"
    return detail["msg"]
