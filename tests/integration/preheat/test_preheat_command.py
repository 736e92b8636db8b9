"""`odonata preheat` as a user runs it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from support.content import MIB, make_content
from support.daemon import PATIENCE_S, command, environment, get
from support.eventually import eventually
from support.guarded_registry import PASSWORD, USER, Guard, GuardedRegistry
from support.origin import Origin

from peer.runtime.daemon import Daemon
from scheduler.runtime.app import SchedulerApp

CONTENT = make_content(MIB)


async def run(app: SchedulerApp, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `odonata preheat ...` at this scheduler."""
    child = await asyncio.create_subprocess_exec(
        *command("preheat", *words, f"--scheduler={app.address}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_a_file_that_get_then_finds_here(
    app: SchedulerApp, seed: Daemon, peer: Daemon, tmp_path: Path
) -> None:
    await eventually(lambda: len(app.core.list_hosts()) == 2)
    async with Origin() as origin:
        url = origin.add("/file", CONTENT)
        code, out, err = await run(app, "file", f"{url}?X-Amz-Signature=one", "--tag=t", "--wait")
        assert (code, err) == (0, "")
        assert "host2 (127.0.0.2)" in out
        assert "1 of 1" in out
        output = await get(peer, url, tmp_path / "out", tag="t")
        assert output.read_bytes() == CONTENT
        assert origin.copies("/file") == 1
        code, out, _ = await run(app, "file", url, "--tag=t", "--stat")
        assert code == 0
        assert "host3 (127.0.0.3)" in out
        code, out, _ = await run(app, "file", url, "--tag=t", "--stat", "--json")
        whole = {url: True}
        assert json.loads(out) == {
            "kind": "file",
            "url": url,
            "is_held": True,
            "urls": [url],
            "hosts": [
                {"host": "host2 (127.0.0.2)", "urls": whole},
                {"host": "host3 (127.0.0.3)", "urls": whole},
            ],
        }


async def test_an_image_from_a_guarded_registry(
    app: SchedulerApp, seed: Daemon, tmp_path: Path
) -> None:
    await eventually(lambda: len(app.core.list_hosts()) == 1)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    async with GuardedRegistry(tmp_path, Guard.BASIC) as registry:
        await registry.add("lib/rand", "v1", [CONTENT])
        url = registry.manifest_url("lib/rand", "v1")
        login = [f"--username={USER}", f"--password-file={tmp_path / 'password'}"]
        code, out, err = await run(app, "image", url, *login, "--wait")
        assert (code, err) == (0, "")
        assert "2 of 2" in out
        code, _, err = await run(app, "image", url)
        assert code == 1
        assert "set username and password" in err


async def test_mistakes_are_told(app: SchedulerApp) -> None:
    for words, said in (
        (("file", "http://origin.test/f", "--timeout=soon"), "soon"),
        (("file", "http://origin.test/f", "-H", "nothing"), "NAME:VALUE"),
        (("file", "http://origin.test/f", "--piece-length=1KiB"), "piece_length 1024 is too small"),
        (("file", "http://origin.test/f"), "no seed peer"),
        (("image", "http://origin.test/f"), "REGISTRY/v2/REPOSITORY/manifests/TAG"),
    ):
        code, out, err = await run(app, *words)
        assert code in (1, 2)
        assert said in err
        assert (out, "Traceback" in err) == ("", False)
