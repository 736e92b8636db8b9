"""The scheduler is killed while many download, and comes back, or its neighbour takes over.

Real daemons as processes. The scheduler that takes over runs in this process, so that the test can
see what it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import (
    MIB,
    NO_TELEMETRY,
    PATIENCE_S,
    Process,
    daemon_arguments,
    get,
    process,
)
from support.eventually import eventually
from support.origin import Manners, Origin

from odonata.ids import url_task_id
from odonata.ring import Address, SchedulerRing
from scheduler.core.lifecycle import PeerState
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import SchedulerSettings, ServerSettings

KNOWN_AGAIN_S = 15.0
"""Peers reconnect within 5 s of a restart, and 10 s later everybody is known again."""
FAILOVER_S = 10.0
LONG = pytest.mark.long
"""Half a minute each: those that show most in every run, the others on request."""

TASKS = 13
PEERS = 4
SIZE = 12 * MIB
"""Three pieces: what was lost can be told from what was not."""
RATE_BYTES_PER_S = 2.0 * MIB
"""Of the origin, for each task: downloads take 6 s, and there is a middle."""


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@asynccontextmanager
async def swarm(
    folder: Path, addrs: Sequence[str], peers: int = PEERS
) -> AsyncGenerator[list[Process]]:
    """A seed and some peers, each a process; the seed first."""
    async with AsyncExitStack() as stack:
        starts = [
            process(
                *daemon_arguments(
                    folder,
                    2 + number,
                    seedPeer__enable=str(number == 0).lower(),
                    scheduler__addrs=",".join(addrs),
                )
            )
            for number in range(1 + peers)
        ]
        yield list(await asyncio.gather(*(stack.enter_async_context(one) for one in starts)))


@asynccontextmanager
async def scheduler_at(port: int) -> AsyncGenerator[SchedulerApp]:
    server = ServerSettings(listen_ip="127.0.0.1", port=port)
    async with SchedulerApp(SchedulerSettings(server=server, telemetry=NO_TELEMETRY)) as app:
        yield app


def scheduler_process(port: int = 0) -> AbstractAsyncContextManager[Process]:
    return process("scheduler", "--listen-ip=127.0.0.1", f"--port={port}")


def holders(app: SchedulerApp) -> int:
    """Peers that this scheduler knows to hold their task whole, or to have bytes of it."""
    return sum(
        peer.state is PeerState.SUCCEEDED or len(peer.pieces) > 0
        for peer in app.core.state.peers.values()
    )


class Load:
    """`TASKS` contents, and a download of each by each peer."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self._origin = origin
        self._folder = folder
        self._contents = {f"/{n}": make_content(SIZE, seed=n) for n in range(TASKS)}
        manners = Manners(rate_bytes_per_s=RATE_BYTES_PER_S)
        self.urls = {p: origin.add(p, content, manners) for p, content in self._contents.items()}
        self.gets: list[asyncio.Future[Path]] = []

    def begin(self, peers: Sequence[Process]) -> None:
        self.gets += [
            asyncio.ensure_future(get(peer.socket_path, url, self._output(peer, path)))
            for peer in peers
            for path, url in self.urls.items()
        ]

    def _output(self, peer: Process, path: str) -> Path:
        return self._folder / f"{peer.pid}-{path[1:]}"

    @property
    def egress(self) -> float:
        """How many times all the contents have left the origin."""
        return sum(map(self._origin.sent_bytes, self.urls)) / (TASKS * SIZE)

    async def reach(self, egress: float) -> None:
        """Wait until so much has left the origin; the downloads must not be over by then."""
        await eventually(lambda: self.egress >= egress, PATIENCE_S)
        assert not all(one.done() for one in self.gets), "too late to matter"

    async def end(self) -> None:
        """Every download ends with the right bytes."""
        for path in await asyncio.gather(*self.gets):
            name = f"/{path.name.partition('-')[2]}"
            assert path.read_bytes() == self._contents[name]


