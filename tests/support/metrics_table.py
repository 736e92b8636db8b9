"""Every metric of a scheduler as a table for the documents, from what it serves."""

from __future__ import annotations

from typing import Any

from prometheus_client.core import Metric
from support.scheduler_client import settings

from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.peer_metrics import UNUSUAL_COUNTERS
from scheduler.settings import MetricsSettings

FAILURE = "_failure"


def metrics_table() -> str:
    """A row for each metric, one for a counter and its failure twin. Needs a running event loop."""
    told = MetricsSettings(enable_host=True)
    app = SchedulerApp(settings().model_copy(update={"metrics": told}))
    families = {one.name: one for one in app.metrics.registry.collect()}
    rows = [_row(one, families) for one in families.values() if not _is_twin(one, families)]
    return "| metric | kind | labels | counts or shows |\n|---|---|---|---|\n" + "".join(rows)


def _is_twin(family: Metric, families: dict[str, Metric]) -> bool:
    name = family.name.removesuffix(FAILURE)
    return name != family.name and name in families


def _row(family: Metric, families: dict[str, Metric]) -> str:
    name = f"`{_served(family)}`"
    if f"{family.name}{FAILURE}" in families:
        name += f", `…{FAILURE}_total`"
    held: Any = family
    labels: list[str] = list(getattr(held, "_labelnames", ()))
    if family.type == "info":
        labels = ["name", "version"]
    if family.type == "summary":
        labels.append("quantile")
    return f"| {name} | {family.type} | {', '.join(labels)} | {family.documentation} |\n"


def _served(family: Metric) -> str:
    if family.type == "counter" and family.name not in UNUSUAL_COUNTERS:
        return f"{family.name}_total"
    return f"{family.name}_info" if family.type == "info" else family.name
