"""A real FTP server (pyftpdlib) in a thread of its own, on a free port of loopback."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer as Server

USER, PASSWORD = "ftp-user", "an-ftp-password"


class FtpServer:
    """Serves a folder to USER."""

    def __init__(self, folder: Path) -> None:
        authorizer = DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(folder), perm="elr")

        class Handler(FTPHandler):  # type: ignore[misc]  # it has no types
            use_sendfile = False

        Handler.authorizer = authorizer
        Handler.auth_failed_timeout = 0  # else a wrong password costs three seconds
        self._server: Any = Server(("127.0.0.1", 0), Handler)
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
