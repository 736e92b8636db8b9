"""How whoever reads our words can start a program that is installed beside this one."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command(program: str, *, python: str = sys.executable, search_path: str | None = None) -> str:
    """What to type for `program` (`odonata`, `mlflow`), quoted for a shell.

    Its name, if the shell finds it by that; its path, if it is installed beside the interpreter
    `python` and the shell finds none, or another: so it is in the environment of a checkout.
    `search_path`: None for $PATH.
    """
    ours = Path(python).with_name(program)
    found = shutil.which(program, path=search_path)
    if not ours.exists() or (found is not None and ours.samefile(found)):
        return program
    return shlex.quote(str(ours))
