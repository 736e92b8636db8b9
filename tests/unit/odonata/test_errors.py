"""Errors: facts of the classes, which statuses are worth a retry, and what a user reads."""

from __future__ import annotations

import grpc
import pytest

from odonata import errors
from odonata.errors import (
    DESCRIPTION_LENGTH_MAX,
    CallerError,
    CapacityError,
    DigestMismatchError,
    NotFoundError,
    OdonataError,
    SourceError,
    describe,
    is_retryable,
    is_retryable_status,
)

ALL = [
    one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OdonataError)
]


@pytest.mark.parametrize("one", ALL)
def test_every_class_becomes_a_status_that_exists(one: type[OdonataError]) -> None:
    assert hasattr(grpc.StatusCode, one.grpc_status)
    assert 400 <= one.http_status <= 599
    assert one.exit_code in {1, 2}
    assert one.code.replace("_", "").isalpha()


@pytest.mark.parametrize("one", ALL)
def test_a_callers_error_is_never_retried_and_a_capacity_error_always(
    one: type[OdonataError],
) -> None:
    if issubclass(one, CallerError):
        assert not one.retryable
        assert one.http_status < 500
    if issubclass(one, CapacityError):
        assert one.retryable


@pytest.mark.parametrize(
    ("status_code", "expected"),
    [
        (None, True), (206, True), (304, False), (400, False), (401, False), (403, False),
        (404, False), (408, True), (416, False), (425, True), (429, True), (500, True),
        (501, False), (502, True), (503, True), (504, True), (505, False), (511, False),
    ],
)  # fmt: skip
def test_statuses_worth_a_retry(status_code: int | None, expected: bool) -> None:
    assert is_retryable_status(status_code) is expected
    assert is_retryable(SourceError("source failed", status_code=status_code)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DigestMismatchError("x"), True),
        (NotFoundError("x"), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ZeroDivisionError(), False),
    ],
)
def test_errors_worth_a_retry(error: BaseException, expected: bool) -> None:
    assert is_retryable(error) is expected


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotFoundError("task abc is not known"), "task abc is not known"),
        (TimeoutError(), "timed out"),
        (TimeoutError("no answer in 3 s"), "no answer in 3 s"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (KeyError("a"), "KeyError: 'a'"),
        (SourceError("two\nlines  here"), "two lines here"),
        (ExceptionGroup("g", [NotFoundError("a"), TimeoutError()]), "a (and 1 more)"),
        (ExceptionGroup("g", [NotFoundError("a")]), "a"),
    ],
)
def test_one_line_for_the_user(error: BaseException, text: str) -> None:
    assert describe(error) == text


def test_a_page_from_the_source_is_cut() -> None:
    assert len(describe(SourceError("<html>" * 1000))) == DESCRIPTION_LENGTH_MAX


def test_a_source_error_keeps_what_the_source_said() -> None:
    error = SourceError("refused", status_code=401, header={"www-authenticate": "Bearer"})
    assert (error.status_code, error.header) == (401, {"www-authenticate": "Bearer"})
    assert SourceError("refused").header == {}
