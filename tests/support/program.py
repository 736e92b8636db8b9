"""Foreign programs for tests: each on a leash, in mounts of its own, with its output in a file.

Mounts of its own mean three things. A private /etc/hosts gives loopback a name, since Go's HTTP
clients never ask a proxy for 127.0.0.1 or localhost; what a container runtime mounts is gone with
it; and what it keeps outside the folders it was given is kept elsewhere. The host stays as it was.
Needs root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

ORIGIN_NAME = "registry.test"  # .test never resolves anywhere else (RFC 6761)
_FAR_IP = "192.0.2.1"  # nobody has it (RFC 5737)
# What a client falls back to when its mirror fails: no test may go out into the world.
_DOCKER_HUB = "registry-1.docker.io auth.docker.io index.docker.io"
RUN_TIMEOUT_S = 120.0  # for 200 MB on two busy cores; 5 s is usual
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02

# $1 is the place's folder, $2 its hosts. What is hidden: sockets of the host's own daemons, and
# where runtimes leave keys and caches whatever their flags say.
_ENTER = """set -e
mount --bind "$2" /etc/hosts
for path in /run /var/lib /opt /etc/docker; do
    [ -d $path ] || continue
    mkdir -p "$1/instead$path"
    mount --bind "$1/instead$path" $path
done
shift 2
exec "$@"
"""
_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = START_TIMEOUT_S) -> T:
    """The first true value of `condition()`; AssertionError with `what` if it takes too long."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"after {timeout_s:.0f} s still waiting for {what}"
        time.sleep(POLL_S)
    return value


@dataclass(frozen=True)
class Place:
    """A folder for everything that one test run starts. `hosts` is the programs' /etc/hosts."""

    folder: Path
    hosts: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        near = f"{Path('/etc/hosts').read_text().rstrip()}\n127.0.0.1 {_DOCKER_HUB}\n"
        hosts, far = folder / "hosts", folder / "far-hosts"
        hosts.write_text(f"{near}127.0.0.1 {ORIGIN_NAME}\n")
        far.write_text(f"{near}{_FAR_IP} {ORIGIN_NAME}\n")
        (folder / "home").mkdir()
        (folder / "home" / "config.json").write_text("{}")  # podman wants it where DOCKER_CONFIG is
        return cls(folder, hosts)

    def far(self) -> Self:
        """The same, but the registry is not on loopback, and who asks it can only ask a proxy.

        dockerd trusts whatever is on loopback.
        """
        return replace(self, hosts=self.folder / "far-hosts")

    def words(self, *words: str | Path) -> list[str]:
        """The command line `words`, in mounts of its own and ended when this process ends."""
        leash = ["/usr/bin/setpriv", "--pdeathsig", "TERM"]
        enter = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", _ENTER, "sh"]
        enter += [str(self.folder), str(self.hosts)]
        return [*leash, *enter, *map(str, words)]

    def environ(self, proxy: str | None = None) -> dict[str, str]:
        """This process's environment, with no proxy but `proxy`, and no settings of a user's."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if name.lower() not in _PROXY_VARIABLES and not name.startswith("ODONATA_")
        }
        home = self.folder / "home"
        environ |= {"HOME": str(home), "DOCKER_CONFIG": str(home), "TMPDIR": str(self.folder)}
        if proxy is not None:
            environ |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
        return environ

    def run(
        self,
        *words: str | Path,
        proxy: str | None = None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> str:
        """Run to the end; returns its stdout. AssertionError with all it said if it failed."""
        done = self.call(*words, proxy=proxy, environ=environ, timeout_s=timeout_s)
        what = " ".join(map(str, words))
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{what}\nended with {done.returncode}:\n{said}"
        return done.stdout

    def call(
        self,
        *words: str | Path,
        proxy: str | None = None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever that is. AssertionError if it takes too long."""
        try:
            return subprocess.run(
                self.words(*words),
                env={**self.environ(proxy), **(environ or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            what = " ".join(map(str, words))
            heard = (late.stdout or b"") + (late.stderr or b"")
            raise AssertionError(f"{what}\nran for {timeout_s:.0f} s:\n{heard!r}") from None


class Program:
    """A program that runs until the context ends; then nothing of it is left, or it is an error.

    `out` and `err` are the files with its output.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        words: Sequence[str | Path],
        *,
        proxy: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._words = place.words(*words)
        self._environ = {**place.environ(proxy), **(environ or {})}
        self._name = name
        self.out = place.folder / f"{name}.out"
        self.err = place.folder / f"{name}.err"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._name} was not started"
        return self._process.pid

    def __enter__(self) -> Self:
        with self.out.open("w") as out, self.err.open("w") as err:
            self._process = subprocess.Popen(
                self._words,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if kind is None:
                raise AssertionError(f"{self._name} did not stop on SIGTERM") from None

    def end(self) -> None:
        """Tell it to end, without waiting: that is the context's, and others end meanwhile."""
        assert self._process is not None, f"{self._name} was not started"
        self._process.terminate()

    def wait_until(self, condition: Callable[[], T], what: str) -> T:
        """As the function of that name; ends at once, with its last words, if the program died."""

        def check() -> T:
            assert self._process is not None
            status = self._process.poll()
            assert status is None, f"{self._name} ended with {status}:\n{self.last_words()}"
            return condition()

        return wait_until(check, f"{self._name}: {what}")

    def last_words(self) -> str:
        """The end of its output, for a failure's message."""
        return self.out.read_text()[-2000:] + self.err.read_text()[-2000:]


def processes_of(folder: Path) -> list[str]:
    """Command lines of the live processes that were started with a path below `folder`."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder).encode() in line and int(entry.name) != os.getpid():
            found.append(f"{entry.name}: {line.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def mounts_of(folder: Path) -> list[str]:
    """What is mounted below `folder`, as this process sees it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line]
