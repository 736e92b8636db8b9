"""What fsspec's libraries raise, as SourceError: with HTTP's status, and without their words.

Each library has exceptions of its own; most keep what the origin answered, somewhere. Their texts
are never shown: they quote URLs, headers and answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import structlog

from odonata.errors import OdonataError, SourceError

Result = TypeVar("Result")

_log = structlog.get_logger("source")


async def guarded(shown: str, work: Awaitable[Result], timeout_s: float) -> Result:
    """Await `work`; whatever a library raises becomes a SourceError without its words."""
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except OdonataError:
        raise
    except TimeoutError as error:
        waited_s = time.monotonic() - started_s
        raise SourceError(f"{shown}: no answer within {waited_s:.0f} s") from error
    except Exception as error:  # noqa: BLE001  # each library has exceptions of its own
        raise _source_error(shown, error) from None


def _source_error(shown: str, error: BaseException) -> SourceError:
    _log.debug("source_failed", url=shown, kind=type(error).__name__)
    status = _status_of(error)
    hint = {
        401: "it wants credentials, or others than these",
        403: "it refuses: check the credentials",
        404: "it has no such content: check the URL",
    }.get(status or 0, f"it answers {status}" if status else f"it failed ({type(error).__name__})")
    return SourceError(f"{shown}: {hint}", status_code=status)


def _status_of(error: BaseException) -> int | None:
    """HTTP's status, or what comes nearest to it; None: it never answered.

    The libraries turn answers into exceptions of their own, mostly with the original as the cause.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        status = _own_status(link)
        if status is not None:
            return status
        link = link.__cause__ or link.__context__
    return None


def _own_status(error: BaseException) -> int | None:
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return 404
    if isinstance(error, PermissionError):
        return 403
    if type(error) is OSError and str(error).startswith("Forbidden: "):
        return 403  # gcsfs says it with words alone
    response = getattr(error, "response", None)
    candidates = [
        getattr(error, "status_code", None),
        getattr(error, "status", None),
        getattr(error, "code", None),
        getattr(response, "status_code", None),
    ]
    if isinstance(response, dict):  # botocore's
        meta = cast("dict[str, Any]", response).get("ResponseMetadata", {})
        candidates.append(meta.get("HTTPStatusCode"))
    for value in candidates:
        if isinstance(value, str) and value.isdecimal():
            value = int(value)  # noqa: PLW2901  # gcsfs writes it as text
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return _ftp_status(error)


def _ftp_status(error: BaseException) -> int | None:
    """RFC 959: 530 not logged in, 550 no such file or no access; 4xx pass by."""
    if not type(error).__name__.startswith("error_"):
        return None
    return {"530": 401, "532": 401, "550": 404, "553": 403}.get(str(error)[:3], 503)
