"""The daemon's unix socket, as its callers on this host find it: where, if at all, and what failed.

Nothing is asked here: `get` and `task_calls` do.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import grpc
import grpc.aio

from odonata.errors import (
    CallerError,
    NotFoundError,
    OdonataError,
    ProtocolError,
    SourceError,
    UnavailableError,
)
from odonata.grpc_status import error_of
from odonata.settings.loading import load
from peer.settings import DaemonSettings


def default_endpoint() -> Path:
    """The socket that a daemon of this user makes if it is not told otherwise."""
    return load(DaemonSettings, environ=os.environ).settings.download.server.socket_path


def check_endpoint(endpoint: Path) -> None:
    """Return if a socket stands at `endpoint` that this user may open.

    Raises UnavailableError (nobody, or not for this user) or CallerError (no socket).
    """
    try:
        mode = endpoint.stat().st_mode
    except FileNotFoundError:
        raise no_daemon(endpoint) from None
    except OSError as error:
        raise UnavailableError(
            f"can't reach {endpoint}: {error.strerror}; ask as the user that runs the daemon"
        ) from error
    if not stat.S_ISSOCK(mode):
        raise CallerError(f"{endpoint} is no socket: name the daemon's with --endpoint")
    if not os.access(endpoint, os.R_OK | os.W_OK):
        raise UnavailableError(
            f"{endpoint} is not open to this user: ask as the user that runs the daemon"
        )


def no_daemon(endpoint: Path) -> UnavailableError:
    """The error of all who find no daemon."""
    return UnavailableError(
        f"no daemon at {endpoint}: start one with `odonata daemon`, or name the socket of another "
        "with --endpoint"
    )


def explained(failure: grpc.aio.AioRpcError, endpoint: Path) -> OdonataError:
    """What the failure means to the user, and what to do about it."""
    if failure.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (failure.details() or ""):
        return no_daemon(endpoint)
    error = error_of(failure, "daemon")
    detail = error.detail.removeprefix("daemon: ")
    if isinstance(error, SourceError):
        return SourceError(detail, status_code=error.status_code, header=error.header)
    if isinstance(error, NotFoundError | ProtocolError):
        return type(error)(f"the daemon at {endpoint}: {detail}")
    return type(error)(detail)
