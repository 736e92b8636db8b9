"""Who is gone is noticed within seconds: killed, vanished without a word, or only suspended.

Daemons are processes; a machine that vanishes is a network namespace whose packets are lost.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from support.content import make_content
from support.daemon import (
    MIB,
    NO_TELEMETRY,
    PATIENCE_S,
    Process,
    daemon,
    daemon_arguments,
    get,
    process,
)
from support.eventually import eventually
from support.namespace import Namespace, namespace
from support.origin import Origin

from odonata.ids import url_task_id
from odonata.wire.message import Download
from scheduler.core.effect import TriggerSeed
from scheduler.core.event import SeedFailed, SeedFinished
from scheduler.core.state import SchedulerState
from scheduler.runtime.app import SchedulerApp
from scheduler.runtime.seed_trigger import SeedTrigger
from scheduler.settings import SchedulerSettings, ServerSettings

OUT_OF_OFFER_S = 5.0
"""After its end nobody is sent to a host any more."""


@asynccontextmanager
async def open_scheduler() -> AsyncGenerator[SchedulerApp]:
    """A scheduler that other machines reach, too."""
    server = ServerSettings(listen_ip="0.0.0.0", port=0)
    async with SchedulerApp(SchedulerSettings(server=server, telemetry=NO_TELEMETRY)) as app:
        yield app


def is_lost(state: SchedulerState, host_id: str) -> bool:
    return state.hosts[host_id].is_lost


def offers(state: SchedulerState, task_id: str) -> set[str]:
    """Hosts whose peers are offered."""
    return {peer.host.id for peer in state.tasks[task_id].useful.values()}


@asynccontextmanager
async def machine(
    folder: Path, space: Namespace, port: int, **more: str
) -> AsyncGenerator[Process]:
    """A daemon on a machine of its own, whose scheduler is here at `port`."""
    own = {"host__ip": space.ip, "upload__server__ip": space.ip, "storage__server__ip": space.ip}
    scheduler = f"{space.host_ip}:{port}"
    arguments = daemon_arguments(folder, 9, scheduler__addrs=scheduler, **own, **more)
    async with process(*arguments, within=space.enter) as one:
        yield one


async def test_a_holder_that_is_killed_is_offered_no_more(tmp_path: Path) -> None:
    async with Origin() as origin, open_scheduler() as app:
        url = origin.add("/blob", make_content(MIB))
        state, task_id = app.core.state, url_task_id(url)
        arguments = daemon_arguments(tmp_path, 2, scheduler__addrs=f"127.0.0.1:{app.port}")
        async with process(*arguments) as victim:
            await get(victim.socket_path, url, tmp_path / "out")
            await eventually(lambda: offers(state, task_id) == {"127.0.0.2-host2"})
            await eventually(lambda: "127.0.0.2-host2" in state.contacts)
            await victim.kill()
            await eventually(lambda: offers(state, task_id) == set(), OUT_OF_OFFER_S)
        assert len(state.tasks[task_id].peers) == 1, "and not forgotten"
        async with process(*arguments):
            await eventually(lambda: offers(state, task_id) == {"127.0.0.2-host2"})
        assert origin.copies("/blob") == 1


async def test_a_holder_whose_machine_vanishes_is_offered_no_more_until_it_returns(
    tmp_path: Path,
) -> None:
    with namespace() as space:
        async with Origin(ip=space.host_ip) as origin, open_scheduler() as app:
            url = origin.add("/blob", make_content(MIB))
            state, task_id = app.core.state, url_task_id(url)
            async with machine(tmp_path, space, app.port) as victim:
                host_id = f"{space.ip}-host9"
                await get(victim.socket_path, url, tmp_path / "out")
                await eventually(lambda: offers(state, task_id) == {host_id})
                await eventually(lambda: host_id in state.contacts)
                space.vanish()
                await eventually(lambda: offers(state, task_id) == set(), OUT_OF_OFFER_S)
                space.return_()
                await eventually(lambda: offers(state, task_id) == {host_id}, PATIENCE_S)


async def test_children_of_a_machine_that_vanishes_are_given_others(tmp_path: Path) -> None:
    content = make_content(40 * MIB)
    with namespace() as space:
        async with Origin(ip=space.host_ip) as origin, open_scheduler() as app:
            url = origin.add("/blob", content)
            addrs = [f"{space.host_ip}:{app.port}"]
            async with (
                machine(tmp_path, space, app.port, upload__bandwidthLimit="8MiB") as victim,
                daemon(tmp_path, 3, scheduler__addrs=addrs, host__ip=space.host_ip,
                       upload__server__ip=space.host_ip,
                       storage__server__ip=space.host_ip) as child,
            ):  # fmt: skip
                await get(victim.socket_path, url, tmp_path / "first")
                fetching = asyncio.ensure_future(get(child, url, tmp_path / "second"))
                task = app.core.state.tasks[url_task_id(url)]
                await eventually(
                    lambda: any(0 < len(peer.pieces) < 9 for peer in task.peers.values())
                )
                space.vanish()
                await eventually(lambda: is_lost(app.core.state, f"{space.ip}-host9"), 5.0)
                output = await fetching
                assert output.read_bytes() == content


async def test_a_scheduler_that_was_suspended_goes_on_with_everybody(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        process("scheduler", "--listen-ip=127.0.0.1", "--port=0") as scheduler,
    ):
        url = origin.add("/blob", make_content(9 * MIB))
        arguments = daemon_arguments(tmp_path, 2, scheduler__addrs=scheduler.address)
        async with process(*arguments) as holder:
            await get(holder.socket_path, url, tmp_path / "one")
            scheduler.signal(signal.SIGSTOP)
            await holder.until("scheduler_unreachable")
            scheduler.signal(signal.SIGCONT)
            await holder.until("held_tasks_reported")
            async with daemon(tmp_path, 3, scheduler__addrs=[scheduler.address]) as child:
                await get(child, url, tmp_path / "two")
        assert origin.copies("/blob") == 1


async def test_a_trigger_of_a_dead_or_vanished_seed_fails_within_seconds(tmp_path: Path) -> None:
    trigger = SeedTrigger(timeout_s=PATIENCE_S)
    with namespace() as space:
        async with Origin(ip=space.host_ip) as origin, open_scheduler() as app:

            async def ask(path: str) -> tuple[SeedFinished | SeedFailed, float]:
                (host,) = (one.host for one in app.core.list_hosts())
                download = Download(url=origin.url(path), need_back_to_source=True)
                began_s = time.monotonic()
                outcome = await trigger.run(TriggerSeed(task_id="t", host=host, download=download))
                return outcome, time.monotonic() - began_s

            origin.add("/one", make_content(MIB))
            async with machine(tmp_path, space, app.port, seedPeer__enable="true") as seed:
                await eventually(lambda: len(app.core.list_hosts()) == 1)
                assert isinstance((await ask("/one"))[0], SeedFinished)
                space.vanish()
                connected, took_s = await ask("/two")  # over the connection that there was
                assert isinstance(connected, SeedFailed)
                assert connected.unreachable
                assert took_s < 8.0
                anew, took_s = await ask("/three")
                assert isinstance(anew, SeedFailed)
                assert anew.unreachable
                assert took_s < 5.0
                space.return_()
                await seed.kill()
            dead, took_s = await ask("/four")
            assert isinstance(dead, SeedFailed)
            assert dead.unreachable
            assert took_s < 5.0
    await trigger.close()
