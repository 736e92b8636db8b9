"""Whatever fails behind a daemon's proxy, a pull ends right, or with the registry's own error.

A client never takes a wrong body for a right one, nor a part for the whole: what can't be finished
breaks off. Real daemons and schedulers, curl as the client, an origin whose manners are chosen.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.content import make_content
from support.curl import Fetched, fetch
from support.daemon import MIB, daemon, daemon_arguments, process, scheduler, settings
from support.eventually import eventually
from support.forgery import forge
from support.origin import Manners, Origin
from support.small_volume import small_volume

from peer.core.limits import DownloadLimits
from peer.runtime.daemon import Daemon
from peer.runtime.daemon_parts import fsspec_place
from peer.runtime.source import open_sources
from peer.runtime.source_http import HttpOptions

pytestmark = pytest.mark.e2e

CONTENT = make_content(9 * MIB + 5)
CUT = 6 * MIB
SMALL = make_content(MIB, seed=2)


def path_of(content: bytes) -> str:
    """A registry's, for a blob."""
    return f"/v2/library/x/blobs/sha256:{hashlib.sha256(content).hexdigest()}"


PATH = path_of(CONTENT)
PROXY: Any = {"proxy__rules": [{"regex": "blobs/sha256.*"}]}
HURRIED = DownloadLimits(scheduler_patience_s=1.0, beside_unanswered_s=0.5, source_backoff_s=0.01)
"""Downloads that don't wait until whoever is gone could be back."""


@pytest.fixture
async def origin() -> AsyncGenerator[Origin]:
    async with Origin() as origin:
        yield origin


def stored(folder: Path, number: int) -> Path:
    """The one content file of daemon `number`."""
    (path,) = (one for one in (folder / f"data{number}" / "content").rglob("*") if one.is_file())
    return path


def hurried(folder: Path, number: int, **more: Any) -> Daemon:
    """A daemon whose patience with others is short."""
    return Daemon(settings(folder, number, **PROXY, **more), limits=HURRIED)


# --- the scheduler --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
async def test_a_scheduler_that_is_gone(
    how: signal.Signals, origin: Origin, tmp_path: Path
) -> None:
    """It was there when the daemon started; one that hangs still takes connections."""
    url = origin.add(PATH, CONTENT)
    async with (
        process("scheduler", "--listen-ip=127.0.0.1", "--port=0") as victim,
        hurried(tmp_path, 2, scheduler__addrs=[victim.address]) as one,
    ):
        victim.signal(how)
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT)
        assert origin.copies(PATH) == 1


# --- the seed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
async def test_a_seed_that_is_gone(how: signal.Signals, origin: Origin, tmp_path: Path) -> None:
    """Its scheduler does not know yet, and sends everybody there."""
    url = origin.add(PATH, CONTENT)
    async with scheduler() as app:
        seed = daemon_arguments(tmp_path, 2, seedPeer__enable="true", scheduler__addrs=app.address)
        async with (
            process(*seed) as victim,
            hurried(tmp_path, 3, scheduler__addrs=[app.address]) as one,
        ):
            victim.signal(how)
            assert (await fetch(one, url, tmp_path)).is_right(CONTENT)
            assert origin.copies(PATH) == 1


# --- parents --------------------------------------------------------------------------------------


async def holders_with_a_bad_copy(stack: AsyncExitStack, folder: Path, url: str, addr: str) -> None:
    """Daemons 2 (a seed) and 3 hold it all, and then their disks change every piece."""
    for number, more in ((2, {"seedPeer__enable": True}), (3, {})):
        one = await stack.enter_async_context(
            daemon(folder, number, scheduler__addrs=[addr], **PROXY, **more)
        )
        assert (await fetch(one, url, folder)).is_right(CONTENT)


async def test_parents_that_are_all_bad(origin: Origin, tmp_path: Path) -> None:
    """The bytes do not have the CRC that they are sent with."""
    url = origin.add(PATH, CONTENT)
    async with AsyncExitStack() as stack, scheduler() as app:
        await holders_with_a_bad_copy(stack, tmp_path, url, app.address)
        for number in (2, 3):
            flip(stored(tmp_path, number))
        one = await stack.enter_async_context(
            daemon(tmp_path, 4, scheduler__addrs=[app.address], **PROXY)
        )
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT)
        assert origin.copies(PATH) == 2


