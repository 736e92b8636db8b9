"""The process of a `daemon_nursery`: everything loaded, and a fork of it for each daemon.

Reads `{"arguments": [...], "err": path}` line by line; writes the child's pid, and at its end how
it ended.
"""

from __future__ import annotations

import json
import os
import sys

import peer.command
from peer.runtime.daemon import run


def be_daemon(arguments: list[str], err_path: str) -> None:
    """In the child: log into `err_path`, talk to nobody else, and never return."""
    for path, flags, fds in ((err_path, os.O_WRONLY, (2,)), (os.devnull, os.O_RDWR, (0, 1))):
        opened = os.open(path, flags)
        for fd in fds:
            os.dup2(opened, fd)
        os.close(opened)
    peer.command.daemon.main(args=arguments, prog_name="odonata daemon")


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    assert run.__module__ in sys.modules, "loaded before the first fork"
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            be_daemon(order["arguments"], order["err"])
        say(pid)
        _, status = os.waitpid(pid, 0)
        say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
