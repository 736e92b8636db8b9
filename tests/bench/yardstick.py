"""What the data path is measured against: curl from nginx. And how CPU seconds are counted.

nginx with the settings that serve loopback best (`sendfile off`, buffers of 256 KiB: with sendfile
it is a third slower here), one worker, contents on tmpfs. No benchmark of its own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

MIB: Final = 1024 * 1024
GB: Final = 1e9
PATIENCE_S: Final = 600.0
TUNED: Final = "sendfile off; output_buffers 2 256k;"

# An address of its own: between choosing a port and nginx taking it, others take ports too.
NGINX_IP: Final = f"127.{os.getpid() % 250 + 2}.{os.getpid() // 250 % 250 + 2}.1"

_CONFIG: Final = """
daemon off; worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid;
events {{ }}
http {{
  access_log off; {tuning}
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {ip}:{port}{ssl}; root {root}; {extra} }}
}}
"""


class Outcome(NamedTuple):
    """One transfer: how long it took, and the CPU of who received and who sent, in seconds."""

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float

    @property
    def cpu_s(self) -> float:
        return self.client_cpu_s + self.server_cpu_s


class Nginx(NamedTuple):
    """A running server. `cpu_s()`: what it has used so far."""

    base_url: str
    cpu_s: Callable[[], float]


@contextmanager
def nginx(
    folder: Path,
    root: Path,
    *,
    tuning: str = TUNED,
    extra: str = "",
    tls: tuple[Path, Path] | None = None,
) -> Generator[Nginx]:
    """Serve the files below `root`; `extra`: more of the server's settings; `tls`: certificate and
    key, then by https.
    """
    program = shutil.which("nginx")
    assert program is not None, "install nginx (Debian: nginx-light)"
    with socket.socket() as probe:
        probe.bind((NGINX_IP, 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""
    if tls is not None:
        extra += f" ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
    text = _CONFIG.format(
        folder=folder,
        ip=NGINX_IP,
        port=port,
        ssl=" ssl" if tls else "",
        root=root,
        tuning=tuning,
        extra=extra,
    )
    config.write_text(user + text)
    server = subprocess.Popen([program, "-c", str(config), "-p", str(folder), "-e", "stderr"])
    try:
        _wait_for(port)
        yield Nginx(
            f"http{'s' if tls else ''}://{NGINX_IP}:{port}",
            lambda: sum(map(process_cpu_s, family(server.pid))),
        )
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def curl(url: str, output: Path, server_cpu_s: Callable[[], float]) -> Outcome:
    """Fetch `url` into the file `output` and measure both sides."""
    program = shutil.which("curl")
    assert program is not None, "install curl"
    before, began_s = server_cpu_s(), time.perf_counter()
    client = subprocess.Popen([program, "-sf", "--noproxy", "*", "-o", str(output), url])
    _, status, usage = os.wait4(client.pid, 0)
    client.returncode = os.waitstatus_to_exitcode(status)
    assert client.returncode == 0, f"curl {url} failed: {client.returncode}"
    return Outcome(
        wall_s=time.perf_counter() - began_s,
        client_cpu_s=usage.ru_utime + usage.ru_stime,
        server_cpu_s=server_cpu_s() - before,
    )


def make_file(path: Path, size_mib: int) -> None:
    """The same random bytes for the same size."""
    with path.open("wb") as file:
        for seed in range(size_mib):
            file.write(random.Random(seed).randbytes(MIB))


def say(facts: Mapping[str, Any]) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def own_cpu_s() -> float:
    """CPU seconds of this process and all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_s_of(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and their children."""
    return sum(process_cpu_s(one) for pid in pids for one in family(pid))


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def compare(got: Path, wanted: Path) -> None:
    """Every byte must be right, or the figures mean nothing; `got` is removed then."""
    with got.open("rb") as left, wanted.open("rb") as right:
        while True:
            one, two = left.read(16 * MIB), right.read(16 * MIB)
            assert one == two, f"{got} differs from {wanted}"
            if not one:
                break
    got.unlink()


def _wait_for(port: int) -> None:
    """Return once somebody listens."""
    deadline_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((NGINX_IP, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return