async def test_parents_that_are_all_bad_and_do_not_know(origin: Origin, tmp_path: Path) -> None:
    """The bytes have the right CRC and are others."""
    url = origin.add(PATH, CONTENT)
    async with AsyncExitStack() as stack, scheduler() as app:
        await holders_with_a_bad_copy(stack, tmp_path, url, app.address)
        for number in (2, 3):
            forge(stored(tmp_path, number), 99, 4 * MIB + 99, 8 * MIB + 99)
        one = await stack.enter_async_context(
            daemon(tmp_path, 4, scheduler__addrs=[app.address], **PROXY)
        )
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT)


async def liar_and_child(
    stack: AsyncExitStack, folder: Path, origin: Origin, content: bytes
) -> Daemon:
    """A daemon of a swarm that has one other, whose disk has changed the blob and not its CRCs.

    Its scheduler has just been started: nobody has told it strong digests.
    """
    url = origin.add(path_of(content), content)
    async with daemon(folder, 3, **PROXY) as liar:
        assert (await fetch(liar, url, folder)).is_right(content)
    forge(stored(folder, 3), len(content) - MIB)
    app = await stack.enter_async_context(scheduler())
    addrs = {"scheduler__addrs": [app.address], **PROXY}
    await stack.enter_async_context(daemon(folder, 3, **addrs))
    child = await stack.enter_async_context(daemon(folder, 4, **addrs))
    await eventually(lambda: app.core.state.tasks)
    return child


async def test_a_parent_that_lies_where_nobody_knows_better(origin: Origin, tmp_path: Path) -> None:
    """The digest of the whole tells at its end: a client that has nothing yet gets it anew."""
    async with AsyncExitStack() as stack:
        child = await liar_and_child(stack, tmp_path, origin, SMALL)
        assert (await fetch(child, origin.url(path_of(SMALL)), tmp_path)).is_right(SMALL)


async def test_a_parent_that_lies_in_the_end(origin: Origin, tmp_path: Path) -> None:
    """A client that has the beginning never gets the last piece; the liar is out."""
    async with AsyncExitStack() as stack:
        child = await liar_and_child(stack, tmp_path, origin, CONTENT)
        assert (await fetch(child, origin.url(PATH), tmp_path)).is_visibly_short(CONTENT)
        assert (await fetch(child, origin.url(PATH), tmp_path)).is_right(CONTENT)


async def test_a_registry_whose_blob_is_another(origin: Origin, tmp_path: Path) -> None:
    """Asked twice, it is still another: nobody gets it."""
    url = origin.add(path_of(SMALL), bytes(len(SMALL)))
    async with daemon(tmp_path, 2, **PROXY) as one:
        fetched = await fetch(one, url, tmp_path)
    assert (fetched.code, fetched.status) == (0, 502)
    assert b"was promised" in fetched.body


def flip(path: Path) -> None:
    """Change one byte of every piece."""
    with path.open("r+b") as file:
        for offset in range(99, path.stat().st_size, 4 * MIB):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))


# --- the origin -----------------------------------------------------------------------------------


async def test_an_origin_that_is_slow(origin: Origin, tmp_path: Path) -> None:
    """Everybody gets it while it comes."""
    url = origin.add(PATH, CONTENT, Manners(rate_bytes_per_s=8 * MIB))
    async with AsyncExitStack() as stack, scheduler() as app:
        peers = [
            await stack.enter_async_context(
                daemon(tmp_path, number, scheduler__addrs=[app.address], **PROXY, **more)
            )
            for number, more in ((2, {"seedPeer__enable": True}), (3, {}), (4, {}))
        ]
        folders = [tmp_path / str(number) for number in range(len(peers))]
        for folder in folders:
            folder.mkdir()
        pulls = zip(peers, folders, strict=True)
        fetched = await asyncio.gather(*(fetch(one, url, folder) for one, folder in pulls))
    assert [one.is_right(CONTENT) for one in fetched] == [True] * 3
    assert origin.copies(PATH) < len(peers), "less than without a swarm"


