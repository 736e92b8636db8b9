"""Where a daemon of this user makes its unix socket, as its settings say."""

from __future__ import annotations

import os
from pathlib import Path

from odonata.settings.loading import load
from peer.settings import DaemonSettings


def default_endpoint() -> Path:
    """The socket that a daemon of this user makes if it is not told otherwise."""
    return load(DaemonSettings, environ=os.environ).settings.download.server.socket_path
