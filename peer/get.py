"""`odonata get`: asks the daemon of this host for a file and shows how it comes.

A client of DfdaemonDownload over the unix socket. The daemon writes the file; nothing is fetched
here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from odonata.digest import parse_digest
from odonata.errors import (
    CallerError,
    NotFoundError,
    OdonataError,
    ProtocolError,
    SourceError,
    UnavailableError,
)
from odonata.grpc_client import open_channel
from odonata.grpc_status import error_of
from odonata.grpc_stub import download_stub
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS
from odonata.settings.loading import load
from odonata.units import parse_duration_s, parse_size
from odonata.wire.dragonfly import (
    TaskStarted,
    download_request_to_wire,
    progress_from_wire,
)
from odonata.wire.dragonfly.feature import FEATURES_KEY
from odonata.wire.message import Download, Value
from peer.get_progress import Progress, make_progress
from peer.runtime.task_stream import UNSIZED_STARTED
from peer.settings import DaemonSettings


class Wish(Value, frozen=True, kw_only=True):
    """What the user said on the command line."""

    url: str
    output: Path
    digest: str | None = None
    tag: str | None = None
    application: str | None = None
    header: tuple[str, ...] = ()
    piece_length: str | None = None
    filtered_query_params: tuple[str, ...] = ()
    overwrite: bool = False
    timeout: str | None = None
    disable_back_to_source: bool = False


def default_endpoint() -> Path:
    """The socket that a daemon of this user makes if it is not told otherwise."""
    return load(DaemonSettings, environ=os.environ).settings.download.server.socket_path


def download_of(wish: Wish) -> Download:
    """The request for what the user wants. Raises CallerError."""
    if wish.digest is not None:
        parse_digest(wish.digest)
    return Download(
        url=wish.url,
        digest=wish.digest,
        tag=wish.tag,
        application=wish.application,
        request_header=dict(_header_of(text) for text in wish.header),
        piece_length=None if wish.piece_length is None else parse_size(wish.piece_length),
        filtered_query_params=wish.filtered_query_params or DEFAULT_FILTERED_QUERY_PARAMS,
        output_path=str(wish.output.absolute()),
        overwrite=wish.overwrite,
        timeout_s=None if wish.timeout is None else parse_duration_s(wish.timeout),
        disable_back_to_source=wish.disable_back_to_source,
    )


def _header_of(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CallerError("a header needs NAME:VALUE, such as -H 'Authorization: Bearer ...'")
    return name.strip(), value.strip()


async def get_file(download: Download, endpoint: Path, *, quiet: bool) -> None:
    """Have the daemon fetch and write; returns when the file is there. Raises OdonataError."""
    _check_endpoint(endpoint)
    with make_progress(Path(download.output_path or "").name, quiet=quiet) as progress:
        async with open_channel(f"unix:{endpoint}") as channel:
            call = download_stub(channel).DownloadTask(
                download_request_to_wire(download), metadata=((FEATURES_KEY, UNSIZED_STARTED),)
            )
            try:
                await _follow(call, progress)
            except grpc.aio.AioRpcError as failure:
                raise _explained(failure, endpoint) from failure
        progress.done(Path(download.output_path or ""))


async def _follow(call: Any, progress: Progress) -> None:  # grpc's calls ship without types
    async for response in call:
        step = progress_from_wire(response).step
        if isinstance(step, TaskStarted):
            progress.started(step)
        else:
            progress.arrived(step.piece)


def _check_endpoint(endpoint: Path) -> None:
    try:
        mode = endpoint.stat().st_mode
    except FileNotFoundError:
        raise _no_daemon(endpoint) from None
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


def _no_daemon(endpoint: Path) -> UnavailableError:
    return UnavailableError(
        f"no daemon at {endpoint}: start one with `odonata daemon`, or name the socket of another "
        "with --endpoint"
    )


def _explained(failure: grpc.aio.AioRpcError, endpoint: Path) -> OdonataError:
    """What the failure means to the user, and what to do about it."""
    if failure.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (failure.details() or ""):
        return _no_daemon(endpoint)
    error = error_of(failure, "daemon")
    detail = error.detail.removeprefix("daemon: ")
    if isinstance(error, SourceError):
        return SourceError(detail, status_code=error.status_code, header=error.header)
    if isinstance(error, NotFoundError | ProtocolError):
        return type(error)(f"the daemon at {endpoint}: {detail}")
    return type(error)(detail)
