"""`odonata get`: asks the daemon of this host for a file and shows how it comes.

A client of DfdaemonDownload over the unix socket. The daemon writes the file; nothing is fetched
here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio

from odonata.digest import parse_digest
from odonata.errors import CallerError
from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS
from odonata.units import parse_duration_s, parse_size
from odonata.wire.dragonfly import (
    TaskStarted,
    download_request_to_wire,
    progress_from_wire,
)
from odonata.wire.dragonfly.feature import FEATURES_KEY
from odonata.wire.message import Download, Value
from peer.daemon_socket import check_endpoint, explained
from peer.get_progress import Progress, make_progress
from peer.runtime.task_stream import UNSIZED_STARTED


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
    check_endpoint(endpoint)
    with make_progress(Path(download.output_path or "").name, quiet=quiet) as progress:
        async with open_channel(f"unix:{endpoint}") as channel:
            call = download_stub(channel).DownloadTask(
                download_request_to_wire(download), metadata=((FEATURES_KEY, UNSIZED_STARTED),)
            )
            try:
                await _follow(call, progress)
            except grpc.aio.AioRpcError as failure:
                raise explained(failure, endpoint) from failure
        progress.done(Path(download.output_path or ""))


async def _follow(call: Any, progress: Progress) -> None:  # grpc's calls ship without types
    async for response in call:
        step = progress_from_wire(response).step
        if isinstance(step, TaskStarted):
            progress.started(step)
        else:
            progress.arrived(step.piece)
