"""`odonata get` and `odonata daemon` as users meet them: what they say, and how they end."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, daemon, daemon_arguments, process, run
from support.origin import Manners, Origin

from peer.runtime.daemon import Daemon
from peer.runtime.storage import disk

CONTENT = make_content(5 * MIB)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2) as one:
        yield one


async def get(one: Daemon, url: str, output: Path, *arguments: str) -> tuple[int, str]:
    return await run("get", url, "-O", str(output), "-e", str(one.socket_path), *arguments)


def said_once(text: str) -> str:
    """The one line of an error message."""
    (line,) = text.splitlines()
    assert line.startswith("odonata: ")
    assert "Traceback" not in line
    return line


async def test_it_writes_the_file_and_says_where_it_came_from(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    code, said = await get(one, url, tmp_path / "out", "--digest", digest)
    assert (code, (tmp_path / "out").read_bytes()) == (0, CONTENT)
    assert said.startswith(f"{tmp_path / 'out'}: 5.0 MiB")
    assert said.endswith("source 100 %\n")
    code, said = await get(one, url, tmp_path / "again")
    assert said.endswith("this disk 100 %\n")
    assert await get(one, url, tmp_path / "quiet", "--no-progress") == (0, "")


async def test_without_a_daemon_it_says_where_it_looked_and_how_to_start_one(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "d.sock"
    code, said = await run("get", "http://x.test/", "-O", "out", "-e", str(missing))
    assert code == 1
    assert str(missing) in said_once(said)
    assert "odonata daemon" in said


async def test_a_socket_that_nobody_listens_on_is_no_daemon_either(tmp_path: Path) -> None:
    dead = tmp_path / "d.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    code, said = await run("get", "http://x.test/", "-O", "out", "-e", str(dead))
    assert code == 1
    assert f"no daemon at {dead}" in said_once(said)


@pytest.mark.parametrize(
    ("status", "hint"),
    [(404, "check the URL"), (401, "credentials"), (500, "500")],
)
async def test_what_the_origin_refuses_is_said_with_its_status(
    status: int, hint: str, one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    manners = Manners(status=status, header={"X-Why": "because", "Set-Cookie": "a=secret"})
    url = origin.add("/blob", b"", manners) + "?token=secret"
    code, said = await get(one, url, tmp_path / "out")
    assert code == 1
    headline, bad_status, message, header, *fields = said.splitlines()
    assert headline == f"odonata: can't get '{origin.url('/blob')}'"
    assert bad_status == f"odonata: Bad Status Code: {status}"
    assert message.startswith("odonata: Message: ")
    assert hint in message
    assert header == "odonata: Header:"
    assert "odonata:   x-why: because" in [field.lower() for field in fields]
    assert "secret" not in said
    assert not (tmp_path / "out").exists()


async def test_headers_reach_the_origin(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT, Manners(wants_header=("Authorization", "Bearer x")))
    code, _ = await get(one, url, tmp_path / "no")
    assert code == 1
    code, _ = await get(one, url, tmp_path / "out", "-H", "Authorization: Bearer x")
    assert (code, (tmp_path / "out").read_bytes()) == (0, CONTENT)


async def test_a_file_that_is_there_is_not_touched(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url, output = origin.add("/blob", CONTENT), tmp_path / "out"
    output.write_bytes(b"mine")
    code, said = await get(one, url, output)
    assert (code, output.read_bytes()) == (1, b"mine")
    assert f"{output} exists" in said_once(said)
    assert origin.requests == [], "said before anything is moved"
    code, _ = await get(one, url, output, "--overwrite")
    assert (code, output.read_bytes()) == (0, CONTENT)


async def test_a_folder_that_is_not_there_is_said_before_anything_is_moved(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    code, said = await get(one, origin.add("/blob", CONTENT), tmp_path / "no" / "out")
    assert code == 2
    assert f"there is no folder {tmp_path / 'no'}" in said_once(said)
    assert origin.requests == []


async def test_a_folder_that_takes_no_files_is_said(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    # /proc/self takes no files from anybody, root included.
    code, said = await get(one, origin.add("/blob", CONTENT), Path("/proc/self/out"))
    assert code == 1
    assert "/proc/self" in said_once(said)


async def test_content_with_another_digest_is_not_written(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    code, said = await get(one, url, tmp_path / "out", "--digest", f"sha256:{'0' * 64}")
    assert code == 1
    assert "0" * 64 in said_once(said)
    assert not (tmp_path / "out").exists()
    asked = len(origin.requests)
    code, _ = await get(one, url, tmp_path / "out")
    assert (code, (tmp_path / "out").read_bytes()) == (0, CONTENT)
    assert len(origin.requests) > asked, "what was wrong is not kept"
    code, said = await get(one, url, tmp_path / "out", "--digest", "sha256:xyz")
    assert code == 2
    assert "64 hex digits" in said_once(said)


async def test_a_full_disk_is_said_before_the_download(
    one: Daemon, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def almost_none(_path: Path) -> int:
        return 1024

    monkeypatch.setattr(disk, "free_bytes", almost_none)
    code, said = await get(one, origin.add("/blob", CONTENT), tmp_path / "out")
    assert code == 1
    assert "free some space" in said_once(said)
    assert not (tmp_path / "out").exists()


async def test_patience_ends(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT, Manners(rate_bytes_per_s=256 * 1024))
    code, said = await get(one, url, tmp_path / "out", "--timeout", "500ms")
    assert code == 1
    assert "more than 0.5 s" in said_once(said)


async def test_peers_or_nothing(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT)
    code, said = await get(one, url, tmp_path / "out", "--disable-back-to-source")
    assert code == 1
    assert "disable_back_to_source" in said_once(said)
    assert origin.requests == []


async def test_bad_arguments_are_said_without_asking_the_daemon(tmp_path: Path) -> None:
    for wrong in (["-H", "novalue"], ["--piece-length", "many"], ["--timeout", "soon"]):
        code, said = await run("get", "http://x.test/", "-O", "out", *wrong)
        assert code == 2
        said_once(said)


# --- the daemon -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", ["upload.server.port", "storage.server.tcpPort", "proxy.server.port"]
)
async def test_a_port_in_use_is_one_message_with_the_setting(setting: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = await run(*daemon_arguments(tmp_path, 2), f"--set={setting}={port}")
    assert code == 1
    line = said_once("\n".join(line for line in said.splitlines() if "odonata:" in line))
    assert f"port {port}" in line
    assert setting in line
    assert "Traceback" not in said


async def test_two_daemons_do_not_share_a_folder(one: Daemon, tmp_path: Path) -> None:
    arguments = daemon_arguments(tmp_path, 2, download__server__socketPath=tmp_path / "other.sock")
    code, said = await run(*arguments)
    assert code == 1
    assert str(tmp_path / "data2") in said
    assert "Traceback" not in said


async def test_the_socket_is_closed_to_others(one: Daemon) -> None:
    assert one.socket_path.stat().st_mode & 0o777 == 0o600
    assert one.socket_path.parent.stat().st_mode & 0o777 == 0o700


async def test_it_says_in_one_line_where_it_listens(tmp_path: Path) -> None:
    async with process(*daemon_arguments(tmp_path, 2)) as one:
        started = one.started
    assert started["host_id"] == "127.0.0.2-host2"
    assert {"address", "piece_port", "proxy_port", "path", "version"} <= started.keys()
    assert json.dumps(started)
