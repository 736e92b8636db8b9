"""Is there room to listen? Asked before gRPC binds: its own error names no cause and no fix.

A check and a bind are two steps: what happens between them still fails, only less politely. And the
end of it: `accept_no_more`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from odonata.errors import SettingsError, UnavailableError

# sockaddr_un.sun_path on Linux: 108 bytes with the closing zero.
MAX_UNIX_PATH_BYTES = 107

# Connecting to a local socket answers at once; a listener whose queue is full counts as one.
_PROBE_TIMEOUT_S = 1.0

# Of the event loop, from a connection that was accepted to its transport.
_TURNS_OF_ACCEPTING: Final = 2


async def accept_no_more(servers: Iterable[asyncio.Server]) -> None:
    """Close the servers; who was accepted in the last moment has his protocol when it returns.

    asyncio's own close (3.11) forgets one whose transport is not made yet, and leaves it open.
    """
    servers = tuple(servers)
    for server in servers:
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
    for _ in range(_TURNS_OF_ACCEPTING):
        await asyncio.sleep(0)
    for server in servers:
        server.close()


def check_tcp(ip: str, port: int, what: str) -> None:
    """Return if `ip`:`port` is free. `what` names the setting, like "server.port".

    Raises UnavailableError (somebody listens there) or SettingsError (not an address of this
    machine, or not allowed), each with the fix.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
            probe.listen(1)
        except OSError as error:
            raise _tcp_error(error, ip, port, what) from error


def _tcp_error(error: OSError, ip: str, port: int, what: str) -> UnavailableError | SettingsError:
    if error.errno == errno.EADDRINUSE:
        return UnavailableError(
            f"port {port} on {ip} is in use by another process: stop that one (ss -ltnp shows "
            f"it), or choose another {what}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(
            f"{ip} is not an address of this machine: choose one that is (ip addr shows them), or "
            "0.0.0.0 for all"
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            f"port {port} on {ip} is not allowed for this user: choose another {what} above 1023, "
            "or start with CAP_NET_BIND_SERVICE"
        )
    return SettingsError(f"can't listen on {ip} port {port} ({error.strerror}): change {what}")


def prepare_unix(path: Path, what: str) -> None:
    """Make room for a socket at `path`: its folder, and away with a file nobody listens on.

    Raises UnavailableError (somebody listens there) or SettingsError, each with the fix.
    """
    length = len(os.fsencode(path))
    if length > MAX_UNIX_PATH_BYTES:
        raise SettingsError(
            f"{what} {path} has {length} bytes, and the system allows {MAX_UNIX_PATH_BYTES}: "
            "choose a shorter path"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{what}: the folder {path.parent} can't be made ({error.strerror}): make it, or "
            f"choose another {what}"
        ) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(
            f"{what}: the folder {path.parent} is not writable for this user: change its owner or "
            f"mode, or choose another {what}"
        )
    _remove_stale(path, what)


def _remove_stale(path: Path, what: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(
            f"{what} {path} exists and is not a socket: move it away, or choose another {what}"
        )
    if _somebody_listens(path):
        raise UnavailableError(
            f"another process listens on {path}: stop that one, or choose another {what}"
        )
    path.unlink(missing_ok=True)


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # busy, or not ours to touch
    return True
