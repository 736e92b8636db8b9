"""Persistent tasks for people and for programs: what a command prints. Nothing is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from odonata.units import exact_size, format_duration, format_size
from odonata.wire.dragonfly.persistent import LocalCopy, PersistentFacts

_SHORT_ID = 12
_WIDE = 120
"""Columns of a terminal that has room for whole ids."""


def task_json(task: PersistentFacts) -> str:
    """What the scheduler knows, for programs."""
    return json.dumps(_plain(task), indent=2)


def copies_json(copies: Sequence[LocalCopy]) -> str:
    """What this host holds, for programs."""
    return json.dumps({"tasks": [_plain(copy) for copy in copies]}, indent=2)


def _plain(value: PersistentFacts | LocalCopy) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def show_task(console: Console, task: PersistentFacts, now_s: float) -> None:
    """Line by line; `now_s` is Unix time."""
    left_s = task.created_at_s + task.ttl_s - now_s
    lines = {
        "task": task.id,
        "state": task.state,
        "length": exact_size(task.content_length),
        "pieces": str(task.piece_count),
        "replicas": f"{task.current_persistent_replica_count} of {task.persistent_replica_count}",
        "copies": str(task.current_replica_count),
        "imported": f"{datetime.fromtimestamp(task.created_at_s).astimezone():%F %T%z}",
        "lives": f"{format_duration(task.ttl_s)}, {_left(left_s)}",
    }
    lines |= {"tag": task.tag} if task.tag else {}
    lines |= {"application": task.application} if task.application else {}
    for name, value in lines.items():
        console.print(f"{name:<13}{value}", highlight=False, markup=False, soft_wrap=True)


def show_copies(console: Console, copies: Sequence[LocalCopy], now_s: float) -> None:
    """A table; `now_s` is Unix time."""
    if not copies:
        console.print("This host holds none.")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("id", no_wrap=True)
    for name in ("size", "replica", "whole", "lives"):
        table.add_column(name, justify="right", no_wrap=True)
    for copy in copies:
        table.add_row(
            copy.task_id if console.width >= _WIDE else copy.task_id[:_SHORT_ID],
            "-" if copy.content_length is None else format_size(copy.content_length),
            "yes" if copy.persistent else "no",
            "yes" if copy.finished_at_s is not None else "no",
            _left(copy.created_at_s + copy.ttl_s - now_s),
        )
    console.print(table, markup=False)


def _left(seconds: float) -> str:
    return f"{format_duration(seconds)} left" if seconds > 0 else "its time is over"
