"""A local swarm of real processes, for tests that are not themselves asynchronous.

    with Swarm(place, peers=4, registry_mirror="http://registry.test:5000") as swarm:
        proxy = swarm.proxy("peer-1")
        swarm.kill("seed-1")

The members live in the place's mounts, where its registry has a name.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from support import swarm_keeper
from support.program import Place, Program, wait_until

_LAST_WORDS_CHARS = 4000


class Swarm:
    """A scheduler, a seed (seed-1) and peers (peer-1, peer-2, ...)."""

    def __init__(
        self,
        place: Place,
        *,
        peers: int,
        registry_mirror: str,
        settings: Mapping[str, Any] | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        """`settings` are added to those of each daemon, section by section; `own`: by its name."""
        self._folder = place.folder / "swarm"
        keeper = [sys.executable, swarm_keeper.__file__]
        more = json.dumps([dict(settings or {}), dict(own or {})])
        words = [*keeper, str(self._folder), str(peers), registry_mirror, more]
        self._program = Program(place, "swarm", words)
        self._members: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir()
        ready = self._folder / "ready.json"
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._folder)
            stack.enter_context(self._program)
            self._program.wait_until(ready.exists, "all its members")
            self._members = json.loads(ready.read_text())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._members:  # pytest shows it if the test has failed
            said = self.said(name)[-_LAST_WORDS_CHARS:]
            print(f"--- the last words of {name}\n{said}")  # noqa: T201
        self._stack.close()

    @property
    def members(self) -> list[str]:
        """Names of all, in the order of their start."""
        return list(self._members)

    @property
    def peers(self) -> list[str]:
        """Names of the peers."""
        return [name for name in self._members if name.startswith("peer")]

    def authority(self, name: str) -> str:
        """host:port of a daemon's proxy."""
        return f"127.0.0.1:{self._members[name]['proxy_port']}"

    def proxy(self, name: str) -> str:
        """URL of a daemon's proxy."""
        return f"http://{self.authority(name)}"

    def kill(self, name: str) -> None:
        """End a member at once, as a power cut would; returns when it is gone."""
        pid = self._members[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _is_dead(pid), f"{name}'s end")

    def alive(self) -> list[str]:
        """Members that still run."""
        return [name for name, member in self._members.items() if not _is_dead(member["pid"])]

    def said(self, name: str) -> str:
        """All that a member has put out so far."""
        path = self._folder / f"{name}.log"
        return path.read_text() if path.exists() else ""


def _is_dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}
