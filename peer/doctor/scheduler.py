"""The services a daemon depends on: schedulers (name, way, health, kind, clock) and the manager."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from odonata.grpc_client import open_channel
from odonata.ring import Address
from odonata.units import format_duration
from odonata.wire.contact import TellTimeRequest, tell_time_stub
from odonata.wire.message import Value
from peer.doctor.finding import Finding, failure, ok, warning
from peer.doctor.network import HEALTH_TIMEOUT_S, is_serving
from peer.doctor.thread import in_thread
from peer.runtime.scheduler_address import addresses_in

CLOCK_WARNING_S: Final = 2.0
"""From here on the times in logs, traces and telemetry of two hosts can't be put in order."""
CLOCK_FAILURE_S: Final = 300.0
"""From here on signed URLs and fresh certificates are refused (Kerberos, S3: 5 to 15 minutes)."""


class Clock(Value, frozen=True, kw_only=True):
    """Another clock against ours, in seconds: so far ahead, give or take `doubt_s`."""

    ahead_s: float
    doubt_s: float


def clock_of(sent_at_s: float, told_s: float, received_at_s: float) -> Clock:
    """How far a clock is ahead that said `told_s` between two moments of ours.

    As NTP has it: it spoke in the middle, give or take half of the time that the question took.
    """
    doubt_s = max(0.0, received_at_s - sent_at_s) / 2
    return Clock(ahead_s=told_s - (sent_at_s + doubt_s), doubt_s=doubt_s)


def judge_clock(clock: Clock, subject: str) -> Finding:
    """Whether two hosts agree on the time well enough; doubt counts for them."""
    check = "scheduler.clock"
    apart_s = max(0.0, abs(clock.ahead_s) - clock.doubt_s)
    direction = "ahead of" if clock.ahead_s > 0 else "behind"
    told = f"its clock is {format_duration(abs(clock.ahead_s))} {direction} this host's"
    fix = "let both hosts keep time by NTP (chrony, systemd-timesyncd; timedatectl shows it)"
    if apart_s >= CLOCK_FAILURE_S:
        return failure(check, told, fix, subject=subject)
    if apart_s >= CLOCK_WARNING_S:
        return warning(check, told, fix, subject=subject)
    within = format_duration(max(apart_s, 0.001))
    return ok(check, f"the clocks agree to within {within}", subject=subject)


async def check_schedulers(
    names: Sequence[str], wall_clock: Callable[[], float]
) -> tuple[Finding, ...]:
    """All that is to be said of the schedulers; `wall_clock` is ours, in Unix seconds."""
    if not names:
        return (
            warning(
                "scheduler.known",
                "no scheduler is named: every download goes to its source",
                "set scheduler.addrs (--scheduler HOST:8002)",
            ),
        )
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(check_scheduler(name, wall_clock)) for name in names]
    return tuple(finding for one in asked for finding in one.result())


async def check_scheduler(name: str, wall_clock: Callable[[], float]) -> tuple[Finding, ...]:
    """Name, way, health, kind and clock of one scheduler (host:port); ends with what fails."""
    addresses = await in_thread(lambda: _resolve(name))
    if not addresses:
        fix = "correct the name, or mend this host's DNS (getent hosts NAME shows what it says)"
        return (failure("scheduler.dns", "its name is not known", fix, subject=name),)
    known = ok("scheduler.dns", ", ".join(map(str, addresses)), subject=name)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_check_address(str(one), wall_clock)) for one in addresses]
    return (known, *(finding for one in asked for finding in one.result()))


def _resolve(name: str) -> list[Address]:
    """The addresses of host:port, as the daemon counts them. In a thread: a DNS may hang."""
    host, _, port = name.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted(addresses_in(found, int(port)), key=str)


async def _check_address(address: str, wall_clock: Callable[[], float]) -> tuple[Finding, ...]:
    check = "scheduler.serving"
    try:
        serves = await is_serving(address)
    except grpc.aio.AioRpcError as error:
        return (_unreachable(address, error),)
    if not serves:
        fix = "wait until it has started, or look at its log"
        return (failure(check, "it is there, but not serving", fix, subject=address),)
    kind, clock = await _ask_time(address, wall_clock)
    return (ok(check, "it is serving", subject=address), kind, clock)


def _unreachable(address: str, error: grpc.aio.AioRpcError) -> Finding:
    detail = error.details() or ""
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return failure(
            "scheduler.serving",
            "a gRPC server that is no scheduler answers there",
            "correct scheduler.addrs: a scheduler's port is 8002 unless it is set otherwise",
            subject=address,
        )
    told = "nobody answers" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else detail
    return failure(
        "scheduler.serving",
        f"it can't be reached: {told}",
        "start it, or let the firewall pass its port; scheduler.addrs names it",
        subject=address,
    )


async def _ask_time(address: str, wall_clock: Callable[[], float]) -> tuple[Finding, Finding]:
    """Only schedulers of ours tell the time, which is how they are known, too."""
    async with open_channel(address) as channel:
        sent_at_s = wall_clock()
        try:
            answer = await tell_time_stub(channel)(TellTimeRequest(), timeout=HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                told = "Dragonfly's or an older one: it says nothing of what only ours can do"
            else:
                told = f"not known: {error.details() or error.code().name.lower()}"
            return (
                ok("scheduler.kind", told, subject=address),
                ok("scheduler.clock", "it does not tell its time", subject=address),
            )
        received_at_s = wall_clock()
    clock = clock_of(sent_at_s, answer.unix_s, received_at_s)
    return ok("scheduler.kind", "Odonata's", subject=address), judge_clock(clock, address)


async def check_manager(addr: str | None) -> tuple[Finding, ...]:
    """Whether something listens where the manager is said to be."""
    if addr is None:
        return ()
    check = "manager"
    url = urlsplit(addr if "://" in addr else f"//{addr}")
    fix = "start it, let the firewall pass its port, or correct manager.addr"
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if not host or not port:
        correct = "write manager.addr as host:port"
        return (failure(check, f"{addr!r} names no host and port", correct, subject=addr),)
    addresses = await in_thread(lambda: _resolve(f"{host}:{port}"))
    if not addresses:
        return (failure(check, "its name is not known", fix, subject=addr),)
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            _, writer = await asyncio.open_connection(addresses[0].ip, port)
        writer.close()
    except TimeoutError:
        return (failure(check, "nobody answers", fix, subject=addr),)
    except OSError as error:
        reason = error.strerror or str(error)
        return (failure(check, f"it can't be reached: {reason}", fix, subject=addr),)
    return (ok(check, "it can be reached", subject=addr),)
