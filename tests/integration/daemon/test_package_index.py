"""pip through a daemon's proxy that opens TLS: the index passes, wheels come from the swarm."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from support.certificates import make_authority, make_signed
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, scheduler
from support.origin import Manners, Origin

from peer.runtime.daemon import Daemon

NAME = "odonata_test_wheel-1.0-py3-none-any.whl"
RULES: Any = [{"regex": r"\.whl$"}]


def make_wheel() -> bytes:
    """One that pip takes, of some pieces."""
    info = "odonata_test_wheel-1.0.dist-info"
    files = {
        "odonata_test_wheel/data.bin": make_content(9 * MIB),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: odonata-test-wheel\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return out.getvalue()


async def pip_download(one: Daemon, origin: Origin, trusted: Path, folder: Path) -> None:
    """As a user who has set pip's proxy and its file of authorities."""
    ip, port = one.proxy_address
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "download", "--isolated", "--no-deps", "--no-cache-dir",
        "--disable-pip-version-check", "--retries=0", "--index-url", origin.url("/simple/"),
        "--proxy", f"http://{ip}:{port}", "--cert", str(trusted), "--dest", str(folder),
        "odonata-test-wheel",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"]},  # its library prefers a REQUESTS_CA_BUNDLE to --cert
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_three_nodes_install_a_package_that_leaves_its_index_once(tmp_path: Path) -> None:
    index, ours = make_authority(tmp_path, "index"), make_authority(tmp_path, "ours")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*make_signed(tmp_path, index, "127.0.0.1"))
    common: dict[str, Any] = {
        "proxy__rules": RULES,
        "proxy__server__caCert": str(ours.cert),
        "proxy__server__caKey": str(ours.key),
        "backend__caCert": str(index.cert),
    }
    wheel = make_wheel()
    async with Origin(tls=tls) as origin, scheduler() as app:
        path = f"/files/{NAME}"
        page = f'<a href="{origin.add(path, wheel)}">{NAME}</a>'
        origin.add(
            "/simple/odonata-test-wheel/",
            page.encode(),
            Manners(header={"Content-Type": "text/html"}),
        )
        common["scheduler__addrs"] = [app.address]
        async with (
            daemon(tmp_path, 2, seedPeer__enable=True, **common),
            daemon(tmp_path, 3, **common) as first,
            daemon(tmp_path, 4, **common) as second,
            daemon(tmp_path, 5, **common) as third,
        ):
            nodes = (first, second, third)
            folders = [tmp_path / f"wheels{number}" for number in range(len(nodes))]
            pulls = zip(nodes, folders, strict=True)
            await asyncio.gather(
                *(pip_download(node, origin, ours.cert, folder) for node, folder in pulls)
            )
            assert [(folder / NAME).read_bytes() for folder in folders] == [wheel] * 3
            assert origin.copies(path) <= 1.02
