"""Asks a scheduler's status page: what `odonata explain` and `odonata host` have in common.

Answers are checked against a type; whatever goes wrong is one clear error.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from odonata.errors import (
    CallerError,
    ForbiddenError,
    NotFoundError,
    OdonataError,
    ProtocolError,
    UnavailableError,
)

DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT_S: Final = 10.0
"""The answer takes milliseconds; who needs longer is not well."""
ANSWER_BYTES_LIMIT: Final = 16 * 1024 * 1024
"""Fifty decisions with 32 candidates, or a thousand hosts, are below 1 MiB."""

_ERRORS: Final[dict[int, type[OdonataError]]] = {403: ForbiddenError, 404: NotFoundError}

T = TypeVar("T")


def ask_page(url: str, path: str, query: dict[str, str], answer: type[T]) -> T:
    """What the page `path` says, as an `answer`.

    Raises NotFoundError, ForbiddenError, CallerError as the page says, UnavailableError if nobody
    listens, ProtocolError if it is no scheduler that answers.
    """
    text = _get(f"{url.rstrip('/')}{path}?{urlencode(query)}", url)
    try:
        return msgspec.json.decode(text, type=answer)
    except msgspec.DecodeError as error:
        raise _stranger(url, str(error)) from None


def _get(address: str, url: str) -> bytes:
    if urlsplit(url).scheme not in ("http", "https"):
        raise CallerError(f"{url!r} is no URL: write {DEFAULT_URL}")
    # No proxy of the environment: it is a neighbour that is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=TIMEOUT_S) as response:
            body: bytes = response.read(ANSWER_BYTES_LIMIT)
    except urllib.error.HTTPError as error:
        raise _refusal(url, error) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(
            f"no scheduler's page answers at {url} ({reason}): it is off unless the scheduler runs "
            "with metrics.enable (--set metrics.enable=true); name its metrics.addr with "
            "--scheduler-status"
        ) from None
    return body


def _refusal(url: str, error: urllib.error.HTTPError) -> OdonataError:
    with error:
        text = error.read(ANSWER_BYTES_LIMIT)
    try:
        detail = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return _stranger(url, f"HTTP {error.code}")
    return _ERRORS.get(error.code, CallerError)(str(detail))


def _stranger(url: str, problem: str) -> ProtocolError:
    return ProtocolError(f"what answers at {url} is no scheduler's status page: {problem}")
