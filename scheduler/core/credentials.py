"""What of a download is nobody's business but the source's, kept apart from the rest of it.

Request headers, and whatever a download says that no core knows (`extra`), hold secrets; they are
needed if a seed is asked to fetch what a peer wanted, and forgotten when its download has ended.
The rest is the same for nearly all peers of a task, and kept once for all of them.
"""

from __future__ import annotations

from sys import intern

from msgspec.structs import replace

from odonata.wire.message import Download, Value


class Credentials(Value, frozen=True, kw_only=True, gc=False):
    """What only one peer's download said. `headers`: name, value, name, value, ..."""

    headers: tuple[str, ...] = ()
    extra: bytes = b""
    output_path: str | None = None


def public_part(download: Download) -> Download:
    """The download without its credentials."""
    return replace(download, request_header={}, extra=b"", output_path=None)


def credentials_of(download: Download) -> Credentials | None:
    """The other part of it; None if there is nothing in it.

    Clients name the same few headers, and each name is kept once.
    """
    headers, extra, path = download.request_header, download.extra, download.output_path
    if not headers and not extra and path is None:
        return None
    flat = tuple([word for name, value in headers.items() for word in (intern(name), value)])
    return Credentials(headers=flat, extra=extra, output_path=path)


def joined(public: Download, credentials: Credentials | None) -> Download:
    """The download as it was."""
    if credentials is None:
        return public
    headers = credentials.headers
    return replace(
        public,
        request_header=dict(zip(headers[::2], headers[1::2], strict=True)),
        extra=credentials.extra,
        output_path=credentials.output_path,
    )
