"""The scheduler's numbers, changed for an ablation. Apart from the rest: a daemon needs none."""

from __future__ import annotations

import dataclasses

from bench.swarm.rule_change import Rules

from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits


def changed(limits: Limits, rules: Rules) -> Limits:
    """With some of them changed."""
    if "graph" in rules:
        rules = {**rules, "graph": GraphKind(rules["graph"])}
    return dataclasses.replace(limits, **rules)
