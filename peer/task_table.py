"""Tasks for people: a table of those on this host, and the lines about one. Nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table

from odonata.units import exact_size, format_duration, format_size
from peer.task_calls import HostRemoval, HostTask, Standing, TaskFacts

_SHORT_ID = 12
"""Digits that are shown where the terminal is narrow: enough to name one of a million tasks."""
_WIDE = 150
_UNKNOWN = "-"


def show_tasks(console: Console, tasks: Sequence[TaskFacts], now_s: float) -> None:
    """A table; `now_s` is Unix time."""
    if not tasks:
        console.print("This host holds no task.")
        return
    is_wide = console.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("url", overflow="fold", min_width=20)
    for name in ("size", "pieces", "finished", "used"):
        table.add_column(name, justify="right", no_wrap=True)
    for task in tasks:
        table.add_row(
            task.id if is_wide else task.id[:_SHORT_ID],
            task.url or _UNKNOWN,
            _size(task.content_length),
            pieces_of(task),
            "yes" if task.is_finished else "no",
            _ago(now_s, task.used_at_s),
        )
    console.print(table, markup=False)


def pieces_of(task: TaskFacts) -> str:
    """Like "3 of 8", as far as it is known."""
    held = _UNKNOWN if task.held_count is None else str(task.held_count)
    return held if task.piece_count is None else f"{held} of {task.piece_count}"


def show_standing(console: Console, standing: Standing, now_s: float) -> None:
    """Everything about one task, line by line."""
    for name, value in _lines(standing, now_s):
        _say(console, f"{name:<13}{value}")


def show_removals(console: Console, removals: Sequence[HostRemoval]) -> None:
    """Where it was removed, where not and why; hosts that held nothing (any more) are counted."""
    for one in removals:
        if one.outcome == "removed":
            _say(console, f"removed from {one.host_id}")
    for one in removals:
        if one.problem is not None:
            _say(console, f"not removed from {one.host_id}: {one.problem.detail}")
    n_absent = sum(one.outcome == "absent" for one in removals)
    if n_absent:
        _say(console, f"{n_absent} host{'s' if n_absent > 1 else ''} held nothing of it")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _lines(standing: Standing, now_s: float) -> Iterator[tuple[str, str]]:
    local = standing.local
    yield "task", standing.id
    if local is None:
        if standing.swarm is not None:
            yield "length", _exact(standing.swarm.content_length)
        yield "here", "no"
    else:
        yield "url", local.url or _UNKNOWN
        yield "length", _exact(local.content_length)
        yield "piece length", _exact(local.piece_length)
        yield "here", f"{pieces_of(local)} pieces, {'whole' if local.is_finished else 'in part'}"
        yield "since", f"{datetime.fromtimestamp(local.created_at_s).astimezone():%F %T%z}"
        yield "used", f"{_ago(now_s, local.used_at_s)} ago"
    yield "swarm", _swarm(standing)
    for host in standing.hosts or ():
        yield "held by", _host(host)
    if standing.hosts == ():
        yield "held by", "no host"


def _swarm(standing: Standing) -> str:
    swarm, problem = standing.swarm, standing.swarm_problem
    if swarm is None:
        return _UNKNOWN if problem is None else problem.detail
    available = "one of them can give it" if swarm.has_available_peer else "none can give it"
    return f"{swarm.state}, {swarm.peer_count} peers, {available}"


def _host(host: HostTask) -> str:
    if host.problem is not None:
        return f"{host.host_id}? {host.problem.detail}"
    whole = host.task is not None and host.task.is_finished
    return f"{host.host_id} ({'whole' if whole else 'in part'})"


def _size(n_bytes: int | None) -> str:
    return _UNKNOWN if n_bytes is None else format_size(n_bytes)


def _exact(n_bytes: int | None) -> str:
    return _UNKNOWN if n_bytes is None else f"{n_bytes} bytes ({exact_size(n_bytes)})"


def _ago(now_s: float, then_s: float) -> str:
    return format_duration(float(round(max(0.0, now_s - then_s)))) if then_s else _UNKNOWN
