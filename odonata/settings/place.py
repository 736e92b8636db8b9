"""Where a program keeps its files by default: root in the system's folders, others in their own.

Pure functions of an environment and a user id, after the XDG base directory specification. No
folder is made here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

_NAME = "odonata"


def state_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Data that outlives the process: /var/lib/odonata, or ~/.local/state/odonata by XDG."""
    if uid == 0:
        return Path("/var/lib") / _NAME
    return (
        _absolute(environ.get("XDG_STATE_HOME")) or _home(environ, uid) / ".local" / "state" / _NAME
    )


def runtime_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Sockets: /run/odonata, or $XDG_RUNTIME_DIR/odonata, else the state folder."""
    if uid == 0:
        return Path("/run") / _NAME
    return _absolute(environ.get("XDG_RUNTIME_DIR")) or state_dir(environ, uid)


def _absolute(folder: str | None) -> Path | None:
    """The specification: a relative path is to be ignored."""
    return Path(folder) / _NAME if folder and folder.startswith("/") else None


def _home(environ: Mapping[str, str], uid: int) -> Path:
    home = environ.get("HOME", "")
    # A user without a home (a container with a bare uid) still gets a folder of its own.
    return Path(home) if home.startswith("/") else Path(tempfile.gettempdir()) / f"{_NAME}-{uid}"
