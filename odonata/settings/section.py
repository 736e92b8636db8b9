"""The base class of every settings model: frozen, closed, and named twice by one rule.

A setting has one name in Python and one in files. In Python it is snake_case and ends in its unit
(`piece_timeout_s`, `bandwidth_limit_bytes_per_s`); in YAML it is Dragonfly 2.5's camelCase without
the unit (`pieceTimeout`, `bandwidthLimit`), because there the value carries it ("6m", "50GB").
`key_of` derives the second from the first, so the two can't drift apart.

It does not read files, variables or flags: see `odonata.settings.loading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from odonata.settings.dialect import NO_DIALECT, Dialect

# Longest first: `_bytes_per_s` also ends in `_s`.
UNIT_SUFFIXES = ("_bytes_per_s", "_bytes", "_s")
# Words that Dragonfly spells in capitals, unless they open the key (`tcpPort`, `caCert`).
_CAPITALS = frozenset({"db", "gc", "id", "ip", "ipv6", "tls", "ttl", "url"})


def key_of(attribute: str) -> str:
    """The YAML key of a Python attribute: `task_ttl_s` -> `taskTTL`."""
    for suffix in UNIT_SUFFIXES:
        if attribute.endswith(suffix):
            attribute = attribute.removesuffix(suffix)
            break
    first, *rest = attribute.split("_")
    return first + "".join(
        word.upper() if word in _CAPITALS else word.capitalize() for word in rest
    )


class Section(BaseModel):
    """A group of settings that belong together. In Python, build it with its attribute names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=key_of,
        validate_by_name=True,
        validate_by_alias=True,
        coerce_numbers_to_str=True,  # `idc: 1` means the text "1"
        hide_input_in_errors=True,  # an input may be a password
        regex_engine="python-re",
    )


class Settings(Section):
    """The settings of one program: the root that `load` fills."""

    program: ClassVar[str] = ""
    """Its name in messages: "daemon", "scheduler", "manager"."""
    dialect: ClassVar[Dialect] = NO_DIALECT
    """Older spellings and keys without effect."""

    @classmethod
    def computed_defaults(cls, environ: Mapping[str, str], uid: int) -> Mapping[str, Any]:
        """Defaults that depend on who runs the program, by dotted key. Never read at import."""
        del environ, uid
        return {}
