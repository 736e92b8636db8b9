"""What `odonata task` asks: the daemon of this host by its socket, and every host of the swarm.

Calls and what their answers mean; names become ids in `task_name`, tables are `task_table`'s. The
other hosts are those that a scheduler lists; each is asked by the rpcs that schedulers and peers
use anyway, some at a time, and none can hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2

from odonata.client.endpoint import check_endpoint, explain
from odonata.errors import CallerError, NotFoundError, OdonataError
from odonata.grpc_client import open_channel, target_of
from odonata.grpc_status import error_of
from odonata.grpc_stub import download_stub, scheduler_stub, upload_stub
from odonata.piece import piece_count
from odonata.wire.dragonfly import LocalTask, content_length_from_wire, local_task_from_wire
from odonata.wire.message import Value

CALL_TIMEOUT_S: Final = 10.0
"""For one answer of a daemon or a scheduler: Dragonfly's clients wait as long."""
HOST_TIMEOUT_S: Final = 5.0
"""For one host among many: it answers within milliseconds, or is gone."""
HOSTS_AT_ONCE: Final = 32
"""Calls under way to other hosts; a thousand hosts of which all are dead take 2.6 minutes."""

_T = TypeVar("_T")


class TaskFacts(Value, frozen=True, kw_only=True):
    """A task on one disk. Bytes; Unix seconds; None: not known (of a stock daemon, or not yet)."""

    id: str
    url: str
    content_length: int | None
    piece_length: int | None
    held_count: int | None
    piece_count: int | None
    is_finished: bool
    created_at_s: float
    used_at_s: float


class SwarmFacts(Value, frozen=True, kw_only=True):
    """What the task's scheduler knows of it: `peer_count` downloads, and if one can give it.

    `content_length` in bytes, None: not known yet.
    """

    state: str
    content_length: int | None
    peer_count: int
    has_available_peer: bool


class Problem(Value, frozen=True, kw_only=True):
    """An error that does not end the command, by its stable code."""

    code: str
    detail: str


class HostTask(Value, frozen=True, kw_only=True):
    """What one other host said: `task` if it holds any of it, `problem` if it did not answer."""

    host_id: str
    address: str
    task: TaskFacts | None = None
    problem: Problem | None = None


class HostRemoval(Value, frozen=True, kw_only=True):
    """What became of the task at one host: removed, absent, or failed with `problem`."""

    host_id: str
    address: str
    outcome: str
    problem: Problem | None = None


class Standing(Value, frozen=True, kw_only=True):
    """The answer of `stat`. `local` None: not on this host. `hosts` None: they were not asked."""

    id: str
    local: TaskFacts | None
    swarm: SwarmFacts | None
    swarm_problem: Problem | None
    hosts: tuple[HostTask, ...] | None = None


def facts_of(task: LocalTask) -> TaskFacts:
    """The facts that people ask for."""
    length, piece_length = task.content_length, task.piece_length
    known = length is not None and piece_length
    return TaskFacts(
        id=task.task_id,
        url=task.url,
        content_length=length,
        piece_length=piece_length,
        held_count=task.held_count,
        piece_count=piece_count(length or 0, piece_length or 1) if known else None,
        is_finished=task.finished_at_s is not None,
        created_at_s=task.created_at_s,
        used_at_s=task.updated_at_s,
    )


# --- this host ------------------------------------------------------------------------------------


async def _ask(endpoint: Path, rpc: str, request: Any) -> Any:
    check_endpoint(endpoint)
    async with open_channel(f"unix:{endpoint}") as channel:
        try:
            return await getattr(download_stub(channel), rpc)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as failure:
            raise explain(failure, endpoint) from failure


async def list_tasks(endpoint: Path) -> tuple[TaskFacts, ...]:
    """All tasks on this disk, those used last first. Raises OdonataError."""
    answer = await _ask(endpoint, "ListLocalTasks", dfdaemon_pb2.ListLocalTasksRequest())
    tasks = [facts_of(local_task_from_wire(task)) for task in answer.tasks]
    return tuple(sorted(tasks, key=lambda task: (-task.used_at_s, task.id)))


