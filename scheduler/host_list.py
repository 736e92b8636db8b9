"""`odonata host`: asks a running scheduler for its hosts, and shows them to people.

It speaks to the scheduler's status page (`metrics.enable`) and to nothing else. Hosts that are not
trusted come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from odonata.errors import CallerError, NotFoundError
from odonata.units import format_duration, format_rate
from odonata.wire.message import Value
from scheduler.core.host_report import HostReport
from scheduler.status_client import ask_page

PAGE_HOSTS: Final = 1000
ALL_HOSTS: Final = 100_000
"""More are not fetched: nobody reads such a table, and a scheduler has not so many."""
WIDE: Final = 110
"""Columns of a terminal from which on places are shown, too."""
SHOWN_MATCHES: Final = 5
GOOD: Final = "Good"


class Hosts(Value, frozen=True, kw_only=True):
    """The page's answer: its times are seconds since 1970, `at_s` is the scheduler's now."""

    hosts: tuple[HostReport, ...]
    total_count: int
    at_s: float


def ask_hosts(url: str) -> Hosts:
    """All hosts, those that are not trusted first, then by name. Errors: those of `ask_page`."""
    found: dict[str, HostReport] = {}
    while True:
        query = {"offset": str(len(found)), "limit": str(PAGE_HOSTS)}
        page = ask_page(url, "/hosts", query, Hosts)
        before = len(found)
        found |= {host.id: host for host in page.hosts}
        if not page.hosts or len(found) in (before, page.total_count) or len(found) >= ALL_HOSTS:
            break
    hosts = sorted(found.values(), key=lambda host: (host.standing == GOOD, host.id))
    return Hosts(hosts=tuple(hosts), total_count=page.total_count, at_s=page.at_s)


def ask_host(url: str, id_: str) -> Hosts:
    """The one host of this id, or whose id alone begins so. Raises NotFoundError, CallerError."""
    page = ask_page(url, "/hosts", {"id": id_, "limit": str(SHOWN_MATCHES)}, Hosts)
    if not page.hosts:
        raise NotFoundError(f"no host {id_} is known: see `odonata host ls`")
    if page.total_count > 1:
        shown = ", ".join(host.id for host in page.hosts)
        rest = page.total_count - len(page.hosts)
        more = f" and {rest} more" if rest else ""
        raise CallerError(f"{id_} is the beginning of {shown}{more}: say more of the id")
    return page


# --- for people -----------------------------------------------------------------------------------


def show_hosts(console: Console, found: Hosts) -> None:
    """A table of them, and why those that are not trusted are not."""
    if not found.hosts:
        console.print("No host has announced itself.")
        return
    console.print(_table(found, is_wide=console.width >= WIDE))
    for host in found.hosts:
        if host.standing != GOOD:
            _say(console, f"{host.id}: {_standing_story(host, found.at_s)}")
    _say(console, _summary(found.hosts))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _table(found: Hosts, *, is_wide: bool) -> Table:
    """Only ids may take several lines: they are long, and somebody may want to copy one."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("host", overflow="fold", min_width=16)
    for name in ("kind", *(("idc", "location") if is_wide else ()), "standing"):
        table.add_column(name, no_wrap=True)
    for name in ("children", "rate", "failed", "pieces/tasks" if is_wide else "holds", "heard"):
        table.add_column(name, justify="right", no_wrap=True)
    for host in found.hosts:
        place = (host.idc or "-", host.location or "-") if is_wide else ()
        table.add_row(
            host.id,
            "seed" if host.is_seed else "peer",
            *place,
            host.standing,
            str(host.child_count),
            _rate(host),
            f"{host.recent_failure_count:.0f}",
            f"{host.piece_count}/{host.task_count}",
            _ago(found.at_s, host.heard_at_s),
        )
    return table


def _rate(host: HostReport) -> str:
    rate = host.served_rate_bytes_per_s
    return "-" if rate is None else format_rate(rate)


def _ago(now_s: float, then_s: float) -> str:
    return format_duration(float(round(max(0.0, now_s - then_s))))


def _standing_story(host: HostReport, now_s: float) -> str:
    story = f"{host.standing} for {_ago(now_s, host.standing_since_s)}"
    if host.standing_until_s is not None:
        story += f", {_ago(host.standing_until_s, now_s)} to go"
    return f"{story}; {host.why}" if host.why else story


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _summary(hosts: Sequence[HostReport]) -> str:
    evictions = sum(host.eviction_count for host in hosts)
    doubtful = sum(host.doubtful_eviction_count for host in hosts)
    seeds = sum(host.is_seed for host in hosts)
    text = f"{len(hosts)} hosts, {seeds} of them seeds"
    if evictions:
        text += f"; evicted {_times(evictions)}, {doubtful} of them doubtfully"
    return text


def show_host(console: Console, host: HostReport, now_s: float) -> None:
    """Everything about one host, line by line."""
    for name, value in _lines(host, now_s):
        _say(console, f"{name:<12}{value}")


def _lines(host: HostReport, now_s: float) -> Iterator[tuple[str, str]]:
    yield "host", host.id
    yield "kind", "seed" if host.is_seed else "peer"
    yield "address", f"{host.ip}:{host.port} ({host.hostname})"
    yield "place", f"idc {host.idc or '-'}, location {host.location or '-'}"
    since = datetime.fromtimestamp(host.standing_since_s).astimezone()
    yield "standing", f"{host.standing} since {since:%Y-%m-%d %H:%M:%S%z}"
    if host.standing_until_s is not None:
        yield "until", f"in {_ago(host.standing_until_s, now_s)}"
    if host.why:
        yield "evicted for", host.why
    yield "evictions", f"{host.eviction_count}, {host.doubtful_eviction_count} of them doubtful"
    yield "serves", f"{host.child_count} children now, {host.upload_count} so far, at {_rate(host)}"
    yield "failures", f"{host.recent_failure_count:.1f} lately, {host.upload_failed_count} so far"
    yield "holds", f"{host.piece_count} pieces of {host.task_count} tasks"
    yield "heard", f"{_ago(now_s, host.heard_at_s)} ago"
    yield "announced", f"{_ago(now_s, host.announced_at_s)} ago, {_rhythm(host)}"
    if host.is_unreachable:
        yield "unreachable", "a call to this seed failed, and it has not announced itself since"


def _rhythm(host: HostReport) -> str:
    interval_s = host.announce_interval_s
    return f"every {format_duration(interval_s)}" if interval_s else "without saying how often"
