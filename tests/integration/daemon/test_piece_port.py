"""The piece port between real daemons: connections that stay, TLS, and who is left out by it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from support.certificates import make_authority, make_signed
from support.content import make_content
from support.daemon import MIB, daemon, get, scheduler, sha256
from support.origin import Origin

CONTENT = make_content(30 * MIB + 7)


def tls_settings(folder: Path, *, required: bool) -> dict[str, object]:
    """One certificate for all: who it names is not looked at."""
    authority = make_authority(folder)
    peer = make_signed(folder, authority, "peer")
    return {
        "storage__server__tls__caCert": str(authority.cert),
        "storage__server__tls__cert": str(peer.cert),
        "storage__server__tls__key": str(peer.key),
        "storage__server__tls__required": required,
    }


async def children(port: int, ip: str) -> dict[str, int]:
    """Bytes given to each child."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{ip}:{port}/children") as response,
    ):
        told = await response.json()
    return {one["child"]: one["sent_bytes"] for one in told["children"] if one["sent_bytes"]}


async def test_children_are_known_by_their_host_ids(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", CONTENT)
        app = await stack.enter_async_context(scheduler())
        more = {"scheduler__addrs": [app.address]}
        holder = await stack.enter_async_context(daemon(tmp_path, 2, **more))
        child = await stack.enter_async_context(daemon(tmp_path, 3, **more))
        await get(holder, url, tmp_path / "first")
        output = await get(child, url, tmp_path / "second")
        assert sha256(output) == sha256(tmp_path / "first")
        given = await children(holder.facts.tcp_port, holder.facts.ip)
        assert given == {child.facts.id: len(CONTENT)}
        assert origin.copies("/blob") == 1


async def test_with_tls_the_swarm_works_and_strangers_are_left_out(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", CONTENT)
        app = await stack.enter_async_context(scheduler())
        more = {"scheduler__addrs": [app.address]}
        secure = more | tls_settings(tmp_path, required=True)
        holder = await stack.enter_async_context(daemon(tmp_path, 2, **secure))
        child = await stack.enter_async_context(daemon(tmp_path, 3, **secure))
        stranger = await stack.enter_async_context(daemon(tmp_path, 4, **more))
        await get(holder, url, tmp_path / "first")
        await get(child, url, tmp_path / "second")
        assert origin.copies("/blob") == 1, "the second came from the first, by TLS"
        output = await get(stranger, url, tmp_path / "third")
        assert sha256(output) == sha256(tmp_path / "first")
        assert origin.copies("/blob") == 2, "nobody gave it to who has no certificate"