async def stat_task(endpoint: Path, task_id: str) -> Standing:
    """What is here, and what the daemon's scheduler knows. Raises NotFoundError: neither knows it.

    That no scheduler answers is part of the answer.
    """
    local = await _local(endpoint, task_id)
    swarm, problem = None, None
    try:
        told = await _ask(endpoint, "StatTask", dfdaemon_pb2.StatTaskRequest(task_id=task_id))
        swarm = _swarm_facts(told)
    except OdonataError as error:
        if isinstance(error, NotFoundError) and local is None:
            raise NotFoundError(
                f"task {task_id} is neither on this host nor known to its scheduler"
            ) from None
        problem = Problem(code=error.code, detail=error.detail)
    return Standing(id=task_id, local=local, swarm=swarm, swarm_problem=problem)


async def _local(endpoint: Path, task_id: str) -> TaskFacts | None:
    request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
    try:
        return facts_of(local_task_from_wire(await _ask(endpoint, "StatLocalTask", request)))
    except NotFoundError:
        return None


def _swarm_facts(task: common_pb2.Task) -> SwarmFacts:
    length = content_length_from_wire(task.content_length, task.piece_count)
    return SwarmFacts(
        state=task.state,
        content_length=length,
        peer_count=task.peer_count,
        has_available_peer=task.has_available_peer,
    )


async def remove_task(endpoint: Path, task_id: str) -> bool:
    """Off this disk, and its scheduler is told; whether it was here. Raises OdonataError."""
    try:
        await _ask(endpoint, "DeleteTask", dfdaemon_pb2.DeleteTaskRequest(task_id=task_id))
    except NotFoundError:
        return False
    return True


# --- every host -----------------------------------------------------------------------------------


async def list_hosts(schedulers: Sequence[str]) -> tuple[common_pb2.Host, ...]:
    """The hosts that any of `schedulers` (host:port) knows, by id. Raises its OdonataError."""
    if not schedulers:
        raise CallerError(
            "no scheduler is known here: name one with --scheduler HOST:PORT, or the daemon's "
            "settings with --config"
        )
    found: dict[str, common_pb2.Host] = {}
    for scheduler in schedulers:
        async with open_channel(scheduler) as channel:
            try:
                answer = await scheduler_stub(channel).ListHosts(
                    scheduler_pb2.ListHostsRequest(), timeout=CALL_TIMEOUT_S
                )
            except grpc.aio.AioRpcError as failure:
                raise error_of(failure, f"scheduler {scheduler}") from failure
        found |= {host.id: host for host in answer.hosts}
    return tuple(found[name] for name in sorted(found))


async def stat_everywhere(schedulers: Sequence[str], task_id: str) -> tuple[HostTask, ...]:
    """What each host holds of it; those that hold nothing are left out. Raises OdonataError."""
    request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)

    async def ask(host: common_pb2.Host) -> HostTask | None:
        address = target_of(host.ip, host.port)
        try:
            answer = await _ask_host(address, "StatLocalTask", request)
        except NotFoundError:
            return None
        except OdonataError as error:
            problem = Problem(code=error.code, detail=error.detail)
            return HostTask(host_id=host.id, address=address, problem=problem)
        facts = facts_of(local_task_from_wire(answer))
        return HostTask(host_id=host.id, address=address, task=facts)

    told = await _of_each(await list_hosts(schedulers), ask)
    return tuple(one for one in told if one is not None)


async def remove_everywhere(schedulers: Sequence[str], task_id: str) -> tuple[HostRemoval, ...]:
    """Off the disk of every host; what became of it at each. Raises OdonataError."""
    request = dfdaemon_pb2.DeleteTaskRequest(task_id=task_id)

    async def ask(host: common_pb2.Host) -> HostRemoval:
        address = target_of(host.ip, host.port)
        outcome, problem = "removed", None
        try:
            await _ask_host(address, "DeleteTask", request)
        except NotFoundError:
            outcome = "absent"
        except OdonataError as error:
            outcome, problem = "failed", Problem(code=error.code, detail=error.detail)
        return HostRemoval(host_id=host.id, address=address, outcome=outcome, problem=problem)

    return await _of_each(await list_hosts(schedulers), ask)


async def _ask_host(address: str, rpc: str, request: Any) -> Any:
    async with open_channel(address) as channel:
        try:
            return await getattr(upload_stub(channel), rpc)(request, timeout=HOST_TIMEOUT_S)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, f"host {address}") from failure


async def _of_each(
    hosts: Sequence[common_pb2.Host], ask: Callable[[common_pb2.Host], Awaitable[_T]]
) -> tuple[_T, ...]:
    free = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def in_turn(host: common_pb2.Host) -> _T:
        async with free:
            return await ask(host)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(in_turn(host)) for host in hosts]
    return tuple(one.result() for one in asked)
