"""What a settings model knows: its keys, their environment variables, and which of them are secret.

Derived from the model's fields, so that a new field is known everywhere at once. It judges no
values.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import SecretStr

from odonata.settings.section import UNIT_SUFFIXES, Section, key_of

ENVIRONMENT_PREFIX = "ODONATA_"
# Between levels; within a level words stand apart by one. A Kubernetes service link never has two.
_LEVEL = "__"


class Shape(Enum):
    """What stands at a key."""

    VALUE = "a single value"
    LIST = "a list of values"
    SECTIONS = "a list of mappings"
    MAP = "a mapping of names to values"
    SECTION = "a mapping"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the model; `path` is a pattern ("proxy.rules[].regex")."""

    path: str
    attribute: str
    variable: str
    shape: Shape
    secret: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """All keys of one model, sections included, by pattern and in the model's order."""

    settings: dict[str, Setting]

    def find(self, path: str) -> Setting | None:
        """The setting that holds the leaf at `path`, None if there is none."""
        pattern = pattern_of(path)
        setting = self.settings.get(pattern)
        if setting is not None:
            return setting
        parent = self.settings.get(pattern.removesuffix("[]"))
        if parent is not None and parent.shape is Shape.LIST:
            return parent
        return self._mapping_of(pattern)

    def variables(self) -> dict[str, Setting]:
        """Settings that one environment variable can hold, by its name."""
        return {
            setting.variable: setting
            for setting in self.settings.values()
            if "[]" not in setting.path and setting.shape is not Shape.SECTION
        }

    def _mapping_of(self, pattern: str) -> Setting | None:
        parent = self.settings.get(pattern.rpartition(".")[0])
        return parent if parent is not None and parent.shape is Shape.MAP else None


def pattern_of(path: str) -> str:
    """`proxy.rules[3].regex` -> `proxy.rules[].regex`."""
    return re.sub(r"\[\d+\]", "[]", path)


@cache
def schema_of(model: type[Section]) -> Schema:
    """The model's keys."""
    return Schema({setting.path: setting for setting in _walk(model, "", ENVIRONMENT_PREFIX)})


def _walk(model: type[Section], path: str, variable: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        key = field.alias or key_of(name)
        here, there = f"{path}{key}", f"{variable}{_variable_word(name)}"
        inner, shape = _kind(field.annotation)
        yield Setting(here, name, there, shape, secret=inner is SecretStr)
        if _is_section(inner):
            items = "[]" if shape is Shape.SECTIONS else ""
            yield from _walk(inner, f"{here}{items}.", f"{there}{_LEVEL}")


def _variable_word(attribute: str) -> str:
    for suffix in UNIT_SUFFIXES:
        if attribute.endswith(suffix):
            return attribute.removesuffix(suffix).upper()
    return attribute.upper()


def _kind(annotation: Any) -> tuple[Any, Shape]:
    """The type of what is held, and how it is held."""
    annotation = _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        inner = _bare(arguments[0])
        return inner, Shape.SECTIONS if _is_section(inner) else Shape.LIST
    if origin is dict:
        return _bare(arguments[1]), Shape.MAP
    return annotation, Shape.SECTION if _is_section(annotation) else Shape.VALUE


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _bare(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        kept = [inner for inner in get_args(annotation) if inner is not type(None)]
        return _bare(kept[0]) if len(kept) == 1 else annotation
    return annotation
