"""What one check found: how bad, what, and what to do about it. No check is made here."""

from __future__ import annotations

from enum import StrEnum

from odonata.wire.message import Value


class Level(StrEnum):
    """How bad it is. A daemon starts and serves with warnings, and does not with a failure."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(Value, frozen=True, kw_only=True):
    """`check` is a stable name; `subject`: of which of several things, such as an address."""

    check: str
    level: Level
    detail: str
    fix: str | None = None
    subject: str | None = None


def ok(check: str, detail: str, *, subject: str | None = None) -> Finding:
    """Nothing to do."""
    return Finding(check=check, level=Level.OK, detail=detail, subject=subject)


def warning(check: str, detail: str, fix: str, *, subject: str | None = None) -> Finding:
    """It works, and could work better."""
    return Finding(check=check, level=Level.WARNING, detail=detail, fix=fix, subject=subject)


def failure(check: str, detail: str, fix: str, *, subject: str | None = None) -> Finding:
    """It does not work."""
    return Finding(check=check, level=Level.FAILURE, detail=detail, fix=fix, subject=subject)


def split_fix(message: str) -> tuple[str, str]:
    """An error's message as our errors are written ("what: fix", "what; fix"), in its two parts."""
    for mark in ("; ", ": "):
        detail, found, fix = message.rpartition(mark)
        if found:
            return detail, fix
    return message, "see the message"
