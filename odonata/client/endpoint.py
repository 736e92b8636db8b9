"""Where the daemon of this host is asked, and what it means if it can't be.

Nothing is started here: a host without a daemon is an error that says how to start one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc

from odonata.errors import (
    CallerError,
    NotFoundError,
    OdonataError,
    ProtocolError,
    SourceError,
    UnavailableError,
)
from odonata.grpc_status import CODE_KEY, Failure, error_of
from odonata.invocation import command
from odonata.settings.place import runtime_dir

SOCKET_VARIABLE = "ODONATA_DAEMON_SOCKET"


def find_endpoint(
    endpoint: Path | str | None = None, environ: Mapping[str, str] = os.environ
) -> Path:
    """The daemon's unix socket: as given, else $ODONATA_DAEMON_SOCKET, else the default.

    That is where a daemon of this user makes it if it is not told otherwise.
    """
    told = endpoint or environ.get(SOCKET_VARIABLE)
    if told:
        return Path(str(told).removeprefix("unix:")).absolute()
    return runtime_dir(environ, os.getuid()) / "daemon.sock"


def check_endpoint(endpoint: Path) -> None:
    """Raises UnavailableError or CallerError if nobody can be asked there."""
    try:
        mode = endpoint.stat().st_mode
    except FileNotFoundError:
        raise no_daemon(endpoint) from None
    except OSError as error:
        raise UnavailableError(
            f"can't reach {endpoint}: {error.strerror}; ask as the user that runs the daemon"
        ) from error
    if not stat.S_ISSOCK(mode):
        raise CallerError(
            f"{endpoint} is no socket: name the daemon's with --endpoint or ${SOCKET_VARIABLE}"
        )
    if not os.access(endpoint, os.R_OK | os.W_OK):
        raise UnavailableError(
            f"{endpoint} is not open to this user: ask as the user that runs the daemon"
        )


def no_daemon(endpoint: Path) -> UnavailableError:
    """Nobody answers there."""
    return UnavailableError(
        f"no daemon at {endpoint}: start one with `{command('odonata')} daemon`, or name the "
        f"socket of another with --endpoint or ${SOCKET_VARIABLE}"
    )


_GONE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


def explain(failure: Failure, endpoint: Path) -> OdonataError:
    """What a failed call means to the user, and what to do about it."""
    if failure.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (failure.details() or ""):
        return no_daemon(endpoint)
    error = error_of(failure, "daemon")
    detail = error.detail.removeprefix("daemon: ")
    if isinstance(error, SourceError):
        return SourceError(detail, status_code=error.status_code, header=error.header)
    if is_gone(failure):
        return UnavailableError(
            f"the daemon at {endpoint} went away ({detail}): what arrived is kept, so asking again "
            "goes on from there once it runs"
        )
    if isinstance(error, NotFoundError | ProtocolError):
        return type(error)(f"the daemon at {endpoint}: {detail}")
    return type(error)(detail)


def is_gone(failure: Failure) -> bool:
    """The connection is lost: gRPC says so, not a daemon that could not reach something itself.

    Of several calls on one connection the first that finds that out closes it, which cancels the
    others: they are told the same.
    """
    said = any(key == CODE_KEY for key, _ in failure.trailing_metadata() or ())
    return failure.code() in _GONE and not said
