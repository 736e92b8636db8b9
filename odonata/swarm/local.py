"""A running local swarm: the processes of a plan, ready to be used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from dragonfly_api import scheduler_pb2
from grpc_health.v1 import health_pb2

from odonata.errors import UnavailableError
from odonata.grpc_client import open_channel, target_of
from odonata.grpc_stub import health_stub, scheduler_stub
from odonata.swarm.plan import IP, Member, SwarmPlan
from odonata.swarm.process import OnLine, Processes, died_early

READY_TIMEOUT_S = 60.0  # nine Python processes on two busy cores take about 5 s
ANNOUNCE_POLL_S = 0.1  # ListHosts has no push; this only shortens the start


@asynccontextmanager
async def running(plan: SwarmPlan, on_line: OnLine) -> AsyncGenerator[Processes]:
    """Start everybody, wait until the scheduler knows all daemons, stop all at the end.

    Errors: UnavailableError with the last words of a process that died, or that took too long.
    """
    async with Processes(on_line) as processes:
        for member in plan.members:
            await processes.start(member.name, words_of(member))
        ready = asyncio.ensure_future(_ready(plan))
        ended = asyncio.ensure_future(processes.first_end())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise died_early(ended.result())
            ready.result()
        finally:
            ready.cancel()
            ended.cancel()
        yield processes


def words_of(member: Member) -> list[str]:
    """The command line of a member."""
    program = Path(sys.executable).with_name("odonata")
    return [str(program), member.command, "--config", str(member.config)]


async def _ready(plan: SwarmPlan) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            targets = [target_of(IP, plan.scheduler.port)]
            targets += [f"unix:{member.socket}" for member in plan.daemons]
            await asyncio.gather(*(_serving(target) for target in targets))
            await _announced(targets[0], len(plan.daemons))
    except TimeoutError:
        raise UnavailableError(
            f"the swarm was not ready after {READY_TIMEOUT_S:.0f} s; is the machine busy?"
        ) from None


async def _serving(target: str) -> None:
    async with open_channel(target) as channel:
        request = health_pb2.HealthCheckRequest()
        await health_stub(channel).Check(request, wait_for_ready=True)


async def _announced(scheduler: str, n_hosts: int) -> None:
    """Until the scheduler knows every daemon."""
    async with open_channel(scheduler) as channel:
        stub = scheduler_stub(channel)
        while True:
            try:
                answer = await stub.ListHosts(scheduler_pb2.ListHostsRequest())
            except grpc.aio.AioRpcError as error:
                raise UnavailableError(
                    f"the scheduler does not list hosts: {error.details()}"
                ) from error
            if len(answer.hosts) >= n_hosts:
                return
            await asyncio.sleep(ANNOUNCE_POLL_S)
