"""A host's own doors and name: its ports, its socket, the address it tells others."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from odonata.client.endpoint import check_endpoint
from odonata.errors import CallerError, OdonataError, UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_stub import health_stub
from odonata.invocation import command
from odonata.listen import check_tcp
from odonata.redaction import redact_text
from peer.doctor.finding import Finding, failure, ok, split_fix, warning
from peer.doctor.holder import Holder, holder_of
from peer.runtime.host_info import find_ip
from peer.runtime.storage.layout import Layout
from peer.settings import DaemonSettings

HEALTH_TIMEOUT_S: Final = 3.0
"""A server of ours answers its health within milliseconds; Dragonfly's clients connect in 3 s."""

_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy")


def check_port(name: str, ip: str, port: int, daemon_pid: int | None) -> Finding:
    """Whether the daemon can listen there, or does so already (`daemon_pid`). Blocks shortly."""
    check = f"port.{name}"
    subject = f"{ip}:{port}"
    if port == 0:
        return ok(check, "any free port", subject=subject)
    try:
        check_tcp(ip, port, name)
    except UnavailableError:
        return judge_holder(check, name, subject, holder_of(port), daemon_pid)
    except OdonataError as error:
        detail, fix = split_fix(error.detail)
        return failure(check, detail, fix, subject=subject)
    return ok(check, f"port {port} on {ip} is free", subject=subject)


def judge_holder(
    check: str, name: str, subject: str, holder: Holder | None, daemon_pid: int | None
) -> Finding:
    """What a port in use means; `holder` None: of other users' processes only root sees it."""
    if holder is not None and holder.pid == daemon_pid:
        return ok(check, f"the running daemon (pid {holder.pid}) listens there", subject=subject)
    fix = f"stop that one, or choose another {name}"
    if holder is not None:
        who = f"{holder.name} (pid {holder.pid})"
        return failure(check, f"{who} listens on {subject}", fix, subject=subject)
    if daemon_pid is not None and Path(f"/proc/{daemon_pid}").exists():
        detail = f"somebody listens on {subject}: the daemon (pid {daemon_pid}), or another"
        look = "ask as the user that runs the daemon: only that one sees whose port it is"
        return warning(check, detail, look, subject=subject)
    return failure(check, f"another process listens on {subject}", fix, subject=subject)


def running_daemon(folder: Path) -> int | None:
    """The process that says it uses the data folder, or did when it last ran."""
    with suppress(OSError, ValueError):
        return int(Layout(folder).lock.read_text(encoding="ascii", errors="replace"))
    return None


async def check_socket(path: Path) -> Finding:
    """Whether a daemon answers at the socket where `odonata get` will ask."""
    check, subject = "socket", str(path)
    found = _no_socket(check, path)
    if found is not None:
        return found
    try:
        if await is_serving(f"unix:{path}"):
            return ok(check, "a daemon answers", subject=subject)
        detail = "the daemon there is starting or ending"
    except grpc.aio.AioRpcError as error:
        if "refused" in (error.details() or "").lower():
            left_over = "a socket without a daemon is left over"
            return warning(check, left_over, _start(), subject=subject)
        detail = f"what is there does not answer ({error.code().name.lower()})"
    fix = "look at the daemon's log, and start it anew if it hangs"
    return failure(check, detail, fix, subject=subject)


def _start() -> str:
    return f"start it with `{command('odonata')} daemon`"


def _no_socket(check: str, path: Path) -> Finding | None:
    subject = str(path)
    try:
        check_endpoint(path)
    except CallerError as error:
        fix = "move it away, or set another download.server.socketPath"
        return failure(check, split_fix(error.detail)[0], fix, subject=subject)
    except UnavailableError as error:
        if not path.exists():
            missing = "no daemon is running: no socket is there"
            return warning(check, missing, _start(), subject=subject)
        detail, fix = split_fix(error.detail)
        return failure(check, detail, fix, subject=subject)
    return None


async def is_serving(target: str) -> bool:
    """What the health service of `target` says of all of it. Raises AioRpcError."""
    async with open_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service="")
        answer = await health_stub(channel).Check(request, timeout=HEALTH_TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def check_own_address(settings: DaemonSettings, schedulers: Sequence[str]) -> Finding:
    """Whether others can reach the address that this host tells them. May ask the DNS."""
    check = "host.ip"
    ip = settings.host.ip or find_ip(schedulers)
    fix = "set host.ip (--ip) to the address that other hosts reach this one at"
    if _is_loopback(ip):
        away = [name for name in schedulers if not _is_here(name)]
        if away:
            detail = f"others are told {ip}, which is loopback, and {away[0]} is another machine"
            return failure(check, detail, fix, subject=ip)
        return ok(check, f"{ip}: good for daemons of this machine alone", subject=ip)
    if settings.host.ip is not None and not _is_own(ip):
        detail = f"{ip} is no address of this machine: right only if it is forwarded here"
        return warning(check, detail, fix, subject=ip)
    return ok(check, f"others are told {ip}", subject=ip)


def _is_here(name: str) -> bool:
    """Whether `host:port` is this machine's loopback, or nobody's name (another check's affair)."""
    host = name.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(_is_loopback(str(entry[4][0])) for entry in found)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def _is_own(ip: str) -> bool:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def check_proxy_variables(settings: DaemonSettings, environ: Mapping[str, str]) -> Finding:
    """Whether a variable sends this host's requests to the daemon's own proxy.

    Right for the tools of the host; wrong in the environment of the daemon itself, where whatever
    heeds it would ask itself.
    """
    check = "environment.proxy"
    own = settings.proxy.server
    for name, value in sorted(environ.items()):
        if name.lower() not in _PROXY_VARIABLES or not value:
            continue
        url = urlsplit(value if "://" in value else f"http://{value}")
        try:
            host, port = url.hostname or "", url.port
        except ValueError:
            shown = redact_text(value)
            return warning(check, f"{name}={shown} is no URL", f"correct {name}", subject=name)
        names = {own.ip, settings.host.ip, settings.host.hostname, socket.gethostname()}
        if port == own.port and (_is_loopback(host) or host in names):
            return warning(
                check,
                f"{name} names this daemon's own proxy: what heeds it in the daemon asks itself",
                f"unset {name} for the daemon's service; tools of this host may keep it",
                subject=name,
            )
    return ok(check, "no variable names the daemon's own proxy")
