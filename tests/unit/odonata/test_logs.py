"""Logs: JSON and console, levels, secrets, libraries. What a call writes is read from stderr."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from odonata import logs
from odonata.settings.log import LogLevel, LogSettings

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Other tests see structlog and logging as they were."""
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    yield
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


def fail(error: Exception) -> None:
    raise error


def lines(capsys: Capture) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout is for results"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_json_is_one_object_on_each_line_with_the_event_in_front(capsys: Capture) -> None:
    logs.configure(LogSettings(format="json"), program="daemon")
    structlog.get_logger("x").info("piece_stored", task_id="t", bytes=4, path="two\nlines")
    (event,) = lines(capsys)
    assert list(event) == ["time", "level", "event", "program", "task_id", "bytes", "path"]
    assert event["time"].endswith("Z")
    assert (event["level"], event["event"], event["program"]) == ("info", "piece_stored", "daemon")
    assert (event["task_id"], event["bytes"], event["path"]) == ("t", 4, "two\nlines")


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_important_events_are_dropped(capsys: Capture, level: Any, heard: list[str]) -> None:
    logs.configure(LogSettings(level=level, format="json"))
    logger = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("event_happened")
    assert [event["level"] for event in lines(capsys)] == heard


def test_configuring_again_takes_effect_on_loggers_in_use(capsys: Capture) -> None:
    logger = structlog.get_logger()
    logs.configure(LogSettings(level="error", format="json"))
    logger.info("event_happened")
    logs.configure(LogSettings(level="info", format="json"))
    logger.info("event_happened")
    assert len(lines(capsys)) == 1


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_hidden_wherever_they_hide(capsys: Capture, log_format: Any) -> None:
    logs.configure(LogSettings(format=log_format))
    logger = structlog.get_logger().bind(header={"Authorization": "Bearer s3cr3t-1"})
    try:
        fail(ValueError("GET https://u:s3cr3t-2@h.test/?sig=s3cr3t-3 failed"))
    except ValueError:
        logger.exception(
            "request_failed",
            url="https://u:s3cr3t-4@h.test/?X-Amz-Signature=s3cr3t-5",
            token="s3cr3t-6",
            reason="Authorization: Basic s3cr3t-7",
        )
    written = capsys.readouterr().err
    assert "s3cr3t" not in written
    assert "request_failed" in written
    assert "Traceback" in written
    assert "https://***@h.test/" in written


def test_a_traceback_shows_no_local_variables(capsys: Capture) -> None:
    logs.configure(LogSettings(format="console"))
    hunter2 = "very" + "secret"
    try:
        fail(ValueError(len(hunter2)))
    except ValueError:
        structlog.get_logger().exception("request_failed")
    assert "verysecret" not in capsys.readouterr().err


def test_the_console_has_no_colours_where_nobody_sees_them(capsys: Capture) -> None:
    logs.configure(LogSettings(format="console"))
    structlog.get_logger().info("piece_stored", task_id="t")
    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert "piece_stored" in written
    assert "task_id=t" in written


def test_context_is_bound_for_everything_below(capsys: Capture) -> None:
    logs.configure(LogSettings(format="json"))
    with structlog.contextvars.bound_contextvars(peer_id="p"):
        structlog.get_logger().info("piece_stored")
    assert lines(capsys)[0]["peer_id"] == "p"


def test_libraries_arrive_as_events_once(capsys: Capture) -> None:
    logs.configure(LogSettings(format="json"))
    logs.configure(LogSettings(format="json"))
    library = logging.getLogger("asyncio.test")
    library.info("chatter")
    library.warning("%s took %d ms", "callback", 300)
    try:
        fail(OSError("broken"))
    except OSError:
        library.exception("it broke")
    taken, broke = lines(capsys)
    assert (taken["event"], taken["library"]) == ("library_logged", "asyncio.test")
    assert taken["message"] == "callback took 300 ms"
    assert (broke["level"], "OSError: broken" in broke["exception"]) == ("error", True)


def test_what_is_no_json_is_written_as_text(capsys: Capture) -> None:
    logs.configure(LogSettings(format="json"))
    structlog.get_logger().info("event_happened", kind=object, ids={"b"}, when=1.5)
    (event,) = lines(capsys)
    assert event["kind"] == "<class 'object'>"
    assert event["when"] == 1.5


def test_a_real_process_writes_to_stderr_only() -> None:
    code = (
        "import structlog; from odonata import logs; from odonata.settings.log import LogSettings;"
        "logs.configure(LogSettings(format='json'), program='x');"
        "structlog.get_logger(__name__).warning('event_happened', password='hunter2');"
        "import logging; logging.getLogger('lib').warning('%d wrong arguments', 'no')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert ours["password"] == "***"
    assert theirs["message"] == "%d wrong arguments"


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", True), ("info", True), ("warning", False), ("error", False)]
)
def test_what_is_not_written_need_not_be_put_together(level: LogLevel, shown: bool) -> None:
    logs.configure(LogSettings(level=level))
    assert logs.shows("info") is shown
    assert logs.shows("error")