async def test_an_origin_that_falls_silent(origin: Origin, tmp_path: Path) -> None:
    """For good, in the middle: the daemon gives up, and so does its client."""
    url = origin.add(PATH, CONTENT, Manners(gate=asyncio.Event()))
    given = settings(tmp_path, 2, **PROXY)
    impatient = open_sources(HttpOptions(read_timeout_s=0.5), fsspec_place(given.backend))
    async with Daemon(given, impatient, limits=DownloadLimits(source_backoff_s=0.01)) as one:
        fetched = await fetch(one, url, tmp_path)
    assert fetched.is_visibly_short(CONTENT)
    assert len(fetched.body) >= 4 * MIB, "what had come was passed on"


async def test_an_origin_that_fails(origin: Origin, tmp_path: Path) -> None:
    """The client hears what the registry said, as the registry said it."""
    manners = Manners(status=503, header={"Retry-After": "7", "X-Request-Id": "r1"})
    url = origin.add(PATH, CONTENT, manners)
    async with daemon(tmp_path, 2, **PROXY) as one:
        fetched = await fetch(one, url, tmp_path)
        assert (fetched.code, fetched.status) == (0, 503)
        assert fetched.header["retry-after"] == "7"
        assert fetched.header["x-request-id"] == "r1"
        assert fetched.header["x-dragonfly-error-type"] == "backend"
        origin.add(PATH, CONTENT)
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT), "no failure is remembered"


async def test_an_origin_that_fails_in_the_middle(origin: Origin, tmp_path: Path) -> None:
    """It breaks off and is out of order then; the next pull goes on where this one ended."""
    async with hurried(tmp_path, 2) as one, asyncio.TaskGroup() as group:
        pull = await begin(group, one, origin, tmp_path)
        origin.add(PATH, CONTENT, Manners(status=500))
        pull.gate.set()
        assert (await pull.fetching).is_visibly_short(CONTENT)
        sent = origin.sent_bytes(PATH)
        url = origin.add(PATH, CONTENT)
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT)
        assert origin.sent_bytes(PATH) - sent < len(CONTENT)


class Begun(NamedTuple):
    """A pull in its middle. Once `gate` is set, the origin's connection for it breaks off."""

    fetching: asyncio.Task[Fetched]
    gate: asyncio.Event