@pytest.mark.parametrize(
    ("killed_at", "back_at"), [(0.001, 0.001), pytest.param(0.25, 0.25, marks=LONG), (0.25, 0.6)]
)
async def test_a_scheduler_killed_in_mid_download_is_back_and_the_origin_hardly_notices(
    tmp_path: Path, killed_at: float, back_at: float
) -> None:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin())
        load = Load(origin, tmp_path)
        victim = await stack.enter_async_context(scheduler_process())
        _, *peers = await stack.enter_async_context(swarm(tmp_path, [victim.address]))
        load.begin(peers)
        await load.reach(killed_at)
        await victim.kill()
        await load.reach(back_at)
        app = await stack.enter_async_context(scheduler_at(port_of(victim.address)))
        async with asyncio.timeout(KNOWN_AGAIN_S):
            await eventually(lambda: len(app.core.list_hosts()) == 1 + PEERS, PATIENCE_S)
            if killed_at >= 0.1:  # else nobody has held anything yet
                await eventually(lambda: holders(app) >= TASKS * (1 + PEERS), PATIENCE_S)
        await load.end()
        assert load.egress < 1.02


def hot_path(owner: Address, others: Sequence[Address], origin: Origin) -> str:
    """A path whose task belongs to `owner`."""
    ring = SchedulerRing([owner, *others])
    paths = (f"/hot-{number}" for number in range(1000))
    return next(p for p in paths if ring.owner(url_task_id(origin.url(p))) == owner)


def hosts_on(app: SchedulerApp, task_id: str) -> set[str]:
    """Hosts that have a peer on the task here."""
    task = app.core.state.tasks.get(task_id)
    return set() if task is None else {peer.host.id for peer in task.peers.values()}


@pytest.mark.parametrize("others", [pytest.param(1, marks=LONG), 2])
async def test_children_of_a_scheduler_that_dies_meet_again_at_the_next_on_the_ring(
    tmp_path: Path, others: int
) -> None:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin())
        victim = await stack.enter_async_context(scheduler_process())
        apps = [await stack.enter_async_context(scheduler_at(0)) for _ in range(others)]
        targets = [victim.address, *(app.address for app in apps)]
        owner, *rest = (Address(ip="127.0.0.1", port=port_of(one)) for one in targets)
        path = hot_path(owner, rest, origin)
        content = make_content(20 * MIB)
        url = origin.add(path, content, Manners(rate_bytes_per_s=2 * MIB))
        task_id = url_task_id(url)
        heir = apps[rest.index(SchedulerRing(rest).owner(task_id) or owner)]
        addrs = [str(one) for one in (owner, *rest)]
        _, *peers = await stack.enter_async_context(swarm(tmp_path, addrs))
        *early, late = peers
        gets = [
            asyncio.ensure_future(get(one.socket_path, url, tmp_path / f"out{one.pid}"))
            for one in early
        ]
        await eventually(lambda: origin.copies(path) > 0.25, PATIENCE_S)
        assert all(hosts_on(app, task_id) == set() for app in apps)
        await victim.kill()
        await eventually(lambda: len(hosts_on(heir, task_id)) == PEERS, FAILOVER_S)
        gets.append(asyncio.ensure_future(get(late.socket_path, url, tmp_path / "late")))
        await eventually(lambda: len(hosts_on(heir, task_id)) == 1 + PEERS, FAILOVER_S)
        for output in await asyncio.gather(*gets):
            assert output.read_bytes() == content
        assert all(hosts_on(app, task_id) == set() for app in apps if app is not heir)
        assert origin.copies(path) < 1.02
        # The first owner is back, and is told who holds the task: newcomers ask it now.
        back = await stack.enter_async_context(scheduler_at(owner.port))
        await eventually(lambda: len(hosts_on(back, task_id)) == 1 + PEERS, KNOWN_AGAIN_S)
