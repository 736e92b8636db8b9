"""`odonata get` and `odonata daemon` as users meet them: what they say, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.content import make_content
from support.daemon import (
    MIB,
    PATIENCE_S,
    command,
    daemon,
    daemon_arguments,
    environment,
    process,
    run,
    run_with_output,
    scheduler,
)
from support.eventually import eventually_is
from support.listing_daemon import file_entry, folder_entry, listing_daemon
from support.origin import Manners, Origin

from odonata.client import AsyncClient
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, url_task_id
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


# --- parts, folders, words ------------------------------------------------------------------------


async def get_json(one: Path, url: str, output: Path, *arguments: str) -> dict[str, Any]:
    """What it says at the end, on stdout."""
    code, out, said = await run_with_output(
        "get", url, "-O", str(output), "-e", str(one), "--json", *arguments
    )
    assert (code, said) == (0, "")
    result: dict[str, Any] = json.loads(out)
    return result


async def test_it_says_at_the_end_what_it_did(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT)
    done = await get_json(one.socket_path, url, tmp_path / "out")
    assert done.pop("seconds") > 0
    task_id = url_task_id(url, filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS)
    assert done == {
        "url": url,
        "output": str(tmp_path / "out"),
        "task_id": task_id,
        "bytes": len(CONTENT),
        "from_source": len(CONTENT),
        "from_peers": 0,
        "from_local": 0,
    }


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("0-0", CONTENT[:1]),
        (f"{4 * MIB - 2}-{4 * MIB + 1}", CONTENT[4 * MIB - 2 : 4 * MIB + 2]),
        (f"bytes={4 * MIB}-", CONTENT[4 * MIB :]),
        ("-7", CONTENT[-7:]),
        (f"{5 * MIB - 3}-{9 * MIB}", CONTENT[-3:]),
    ],
)
async def test_a_part_is_written(
    part: str, wanted: bytes, one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    done = await get_json(one.socket_path, url, tmp_path / "out", "--range", part)
    assert (tmp_path / "out").read_bytes() == wanted
    assert done["bytes"] == len(wanted)


async def test_wrong_parts_leave_no_file(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT)
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    for part in ("9-3", "x", "-", f"{6 * MIB}-{7 * MIB}"):
        code, said = await get(one, url, out, "--range", part)
        assert code == 2
        assert "--range" in said_once(said)
    code, said = await get(one, url, out, "--range", "0-3", "--digest", f"sha256:{'0' * 64}")
    assert code == 2
    assert list(out.parent.iterdir()) == []
    out.write_bytes(b"mine")
    code, said = await get(one, url, out, "--range", "0-3")
    assert (code, out.read_bytes()) == (1, b"mine")
    code, _ = await get(one, url, out, "--range", "0-3", "--overwrite")
    assert (code, out.read_bytes()) == (0, CONTENT[:4])


async def test_a_content_goes_to_stdout(one: Daemon, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    common = ["get", url, "-O", "-", "-e", str(one.socket_path)]
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    code, out, said = await run_with_output(*common, "--digest", digest)
    assert (code, out) == (0, CONTENT)
    assert said.startswith("stdout: 5.0 MiB")
    code, out, _ = await run_with_output(*common, "--range", "3-5", "--no-progress")
    assert (code, out) == (0, CONTENT[3:6])
    code, _, said = await run_with_output(*common, "--digest", f"sha256:{'0' * 64}")
    assert code == 1, "who reads a pipe can't take it back, but is told"
    assert "0" * 64 in said
    code, _, said = await run_with_output(*common, "--json")
    assert code == 2


async def test_an_interrupted_download_goes_on_where_it_was(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    content = make_content(9 * MIB)
    gate = asyncio.Event()
    url = origin.add("/blob", content, Manners(gate=gate))
    child = await asyncio.create_subprocess_exec(
        *command("get", url, "-O", str(tmp_path / "out"), "-e", str(one.socket_path)),
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
    )
    async with AsyncClient(one.socket_path) as client:

        async def held() -> list[int | None]:
            return [task.held_count for task in await client.tasks() if task.url == url]

        await eventually_is(held, [1], PATIENCE_S)
    child.send_signal(signal.SIGINT)
    assert await child.wait() == 130
    assert not (tmp_path / "out").exists()
    gate.set()
    done = await get_json(one.socket_path, url, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    # More, if the daemon heard of the interruption after the gate was open.
    assert done["from_local"] >= 4 * MIB
    assert done["from_local"] + done["from_source"] == len(content)


async def test_without_peers_none_is_asked(origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/blob", CONTENT)
    async with (
        scheduler() as app,
        daemon(tmp_path, 3, scheduler__addrs=app.address) as parent,
        daemon(tmp_path, 4, scheduler__addrs=app.address) as child,
    ):
        await get_json(parent.socket_path, url, tmp_path / "a")
        alone = await get_json(child.socket_path, url, tmp_path / "b", "--no-p2p", "--tag", "")
        assert (alone["from_source"], alone["from_peers"]) == (len(CONTENT), 0)
        code, said = await get(child, url, tmp_path / "c", "--no-p2p", "--disable-back-to-source")
        assert code == 2
        assert "no_p2p" in said_once(said)


async def test_words_reach_the_daemon_as_they_are_meant(
    one: Daemon, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    done = await get_json(
        one.socket_path, url, tmp_path / "a", "--content-for-calculating-task-id", "my model"
    )
    assert done["task_id"] == hashlib.sha256(b"my model").hexdigest()
    done = await get_json(one.socket_path, url, tmp_path / "b", "--hf-revision", "v1", "-p", "3")
    filtered = DEFAULT_FILTERED_QUERY_PARAMS
    assert done["task_id"] == url_task_id(url, revision="v1", filtered_query_params=filtered)
    code, _ = await get(one, url, tmp_path / "c", "--force-hard-link", "--revalidate")
    assert code == 0
    assert (tmp_path / "c").stat().st_nlink > 1
    code, said = await get(one, url, tmp_path / "c", "-p", "7")
    assert code == 2
    code, said = await get(one, url, tmp_path / "c", "-I", "*")
    assert code == 2
    assert "--recursive" in said_once(said)


# What an origin may list below s3://bucket/d; contents are http's, since there is no such bucket.
async def test_a_folder_is_fetched(one: Daemon, origin: Origin, tmp_path: Path) -> None:
    names = ["a.bin", "b.txt", "sub/c.bin", "sub/deep/d.bin"]
    folder = origin.url("/d")
    for number, name in enumerate(names):
        origin.add(f"/d/{name}", make_content(1000 + number, seed=number))
    entries = [file_entry(f"{folder}/{name}", 1000 + n) for n, name in enumerate(names)]
    entries.append(folder_entry(f"{folder}/empty/"))
    socket_path = tmp_path / "l.sock"
    async with listing_daemon(socket_path, one.socket_path, {folder: entries}) as service:
        words = ("-r", "--storage-region", "mars", "-H", "X-Who: me")
        done = await get_json(socket_path, folder, tmp_path / "all", *words)
        assert service.asked[0].object_storage.region == "mars"
        assert service.asked[0].request_header == {"X-Who": "me"}
        assert tree(tmp_path / "all") == sorted([*names, "empty", "sub", "sub/deep"])
        for number, name in enumerate(names):
            assert (tmp_path / "all" / name).read_bytes() == make_content(1000 + number, number)
        assert done["bytes"] == sum(1000 + n for n in range(4))
        assert [file["url"] for file in done["files"]] == sorted(
            f"{folder}/{name}" for name in names
        )
        chosen = ("-r", "-I", "*.bin", "--exclude", "sub/deep/*")
        await get_json(socket_path, folder, tmp_path / "some", *chosen)
        assert tree(tmp_path / "some") == ["a.bin", "sub", "sub/c.bin"]
        # Once more: what stands there is not touched, and said before anything is moved.
        (tmp_path / "some" / "a.bin").unlink()  # it may be a link to what the daemon keeps
        (tmp_path / "some" / "a.bin").write_bytes(b"mine")
        code, _, said = await run_with_output(
            "get", folder, "-O", str(tmp_path / "some"), "-e", str(socket_path), *chosen
        )
        assert code == 1
        assert "a.bin exists" in said_once(said)
        assert (tmp_path / "some" / "a.bin").read_bytes() == b"mine"
        await get_json(socket_path, folder, tmp_path / "some", *chosen, "--overwrite")
        assert (tmp_path / "some" / "a.bin").read_bytes() == make_content(1000, 0)


async def test_a_folder_that_is_too_much_or_leads_elsewhere_is_not_fetched(
    one: Daemon, tmp_path: Path
) -> None:
    folder = "s3://bucket/d"
    socket_path = tmp_path / "l.sock"
    many = [file_entry(f"{folder}/{n}", 1) for n in range(101)]
    listed = {
        folder: many,
        "s3://bucket/evil": [file_entry("s3://bucket/evil/../../up", 1)],
        "s3://bucket/coded": [file_entry("s3://bucket/coded/%2e%2e/up", 1)],
        "s3://bucket/none": [],
    }
    async with listing_daemon(socket_path, one.socket_path, listed):
        for url, code, word in (
            (folder, 2, "--max-files"),
            ("s3://bucket/evil", 2, "can't be trusted"),
            ("s3://bucket/coded", 2, "can't be trusted"),
            ("s3://bucket/none", 1, "nothing to fetch"),
        ):
            got, said = await run(
                "get", url, "-r", "-O", str(tmp_path / "x"), "-e", str(socket_path)
            )
            assert (got, word in said_once(said)) == (code, True), said
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "up").exists()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


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