async def begin(
    group: asyncio.TaskGroup,
    one: Daemon,
    origin: Origin,
    folder: Path,
    *headers: str,
    **manners: Any,
) -> Begun:
    """Return once some of the body has left the origin."""
    gate = asyncio.Event()
    cut = dict.fromkeys(range(1, 9), CUT)
    url = origin.add(PATH, CONTENT, Manners(gate=gate, cut=cut, **manners))
    fetching = group.create_task(fetch(one, url, folder, *headers))
    await eventually(lambda: origin.sent_bytes(PATH) >= CUT // 2)
    return Begun(fetching, gate)


# --- tokens ---------------------------------------------------------------------------------------

OLD, NEW = "Authorization: Bearer old", "Authorization: Bearer new"


def only(line: str) -> dict[str, Any]:
    """Manners of an origin that answers 401 without this header."""
    name, _, value = line.partition(": ")
    return {"wants_header": (name, value)}


def has_come(origin: Origin, line: str) -> bool:
    """Somebody who shows this has asked, if only for leave."""
    return any(seen.header.get("Authorization") == line.split(": ")[1] for seen in origin.requests)


async def test_a_token_that_ends_in_mid_blob(origin: Origin, tmp_path: Path) -> None:
    """Its user sees that the rest is missing, and gets it with the next token."""
    async with daemon(tmp_path, 2, **PROXY) as one, asyncio.TaskGroup() as group:
        pull = await begin(group, one, origin, tmp_path, OLD, **only(OLD))
        url = origin.add(PATH, CONTENT, Manners(**only(NEW)))
        pull.gate.set()
        assert (await pull.fetching).is_visibly_short(CONTENT)
        sent = origin.sent_bytes(PATH)
        assert (await fetch(one, url, tmp_path, NEW)).is_right(CONTENT)
        assert origin.sent_bytes(PATH) - sent < len(CONTENT), "only what was missing"


async def test_a_token_that_ends_is_its_users_affair_alone(origin: Origin, tmp_path: Path) -> None:
    """Who joined the download last lends it his token; who began it has one that is good."""
    other = tmp_path / "other"
    other.mkdir()
    async with hurried(tmp_path, 2) as one, asyncio.TaskGroup() as group:
        pull = await begin(group, one, origin, tmp_path, NEW)
        joined = group.create_task(fetch(one, origin.url(PATH), other, OLD))
        await eventually(lambda: has_come(origin, OLD))
        origin.add(PATH, CONTENT, Manners(**only(NEW)))
        pull.gate.set()
        assert (await pull.fetching).is_right(CONTENT)
        assert (await joined).is_visibly_short(CONTENT)


async def test_a_seeds_token_that_ends_ends_no_other_pull(origin: Origin, tmp_path: Path) -> None:
    """The seed fetches with the token of who came first, for another peer's user as well."""
    other = tmp_path / "other"
    other.mkdir()
    async with scheduler() as app, AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        addrs = {"scheduler__addrs": [app.address]}
        await stack.enter_async_context(hurried(tmp_path, 2, seedPeer__enable=True, **addrs))
        first, second = [
            await stack.enter_async_context(hurried(tmp_path, number, **addrs)) for number in (3, 4)
        ]
        pull = await begin(group, first, origin, tmp_path, OLD)
        joined = group.create_task(fetch(second, origin.url(PATH), other, NEW))
        await eventually(lambda: has_come(origin, NEW))
        origin.add(PATH, CONTENT, Manners(**only(NEW)))
        pull.gate.set()
        assert (await joined).is_right(CONTENT)
        ended = await pull.fetching
        assert ended.is_right(CONTENT) or ended.is_visibly_short(CONTENT) or ended.status == 401


async def test_a_token_is_shown_to_its_own_registry_alone(origin: Origin, tmp_path: Path) -> None:
    """Two registries have the same blob, each another tag for it; the first breaks off."""
    other = tmp_path / "other"
    other.mkdir()
    async with (
        Origin() as second,
        hurried(tmp_path, 2) as one,
        asyncio.TaskGroup() as group,
    ):
        pull = await begin(group, one, origin, tmp_path, OLD, header={"ETag": '"first"'})
        url = second.add(PATH, CONTENT, Manners(header={"ETag": '"second"'}))
        joined = group.create_task(fetch(one, url, other, NEW))
        await eventually(lambda: second.requests)
        pull.gate.set()
        assert (await pull.fetching).is_right(CONTENT)
        assert (await joined).is_right(CONTENT)
        shown = [{seen.header["Authorization"] for seen in it.requests} for it in (origin, second)]
        assert shown == [{"Bearer old"}, {"Bearer new"}]


async def test_a_token_that_has_ended_is_refused_as_its_registry_refuses_it(
    origin: Origin, tmp_path: Path
) -> None:
    """Though all of it is here."""
    url = origin.add(PATH, CONTENT, Manners(**only(NEW)))
    async with daemon(tmp_path, 2, **PROXY) as one:
        assert (await fetch(one, url, tmp_path, NEW)).is_right(CONTENT)
        refused = await fetch(one, url, tmp_path, OLD)
    assert (refused.code, refused.status) == (0, 401)
    assert refused.header["www-authenticate"] == 'Bearer realm="r"'
    assert CONTENT not in refused.body


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
async def without_room(tmp_path: Path) -> AsyncGenerator[Daemon]:
    """A daemon on a volume that is smaller than the blob."""
    with small_volume(tmp_path / "volume", "8m") as volume:
        async with daemon(tmp_path, 2, storage__dir=str(volume / "data"), **PROXY) as one:
            yield one


async def test_a_disk_without_room(without_room: Daemon, origin: Origin, tmp_path: Path) -> None:
    """The registry is there, so its clients get what they want, past the swarm."""
    url = origin.add(PATH, CONTENT, Manners(**only(NEW)))
    assert (await fetch(without_room, url, tmp_path, NEW)).is_right(CONTENT)
    assert (await fetch(without_room, url, tmp_path, OLD)).status == 401


async def test_a_disk_that_fills_in_mid_blob(
    without_room: Daemon, origin: Origin, tmp_path: Path
) -> None:
    """Nobody said how long it would be."""
    url = origin.add(PATH, CONTENT, Manners(chunked=True, ranges=False))
    assert (await fetch(without_room, url, tmp_path)).is_visibly_short(CONTENT)
