"""What a scheduler asks daemons of its own accord, besides triggering seeds: fetch, hold, list.

Three calls of DfdaemonUpload, over the connections that seeds are triggered by. Whom to ask, and
what follows from an answer, is for others to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from dragonfly_api import dfdaemon_pb2

from odonata.errors import CapacityError, NotFoundError, UnavailableError
from odonata.grpc_client import closing_is_unavailable, target_of
from odonata.grpc_status import error_of
from odonata.grpc_stub import upload_stub
from odonata.wire.dragonfly import (
    LocalTask,
    download_request_to_wire,
    local_task_from_wire,
)
from odonata.wire.message import Download, Host
from scheduler.runtime.seed_trigger import SeedTrigger

CALLS_MAX: Final = 500
"""Calls at a time, of all preheats and stats together: a task, an HTTP/2 stream and, where many
hosts are asked, a connection each. What one request asks for by default, and half of the 1024 files
that a process may have open on many systems."""

_BACKSTOP_S = 30.0
"""The call's own deadline comes later than ours: see `seed_trigger`."""


class DaemonCalls:
    """Calls daemons by the connections of `seeds`. Raises OdonataErrors that name the daemon."""

    def __init__(self, seeds: SeedTrigger) -> None:
        self._seeds = seeds
        self._room = asyncio.Semaphore(CALLS_MAX)

    async def fetch(self, host: Host, download: Download, timeout_s: float) -> None:
        """Have `host` fetch `download`, and wait until it has it."""
        who = _name(host)
        request = download_request_to_wire(download)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._room,
                self._seeds.connected(target_of(host.ip, host.port), who) as channel,
            ):
                with _errors(who):
                    call = upload_stub(channel).DownloadTask(
                        request, timeout=timeout_s + _BACKSTOP_S
                    )
                    async for _ in call:
                        pass
        except TimeoutError:
            raise CapacityError(
                f"{who} did not finish within the {timeout_s:.3g} s that were left"
            ) from None

    async def held(self, host: Host, task_id: str, timeout_s: float) -> LocalTask | None:
        """What `host` holds of a task; None if nothing."""
        request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
        try:
            return local_task_from_wire(await self._ask(host, "StatLocalTask", request, timeout_s))
        except NotFoundError:
            return None

    async def entries(
        self, host: Host, request: dfdaemon_pb2.ListTaskEntriesRequest, timeout_s: float
    ) -> list[dfdaemon_pb2.Entry]:
        """What `host` finds in the folder that `request` names."""
        return list((await self._ask(host, "ListTaskEntries", request, timeout_s)).entries)

    async def _ask(self, host: Host, rpc: str, request: Any, timeout_s: float) -> Any:
        who = _name(host)
        try:
            async with (
                self._room,  # whoever waits for it is not late
                asyncio.timeout(timeout_s),
                self._seeds.connected(target_of(host.ip, host.port), who) as channel,
            ):
                with _errors(who):
                    return await getattr(upload_stub(channel), rpc)(
                        request, timeout=timeout_s + _BACKSTOP_S
                    )
        except TimeoutError:
            raise UnavailableError(f"{who} did not answer within {timeout_s:g} s") from None


@contextmanager
def _errors(who: str) -> Generator[None]:
    try:
        with closing_is_unavailable(who):
            yield
    except grpc.aio.AioRpcError as failure:
        raise error_of(failure, who) from failure


def _name(host: Host) -> str:
    kind = "seed" if host.is_seed else "host"
    return f"{kind} {host.id} ({target_of(host.ip, host.port)})"
