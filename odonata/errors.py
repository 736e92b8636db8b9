"""Every error Odonata raises on purpose, sorted by who must act on it.

One root with facts for each class: a stable `code` (metrics, JSON), whether trying again can help
(`retryable`), and the gRPC and HTTP status it becomes at a boundary. Errors are translated once, at
the boundary; expected outcomes inside a core are events and effects, not exceptions.
A message names the field or thing, the value, and the fix. Nothing here logs or sends.
"""

from __future__ import annotations

from typing import ClassVar, Final, cast


class OdonataError(Exception):
    """Root. `detail` is the message a user reads; it never holds a secret."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    grpc_status: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CallerError(OdonataError):
    """Whoever asked must change the request."""

    code = "invalid_argument"
    grpc_status = "INVALID_ARGUMENT"
    http_status = 400
    exit_code = 2


class SettingsError(CallerError):
    """A configuration file, variable or flag is wrong: the user edits it."""

    code = "bad_settings"


class NotFoundError(CallerError):
    """The thing asked for is not known here."""

    code = "not_found"
    grpc_status = "NOT_FOUND"
    http_status = 404
    exit_code = 1


class AlreadyExistsError(CallerError):
    """Something stands where the result should go."""

    code = "already_exists"
    grpc_status = "ALREADY_EXISTS"
    http_status = 409
    exit_code = 1


class PreconditionError(CallerError):
    """The request is well formed, but not in this state."""

    code = "failed_precondition"
    grpc_status = "FAILED_PRECONDITION"
    http_status = 409
    exit_code = 1


class ForbiddenError(CallerError):
    """A rule of this site forbids it."""

    code = "forbidden"
    grpc_status = "PERMISSION_DENIED"
    http_status = 403
    exit_code = 1


class PeerError(OdonataError):
    """The other side of a peer-to-peer exchange misbehaved: go elsewhere."""

    code = "peer"
    retryable = True
    grpc_status = "UNAVAILABLE"
    http_status = 502


class ProtocolError(PeerError):
    """Bytes that the protocol does not allow."""

    code = "protocol"


class DigestMismatchError(PeerError):
    """Content does not match its digest: whoever sent it is to blame."""

    code = "digest_mismatch"
    grpc_status = "DATA_LOSS"


class ListedDigestError(DigestMismatchError):
    """A piece does not match the digest that the scheduler was told by who had it from the source.

    Whoever sent it is to blame, though the digest it named itself may fit.
    """

    code = "listed_digest"


class WrongContentError(DigestMismatchError):
    """A whole content is not what its URL or its user says: it must not stay here."""

    code = "wrong_content"


class PeerRefusedError(PeerError):
    """The other side has no free upload slot, or does not hold the piece."""

    code = "peer_refused"


class PieceGivenError(PeerRefusedError):
    """The other side is giving the piece, and the others in `given`, to somebody else."""

    code = "piece_given"

    def __init__(self, detail: str, *, given: tuple[int, ...] = ()) -> None:
        super().__init__(detail)
        self.given = given


class UnavailableError(OdonataError):
    """A service of ours (scheduler, daemon) can't be reached."""

    code = "unavailable"
    retryable = True
    grpc_status = "UNAVAILABLE"
    http_status = 503


class SourceError(OdonataError):
    """The source refused or failed. Carries the source's status, so that a client can see it.

    `retryable` speaks for failures without a status; ask `is_retryable`, which looks at it.
    """

    code = "source"
    retryable = True
    grpc_status = "INTERNAL"
    http_status = 502

    def __init__(
        self, detail: str, *, status_code: int | None = None, header: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status_code = status_code
        self.header = header or {}


class CapacityError(OdonataError):
    """There is no room: try later, or make room."""

    code = "capacity"
    retryable = True
    grpc_status = "RESOURCE_EXHAUSTED"
    http_status = 429


class DiskFullError(CapacityError):
    """The volume of the data folder is full."""

    code = "disk_full"
    http_status = 507


class StorageError(OdonataError):
    """The data folder can't be used (permissions, corruption, ...): the operator must act."""

    code = "storage"


class InternalError(OdonataError):
    """A bug of ours."""

    code = "internal"


# What a source may answer now and not a moment later: 408 Request Timeout, 425 Too Early and
# 429 Too Many Requests (RFC 9110, 8470, 6585). All other 4xx repeat themselves.
RETRYABLE_CLIENT_STATUSES: Final = frozenset({408, 425, 429})
# 501 Not Implemented, 505 HTTP Version Not Supported, 511 Network Authentication Required: a
# property of the server or the network, not of the moment.
FATAL_SERVER_STATUSES: Final = frozenset({501, 505, 511})
# A log line or a table cell; what a source puts in its message may be a whole page.
DESCRIPTION_LENGTH_MAX: Final = 500


def is_retryable_status(status_code: int | None) -> bool:
    """Whether asking a source again can help after a failure with this HTTP status.

    None: it never answered. A failure under a 2xx is a body that broke off, so yes.
    """
    if status_code is None or status_code in RETRYABLE_CLIENT_STATUSES or status_code < 300:
        return True
    return status_code >= 500 and status_code not in FATAL_SERVER_STATUSES


def is_retryable(error: BaseException) -> bool:
    """Whether trying the same again can help. Unforeseen errors: no."""
    if isinstance(error, SourceError):
        return is_retryable_status(error.status_code)
    if isinstance(error, OdonataError):
        return error.retryable
    return isinstance(error, (TimeoutError, ConnectionError))


def describe(error: BaseException) -> str:
    """One line for a user or a log: what happened, without a class name where one is not needed."""
    if isinstance(error, BaseExceptionGroup):
        # The isinstance above loses what the group is made of.
        first, *others = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return describe(first) + (f" (and {len(others)} more)" if others else "")
    return _one_line(_text_of(error))


def _text_of(error: BaseException) -> str:
    if isinstance(error, OdonataError):
        return error.detail
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    if isinstance(error, TimeoutError):
        return str(error) or "timed out"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= DESCRIPTION_LENGTH_MAX else f"{line[: DESCRIPTION_LENGTH_MAX - 1]}…"
