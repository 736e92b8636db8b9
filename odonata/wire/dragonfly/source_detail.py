"""SourceError <-> the details of a gRPC status, as Dragonfly's daemons write them.

The status is INTERNAL and the bytes of `grpc-status-details-bin` are the JSON of
errordetails.v2.Backend itself: {"message": ..., "header": {...}, "status_code": ...}, not a
google.rpc.Status.
"""

from __future__ import annotations

import msgspec

from odonata.errors import SourceError

DETAILS_KEY = "grpc-status-details-bin"

# Trailers travel as HTTP/2 headers: 8 KiB is what gRPC takes by default, base64 adds a third, and
# other trailers need room too. Whatever does not fit is left out, the largest headers first.
MAX_DETAILS_BYTES = 4096
_MAX_MESSAGE_CHARACTERS = 512


class _Backend(msgspec.Struct):
    message: str = ""
    header: dict[str, str] = {}
    status_code: int | None = None


def source_error_to_details(error: SourceError) -> bytes:
    """JSON of Backend, at most MAX_DETAILS_BYTES."""
    header = dict(error.header)
    message = error.detail[:_MAX_MESSAGE_CHARACTERS]
    backend = _Backend(message=message, header=header, status_code=error.status_code)
    details = msgspec.json.encode(backend)
    for name in sorted(header, key=lambda name: len(header[name]), reverse=True):
        if len(details) <= MAX_DETAILS_BYTES:
            break
        del backend.header[name]
        details = msgspec.json.encode(backend)
    return details


def source_error_from_details(details: bytes) -> SourceError | None:
    """The error in `details`, or None if they are something else (another server, another API)."""
    try:
        backend = msgspec.json.decode(details, type=_Backend)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return SourceError(backend.message, status_code=backend.status_code, header=backend.header)
