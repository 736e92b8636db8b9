"""Older spellings of settings, and keys that are known but have no effect here."""

from __future__ import annotations

from typing import NamedTuple


class Dialect(NamedTuple):
    """What a program's file may say besides its canonical keys."""

    renames: tuple[object, ...] = ()


NO_DIALECT = Dialect()
DAEMON = Dialect()
DYNCONFIG = Dialect()
SCHEDULER = Dialect()
MANAGER = Dialect()
