"""OdonataError <-> gRPC status, in both directions; the one place where either becomes the other.

A status carries our stable error code in a trailer that strangers ignore, so that our own programs
get the very class back; a SourceError also carries what the source said, as Dragonfly's daemons
send it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import grpc

from odonata import errors
from odonata.errors import OdonataError, SourceError
from odonata.wire.dragonfly import (
    DETAILS_KEY,
    source_error_from_details,
    source_error_to_details,
)

CODE_KEY = "odonata-code"

# The message of a status travels in a trailer, and those share 8 KiB (gRPC's default) with the
# details.
_MAX_DETAIL_CHARACTERS = 1024

# What grpcio itself says, in the place of a status, of a call that ended while it was written to:
# it may find that the write failed before it has read why. Most often the connection has broken.
_CUT_WRITE: Final = "Internal error from Core"

Trailers = tuple[tuple[str, str | bytes], ...]

# What a status means when the other side does not say more. Statuses that blame the other side
# become PeerError: whoever asked goes elsewhere.
_BY_STATUS: Final[dict[grpc.StatusCode, type[OdonataError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.CallerError,
    grpc.StatusCode.OUT_OF_RANGE: errors.CallerError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.PERMISSION_DENIED: errors.ForbiddenError,
    grpc.StatusCode.UNAUTHENTICATED: errors.ForbiddenError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.CapacityError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.DigestMismatchError,
    grpc.StatusCode.UNIMPLEMENTED: errors.ProtocolError,
}


def _classes(root: type[OdonataError]) -> dict[str, type[OdonataError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _classes(child)
    return found


_BY_CODE: Final = _classes(OdonataError)


def status_of(error: OdonataError) -> tuple[grpc.StatusCode, str, Trailers]:
    """Status code, message and trailers of `error`, for `context.abort`."""
    status = grpc.StatusCode[error.grpc_status]
    trailers: Trailers = ((CODE_KEY, error.code),)
    if isinstance(error, SourceError):
        trailers += ((DETAILS_KEY, source_error_to_details(error)),)
    return status, error.detail[:_MAX_DETAIL_CHARACTERS], trailers


class Failure(Protocol):
    """How a call failed: an AioRpcError, or what grpc's calls without asyncio raise."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def code_of(failure: Failure) -> grpc.StatusCode:
    """The status of `failure`; UNAVAILABLE if it is not the other side's word, but a cut write."""
    if failure.code() is grpc.StatusCode.INTERNAL and failure.details() == _CUT_WRITE:
        return grpc.StatusCode.UNAVAILABLE
    return failure.code()


def error_of(failure: Failure, whom: str) -> OdonataError:
    """What `failure` of a call means here. `whom` was called, like "scheduler 10.0.0.1:8002"."""
    trailers = dict(failure.trailing_metadata() or ())
    details = trailers.get(DETAILS_KEY)
    if failure.code() is grpc.StatusCode.INTERNAL and isinstance(details, bytes):
        source_error = source_error_from_details(details)
        if source_error is not None:
            return source_error
    code = trailers.get(CODE_KEY)
    text = f"{whom}: {failure.details() or failure.code().name.lower()}"
    if isinstance(code, str) and code in _BY_CODE:
        return _foreign(_BY_CODE[code])(text)
    return _BY_STATUS.get(code_of(failure), errors.PeerError)(text)


def _foreign(kind: type[OdonataError]) -> type[OdonataError]:
    # A bug over there is not a bug of ours: for us, that other side misbehaved.
    return errors.PeerError if kind in {OdonataError, errors.InternalError} else kind
