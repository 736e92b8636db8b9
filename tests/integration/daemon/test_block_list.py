"""What an operator forbids while a daemon runs, as its clients and users see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.content import make_content
from support.curl import fetch
from support.daemon import MIB, daemon, get, scheduler
from support.eventually import eventually_is
from support.origin import Origin

from odonata.errors import OdonataError, SettingsError
from peer.runtime.daemon import Daemon

CONTENT = make_content(MIB)
RULES: Any = [{"regex": "/shared/"}]
FORBIDS = "clientConfig: {blockList: {task: {download: {urls: [/private/], tags: [old]}}}}\n"
"""Of all hosts but seeds."""


def settings(file: Path, **more: Any) -> dict[str, Any]:
    again = {"dynconfig__file": str(file), "dynconfig__refreshInterval": "10ms"}
    return {"proxy__rules": RULES, **again, **more}


async def test_a_download_is_refused_until_the_file_allows_it(tmp_path: Path) -> None:
    file = tmp_path / "dynconfig.yaml"
    file.write_text(FORBIDS)
    async with Origin() as origin, daemon(tmp_path, 2, **settings(file)) as one:
        url = origin.add("/shared/private/x", CONTENT)

        async def status() -> int:
            return (await fetch(one, url, tmp_path)).status

        refused = await fetch(one, url, tmp_path)
        assert (refused.code, refused.status) == (0, 403)
        assert b"clientConfig.blockList" in refused.body
        assert b"'/private/'" in refused.body
        with pytest.raises(OdonataError, match="are forbidden on this host"):
            await get(one, url, tmp_path / "out")
        assert origin.requests == [], "nobody is asked"
        file.write_text("")
        await eventually_is(status, 200)
        await get(one, url, tmp_path / "out")
        file.write_text(FORBIDS)
        await eventually_is(status, 403)


async def test_a_tag_is_forbidden_and_what_passes_the_swarm_is_not(tmp_path: Path) -> None:
    """Nothing is downloaded by who asks straight through."""
    file = tmp_path / "dynconfig.yaml"
    file.write_text(FORBIDS)
    async with Origin() as origin, daemon(tmp_path, 2, **settings(file)) as one:
        url = origin.add("/shared/x", CONTENT)
        assert (await fetch(one, url, tmp_path, "X-Dragonfly-Tag: old")).status == 403
        assert (await fetch(one, url, tmp_path)).is_right(CONTENT)
        straight = origin.add("/other/private/x", CONTENT)
        assert (await fetch(one, straight, tmp_path)).is_right(CONTENT)


async def test_what_a_peer_may_not_have_its_seed_may(tmp_path: Path) -> None:
    """Each holds to its own list; the seed's is for what its own clients ask."""
    file = tmp_path / "dynconfig.yaml"
    file.write_text(FORBIDS)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/shared/private/x", CONTENT)
        more = {"scheduler__addrs": [app.address]}
        async with (
            daemon(tmp_path, 2, **settings(file, seedPeer__enable=True, **more)) as seed,
            daemon(tmp_path, 3, **settings(file, **more)) as peer,
        ):
            assert (await fetch(peer, url, tmp_path)).status == 403
            assert (await fetch(seed, url, tmp_path)).is_right(CONTENT)


async def test_a_list_that_can_not_be_read_is_no_empty_list(tmp_path: Path) -> None:
    """A daemon does not start with it, and one that runs keeps what it had."""
    file = tmp_path / "dynconfig.yaml"
    file.write_text("clientConfig: {blokList: {}}\n")
    with pytest.raises(SettingsError, match="blokList"):
        await _start(tmp_path, file)
    file.unlink()
    with pytest.raises(SettingsError, match=r"dynconfig\.yaml"):
        await _start(tmp_path, file)


async def _start(tmp_path: Path, file: Path) -> Daemon:
    async with daemon(tmp_path, 2, **settings(file)) as one:
        return one
