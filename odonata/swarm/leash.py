"""Runs one program on a leash: it gets SIGTERM when the process that started it dies, by any cause.

`python -m odonata.swarm.leash PARENT_PID PROGRAM ARG...` sets the kernel's parent-death signal and
becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Become `argv[1:]`, leashed to the process `argv[0]`."""
    parent, *program = argv
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != int(parent):  # it died before the leash was on
        sys.exit(0)
    os.execv(program[0], program)  # noqa: S606  # a fixed list of words, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
