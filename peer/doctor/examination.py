"""Runs the checks side by side, each for a bounded time, and puts what they find in order.

Which checks there are and what they are given is here; what each looks at is theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from odonata.cli import SettingsOptions
from odonata.errors import SettingsError
from odonata.settings.loading import load
from peer.doctor.certificate import check_certificate
from peer.doctor.finding import Finding, failure, ok, split_fix, warning
from peer.doctor.network import (
    check_own_address,
    check_port,
    check_proxy_variables,
    check_socket,
    running_daemon,
)
from peer.doctor.pull import PullWish, check_pull
from peer.doctor.scheduler import check_manager, check_schedulers
from peer.doctor.storage import check_storage
from peer.doctor.system import (
    judge_open_files,
    judge_waiting_connections,
    open_files_limit,
    waiting_connections_limit,
)
from peer.doctor.thread import in_thread
from peer.doctor.tls import check_piece_tls, check_source_authorities
from peer.settings import DaemonSettings, Dynconfig

CHECK_TIMEOUT_S: Final = 10.0
"""For one check. A DNS server that is gone takes glibc 10 s (two tries of 5 s)."""

Findings: TypeAlias = tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is not the daemon's settings: this process's environment, clock and patience."""

    environ: Mapping[str, str]
    wall_clock: Callable[[], float] = time.time
    check_timeout_s: float = CHECK_TIMEOUT_S


async def examine(
    options: SettingsOptions, surroundings: Surroundings, pull: PullWish | None = None
) -> Findings:
    """All findings. Settings that can't be read are one of them, and end the rest early.

    `pull`: an image to pull, after everything else; None: none.
    """
    limits = (
        judge_open_files(open_files_limit()),
        judge_waiting_connections(waiting_connections_limit()),
    )
    settings, found = _read(options)
    if settings is None:
        return (*found, *limits)
    schedulers, more = _schedulers(settings)
    found += more
    checks = _checks(settings, schedulers, surroundings)
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(_bounded(name, check, surroundings.check_timeout_s))
            for name, check in checks.items()
        ]
    pulled = () if pull is None else await check_pull(pull, settings.proxy.server)
    return (*found, *(finding for one in running for finding in one.result()), *limits, *pulled)


def _read(options: SettingsOptions) -> tuple[DaemonSettings | None, Findings]:
    """The settings, and what is to be said about them."""
    check = "settings"
    subject = None if options.config is None else str(options.config)
    try:
        loaded = options.read(DaemonSettings)
    except SettingsError as error:
        fix = "correct it there; `odonata config daemon` shows what would count"
        return None, tuple(
            failure(check, line, fix, subject=subject) for line in error.detail.splitlines()
        )
    fix = "take it out, if you count on it"
    notes = tuple(warning(check, text, fix, subject=subject) for text in loaded.warnings)
    return loaded.settings, notes or (ok(check, "they are read and understood", subject=subject),)


def _schedulers(settings: DaemonSettings) -> tuple[tuple[str, ...], Findings]:
    """host:port of each, as the daemon finds them now."""
    file = settings.dynconfig.file
    if file is None:
        return settings.scheduler.addrs, ()
    try:
        return load(Dynconfig, file=file).settings.addresses() or settings.scheduler.addrs, ()
    except SettingsError as error:
        detail, fix = split_fix(error.detail.replace("\n", " "))
        return (), (failure("settings.dynconfig", detail, fix, subject=str(file)),)


def _checks(
    settings: DaemonSettings, schedulers: Sequence[str], surroundings: Surroundings
) -> dict[str, Callable[[], Awaitable[Findings]]]:
    """By the name that a check has if it does not end."""
    pid = running_daemon(settings.storage.dir)
    pieces, proxy = settings.storage.server, settings.proxy.server
    doors = (
        ("upload.server.port", settings.upload.server.ip, settings.upload.server.port),
        ("storage.server.tcpPort", pieces.ip, pieces.tcp_port),
        ("proxy.server.port", proxy.ip, proxy.port),
    )

    def blocking(work: Callable[[], Findings]) -> Callable[[], Awaitable[Findings]]:
        return lambda: in_thread(work)

    async def look_at_socket() -> Findings:
        return (await check_socket(settings.download.server.socket_path),)

    return {
        "port": blocking(lambda: tuple(check_port(*door, pid) for door in doors)),
        "socket": look_at_socket,
        "storage": blocking(lambda: check_storage(settings.storage.dir, settings.gc.policy)),
        "scheduler": lambda: check_schedulers(schedulers, surroundings.wall_clock),
        "manager": lambda: check_manager(settings.manager.addr),
        "host.ip": blocking(lambda: (check_own_address(settings, schedulers),)),
        "proxy.certificate": blocking(
            lambda: check_certificate(proxy.ca_cert, proxy.ca_key, surroundings.wall_clock())
        ),
        "storage.certificate": blocking(
            lambda: check_piece_tls(pieces.tls, surroundings.wall_clock())
        ),
        "backend.authorities": blocking(
            lambda: check_source_authorities(settings.backend.ca_cert, surroundings.wall_clock())
        ),
        "environment.proxy": blocking(
            lambda: (check_proxy_variables(settings, surroundings.environ),)
        ),
    }


async def _bounded(
    name: str, check: Callable[[], Awaitable[Findings]], timeout_s: float
) -> Findings:
    try:
        async with asyncio.timeout(timeout_s):
            return await check()
    except TimeoutError:
        fix = "look at what it asks: a DNS, a network file system or a host that does not answer"
        return (failure(name, f"the check did not end within {timeout_s:g} s", fix),)
