"""A holder that was named and has come to a halt: the source brings the content in its stead.

A real process that is stopped keeps its sockets open and answers nothing, as a host does that swaps
or has lost its disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path

from support.content import make_content
from support.daemon import (
    MIB,
    PATIENCE_S,
    daemon,
    daemon_arguments,
    get,
    process,
    scheduler,
    sha256,
)
from support.eventually import eventually
from support.origin import Origin

from scheduler.core.lifecycle import PeerState


async def test_a_holder_that_is_stopped_is_not_waited_for_until_somebody_finds_out(
    tmp_path: Path,
) -> None:
    content = make_content(24 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content)
        addrs = f'--set=scheduler.addrs=["{app.address}"]'
        async with process(*daemon_arguments(tmp_path, 3), addrs) as holder:
            await get(holder.socket_path, url, tmp_path / "held")
            known = set(app.core.state.peers)
            before = len(origin.requests)
            async with daemon(tmp_path, 2, scheduler__addrs=[app.address]) as child:
                holder.signal(signal.SIGSTOP)
                async with asyncio.TaskGroup() as group:
                    fetching = group.create_task(get(child, url, tmp_path / "out"))
                    await eventually(lambda: len(origin.requests) > before, PATIENCE_S)
                    (peer_id,) = set(app.core.state.peers) - known
                    peer = app.core.state.peers[peer_id]
                    assert peer.state is PeerState.RUNNING, "nobody has told it to go there"
                    assert peer.task.graph.has_parents(peer_id)
                output = fetching.result()
                holder.signal(signal.SIGCONT)
        assert sha256(output) == hashlib.sha256(content).hexdigest()
        assert origin.copies("/blob") <= 2.0
