"""`odonata up` and `odonata demo` as a user starts them: real processes and bytes, a clean end."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.origin import Origin

ODONATA = str(Path(sys.executable).with_name("odonata"))
TIMEOUT_S = 90.0
DEMO_TIMEOUT_S = 240.0  # training alone takes 10 s on an idle machine


def processes_naming(folder: Path) -> list[str]:
    """Command lines of this host that name `folder`."""

    def words() -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue

    return [line for line in words() if str(folder) in line]


def leftover_sockets(folder: Path) -> list[Path]:
    return list(folder.glob("*.sock"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_up_starts_a_swarm_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = [ODONATA, "up", "--peers", "2", "--upload-rate", "50MB", "--data-dir", str(tmp_path)]
    up = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert up.stdout is not None
    seen = ""
    async with asyncio.timeout(TIMEOUT_S):
        async for line in up.stdout:
            seen += line.decode()
            if "a local swarm is up" in seen and "try:" in seen:
                break
        assert len(processes_naming(tmp_path)) > 4, seen  # up itself, scheduler, seed, two peers
        up.send_signal(number)
        seen += (await up.stdout.read()).decode()
        assert await up.wait() == 0, seen
    assert processes_naming(tmp_path) == []
    assert leftover_sockets(tmp_path) == []
    for name in ("scheduler", "seed-1", "peer-1", "peer-2"):
        assert re.search(rf"^{name} +│ ", seen, re.MULTILINE), seen


async def test_up_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words, message in (
        (["--peers", "0"], "--peers 0: choose a number from 1 to 64"),
        (["--upload-rate", "fast"], "fast"),
        (["--data-dir", str(tmp_path / "file" / "x")], "choose a folder you may write to"),
    ):
        up = await asyncio.create_subprocess_exec(
            ODONATA, "up", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        shown, _ = await asyncio.wait_for(up.communicate(), TIMEOUT_S)
        assert up.returncode != 0
        assert message in " ".join(shown.decode().split())
        assert "Traceback" not in shown.decode()


async def test_demo_shows_that_all_is_as_it_should_be(tmp_path: Path) -> None:
    """A quicker world than the documented one: five peers, one of them slow, wider links."""
    picture, out = tmp_path / "demo.svg", tmp_path / "out"
    words = ["demo", "--peers", "5", "--slow", "1", "--rounds", "4", "--out", str(out)]
    words += ["--origin-rate", "48MB", "--seed-rate", "96MB", "--upload-rate", "48MB"]
    words += ["--slow-rate", "4MB", "--picture", str(picture)]
    demo = await asyncio.create_subprocess_exec(
        ODONATA, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    shown, _ = await asyncio.wait_for(demo.communicate(), DEMO_TIMEOUT_S)
    text = shown.decode()
    assert demo.returncode == 0, text
    assert "All digests right." in text
    assert re.search(r"direct +1 .* 5\.00 +0\.0 %", text), text
    for way in ("rule", "learned"):
        assert re.search(rf"{way} +4 .* 1\.0[012] ", text), text
    assert "peer-3" in picture.read_text()
    assert (out / "models" / "current" / "manifest.json").is_file()
    assert (out / "mlflow.db").is_file()
    assert {"decision", "piece"} <= {path.name for path in (out / "telemetry").iterdir()}
    # What it says to type can be typed, though no environment of ours is on the shell's path.
    (line,) = [line for line in text.splitlines() if "telemetry ls" in line]
    typed = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", line, env={"PATH": "/usr/bin:/bin"}, stdout=asyncio.subprocess.PIPE
    )
    listed, _ = await asyncio.wait_for(typed.communicate(), TIMEOUT_S)
    assert typed.returncode == 0
    assert b"piece" in listed


async def test_demo_says_when_there_is_no_such_image() -> None:
    """An image that is not there is said so, before anything is started."""
    async with Origin() as origin:
        reference = origin.url("/no/such:image").removeprefix("http://")
        demo = await asyncio.create_subprocess_exec(
            ODONATA,
            "demo",
            "--image",
            reference,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        shown, _ = await asyncio.wait_for(demo.communicate(), TIMEOUT_S)
    assert demo.returncode == 1
    assert "manifests/image: HTTP 404" in " ".join(shown.decode().split())
