"""A real FTP server (pyftpdlib) in a thread of its own, on a free port of loopback."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any, Self

# It has no types.
_authorizers: Any = importlib.import_module("pyftpdlib.authorizers")
_handlers: Any = importlib.import_module("pyftpdlib.handlers")
_servers: Any = importlib.import_module("pyftpdlib.servers")

USER, PASSWORD = "ftp-user", "an-ftp-password"


class FtpServer:
    """Serves a folder to USER."""

    def __init__(self, folder: Path) -> None:
        authorizer = _authorizers.DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(folder), perm="elr")
        # No pause after a wrong password, which is three seconds else.
        manners = {"authorizer": authorizer, "auth_failed_timeout": 0}
        handler = type("Handler", (_handlers.FTPHandler,), manners)
        self._server: Any = _servers.FTPServer(("127.0.0.1", 0), handler)
        self.port: int = self._server.socket.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._over.is_set():
            self._server.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
        self._server.close_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
