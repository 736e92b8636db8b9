"""`odonata get`: has the daemon of this host fetch a file, and shows how it comes.

Thin over `odonata.client`. The daemon fetches and, if a whole content goes to a file, writes it; a
part, what goes to stdout, and what is to be the caller's own is read from the daemon and written
here. A file is whole and checked, or it is not there.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from odonata.client import AsyncClient, AsyncReader, Downloaded, Options
from odonata.client.asking import CHUNK_BYTES
from odonata.client.tally import OnProgress
from odonata.client.wish import make_download, to_file
from odonata.errors import CallerError, SourceError
from odonata.redaction import HIDDEN, is_secret_key
from odonata.wire.dragonfly import shown_url
from odonata.wire.message import Download, Value
from peer.get_progress import make_display
from peer.get_sink import STDOUT, open_sink

_RANGE: Final = re.compile(r"(?:bytes=)?(\d*)-(\d*)", re.ASCII)


class Part(Value, frozen=True, kw_only=True):
    """Bytes from `start` (negative: from so many before the end) up to, not with, `end`."""

    start: int
    end: int | None = None


def header_from(texts: tuple[str, ...]) -> dict[str, str]:
    """Headers as NAME:VALUE. Raises CallerError."""
    header: dict[str, str] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise CallerError("a header needs NAME:VALUE, such as -H 'Authorization: Bearer ...'")
        header[name.strip()] = value.strip()
    return header


def part_from(text: str) -> Part:
    """A part as HTTP writes it: 0-99, 100-, -50; both ends belong to it. Raises CallerError."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        raise CallerError(f"--range {text!r} is no range: write 0-99, 100- or -50")
    if not found[1]:
        return Part(start=-int(found[2]))
    part = Part(start=int(found[1]), end=int(found[2]) + 1 if found[2] else None)
    if part.end is not None and part.end <= part.start:
        raise CallerError(f"--range {text!r} ends before it begins: write 0-99, 100- or -50")
    return part


async def get_file(download: Download, endpoint: Path, *, quiet: bool) -> Downloaded:
    """Have the daemon fetch and write; returns when the file is there. Raises OdonataError."""
    async with AsyncClient(endpoint) as client:
        return await get_whole(client, download, quiet=quiet)


async def get_whole(client: AsyncClient, download: Download, *, quiet: bool) -> Downloaded:
    """A whole content into a file. Raises OdonataError."""
    path = Path(download.output_path or "")
    with make_display(path.name, quiet=quiet) as display:
        done = await client.follow(download, display.told)
        display.done(str(path))
    return done


async def get_one(
    client: AsyncClient,
    url: str,
    output: Path,
    options: Options,
    *,
    part: Part | None = None,
    overwrite: bool = False,
    force_hard_link: bool = False,
    transfer: bool = False,
    quiet: bool = False,
) -> Downloaded:
    """One content, or a part of it, into a file or to stdout. Raises OdonataError.

    `transfer`: the file is written here, not by the daemon.
    """
    if part is None and output != STDOUT and not transfer:
        wish = make_download(url, options)
        written = to_file(wish, output, overwrite=overwrite, force_hard_link=force_hard_link)
        return await get_whole(client, written, quiet=quiet)
    if force_hard_link:
        raise CallerError("--force-hard-link needs a whole content, in a file the daemon writes")
    if part is not None and options.get("digest"):
        raise CallerError("--digest is that of the whole content: it can't be said of a --range")
    name = "stdout" if output == STDOUT else str(output)
    with make_display(name, quiet=quiet) as display:
        done = await read_into(
            client, url, output, options, part=part, overwrite=overwrite, told=display.told
        )
        display.done(name)
    return done


async def read_into(
    client: AsyncClient,
    url: str,
    output: Path,
    options: Options,
    *,
    part: Part | None = None,
    overwrite: bool = False,
    told: OnProgress,
) -> Downloaded:
    """One content, or a part of it, read from the daemon and written here. Raises OdonataError."""
    began_s = time.monotonic()
    async with open_sink(output, overwrite=overwrite) as sink:
        start, length = await _place(client, url, part or Part(start=0), options)
        async with await client.open_part(url, start, length, **options) as reader:
            await _copy(reader, length, sink, told)
    return reader.tally.end(url, output, reader.task_id, time.monotonic() - began_s)


async def _place(
    client: AsyncClient, url: str, part: Part, options: Options
) -> tuple[int, int | None]:
    """Where `part` begins, and how long it is (None: to the end)."""
    if part.start >= 0:
        return part.start, None if part.end is None else part.end - part.start
    length = (await client.stat(url, **options)).content_length
    if length is None:
        raise CallerError(
            "the origin does not say how long the content is: name the --range from its start"
        )
    return max(0, length + part.start), min(length, -part.start)


async def _copy(reader: AsyncReader, length: int | None, sink: BinaryIO, told: OnProgress) -> None:
    start = reader.tell()
    await reader.reach(start, length or 1)  # all of it is asked for at once
    while (left := None if length is None else start + length - reader.tell()) != 0:
        data = await reader.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
        if not data:
            break
        await asyncio.to_thread(sink.write, data)
        told(reader.tally.progress)
    if reader.tell() == start and start > await reader.size():
        raise CallerError(f"--range begins at {start}, behind the content's end")
    await reader.finish()


@contextmanager
def explained(url: str) -> Generator[None]:
    """Around a download: what the source said is told in full, as dfget tells it."""
    try:
        yield
    except SourceError as error:
        if error.status_code is None and not error.header:
            raise
        raise SourceError(
            "\n".join(_lines(url, error)), status_code=error.status_code, header=error.header
        ) from error


def _lines(url: str, error: SourceError) -> list[str]:
    lines = [f"can't get {shown_url(url)}"]
    if error.status_code is not None:
        lines.append(f"Bad Status Code: {error.status_code}")
    lines.append(f"Message: {error.detail}")
    if error.header:
        lines.append("Header:")
        lines += [
            f"  {name}: {HIDDEN if is_secret_key(name) else value}"
            for name, value in sorted(error.header.items())
        ]
    return lines
