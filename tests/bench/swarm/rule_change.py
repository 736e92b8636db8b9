"""Numbers of a core that an ablation changes, as words of a command line and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Rules = dict[str, Any]
"""Values by name of the field."""


def words_of(rules: Mapping[str, Any]) -> list[str]:
    """FIELD=JSON ..."""
    return [f"{field}={json.dumps(value)}" for field, value in rules.items()]


def rules_of(words: Sequence[str]) -> Rules:
    """FIELD=JSON ... as values."""
    return {field: json.loads(value) for field, _, value in (one.partition("=") for one in words)}
