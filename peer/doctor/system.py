"""What the system allows a process: open files, waiting connections."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

from peer.doctor.finding import Finding, failure, ok, warning
from peer.runtime.piece_server import BACKLOG, CONNECTIONS_MAX
from peer.runtime.proxy.option import ProxyOptions

FILES_OF_THE_REST: Final = 1024
"""Sources, parents, schedulers, content files, the index; a pull of 30 layers takes about 300."""
FILES_WANTED: Final = CONNECTIONS_MAX + 2 * ProxyOptions().max_connections + FILES_OF_THE_REST
"""Each child takes one, each client of the proxy up to two (its own, and one to the origin)."""
FILES_LEAST: Final = 1024
"""What every system gives. With less the piece server alone can run out."""

_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


def open_files_limit() -> int:
    """How many this process may have open; unlimited: a very large number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**63 - 1 if soft == resource.RLIM_INFINITY else soft


def judge_open_files(limit: int) -> Finding:
    """Whether a daemon with all the connections that it allows has descriptors for them."""
    check = "limit.open_files"
    fix = f"raise it to {FILES_WANTED} (ulimit -n; LimitNOFILE= of the systemd unit)"
    if limit < FILES_LEAST:
        return failure(check, f"{limit} open files are allowed: too few", fix)
    if limit < FILES_WANTED:
        detail = f"{limit} open files are allowed; a busy daemon takes up to {FILES_WANTED}"
        return warning(check, detail, fix)
    return ok(check, f"{limit} open files are allowed")


def waiting_connections_limit(path: Path = _SOMAXCONN) -> int | None:
    """net.core.somaxconn; None: the kernel does not tell."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def judge_waiting_connections(limit: int | None) -> Finding:
    """Whether children that come all at once find room in the queue of the piece server."""
    check = "limit.somaxconn"
    if limit is None:
        return ok(check, "the kernel does not tell")
    if limit < BACKLOG:
        detail = f"{limit} connections may wait to be accepted, and the daemon asks for {BACKLOG}"
        return warning(check, detail, f"sysctl -w net.core.somaxconn={BACKLOG}")
    return ok(check, f"{limit} connections may wait to be accepted")
