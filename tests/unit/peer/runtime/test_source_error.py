"""What libraries raise becomes an error with the origin's status and without their words."""

from __future__ import annotations

import asyncio
import ftplib

import pytest

from odonata.errors import CallerError, SourceError
from peer.runtime.source_error import guarded


class _AnsweredError(Exception):
    def __init__(self, **facts: object) -> None:
        super().__init__("hush")
        self.__dict__ |= facts


class _Response:
    status_code = 429


def _chained() -> Exception:
    error = ValueError("hush")
    error.__cause__ = _AnsweredError(status_code=503)
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError("hush"), 404),
        (NotADirectoryError("hush"), 404),
        (PermissionError("hush"), 403),
        (OSError("Forbidden: hush"), 403),
        (OSError("hush"), None),
        (_AnsweredError(status_code=401), 401),
        (_AnsweredError(status=416), 416),
        (_AnsweredError(code="502"), 502),
        (_AnsweredError(code="AccessDenied"), None),
        (_AnsweredError(status_code=200), None),
        (_AnsweredError(response=_Response()), 429),
        (_AnsweredError(response={"ResponseMetadata": {"HTTPStatusCode": 403}}), 403),
        (_chained(), 503),
        (ftplib.error_perm("530 hush"), 401),
        (ftplib.error_perm("550 hush"), 404),
        (ftplib.error_temp("421 hush"), 503),
        (RuntimeError("hush"), None),
    ],
)
async def test_the_status_is_found_and_nothing_else_is_told(
    error: Exception, status: int | None
) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(SourceError) as caught:
        await guarded("s3://bucket/key", fail(), 10)
    assert caught.value.status_code == status
    assert "s3://bucket/key" in caught.value.detail
    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_our_own_errors_pass() -> None:
    async def fail() -> None:
        raise CallerError("as it is")

    with pytest.raises(CallerError, match="as it is"):
        await guarded("s3://bucket/key", fail(), 10)


async def test_who_does_not_answer_is_not_waited_for() -> None:
    with pytest.raises(SourceError, match="no answer within"):
        await guarded("s3://bucket/key", asyncio.Event().wait(), 0)


async def test_what_is_answered_is_given() -> None:
    assert await guarded("s3://bucket/key", asyncio.sleep(0, "answer"), 10) == "answer"
