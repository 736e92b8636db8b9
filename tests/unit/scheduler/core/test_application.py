"""The level of a download: its own, or its application's."""

from __future__ import annotations

import pytest

from odonata.errors import CallerError
from odonata.wire.message import Download
from scheduler.core.application import Application, Priorities, UrlPriority

PRIORITIES = Priorities(
    [
        Application(
            name="train",
            priority=4,
            url_priorities=(
                UrlPriority(regex="/checkpoints/", value=3),
                UrlPriority(regex="/check", value=2),
            ),
        ),
        Application(name="train", priority=1),
        Application(name="serve"),
        Application(name="", priority=5),
    ]
)


def level(application: str | None, path: str = "/file", priority: int = 0) -> int:
    download = Download(url=f"http://origin.test{path}", application=application, priority=priority)
    return PRIORITIES.of(download)


@pytest.mark.parametrize(
    ("application", "path", "priority", "expected"),
    [
        ("train", "/file", 0, 4),
        ("train", "/checkpoints/7", 0, 3),
        ("train", "/checks", 0, 2),
        ("train", "/checkpoints/7", 6, 6),
        ("train", "/file", 1, 1),
        ("serve", "/checkpoints/7", 0, 0),
        ("Train", "/file", 0, 0),
        ("unknown", "/file", 0, 0),
        (None, "/file", 0, 5),
        (None, "/file", 2, 2),
    ],
)
def test_level(application: str | None, path: str, priority: int, expected: int) -> None:
    assert level(application, path, priority) == expected


def test_with_no_application_configured_a_download_keeps_its_level() -> None:
    assert Priorities().of(Download(url="http://origin.test/", application="train")) == 0


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(CallerError, match="RE2"):
        Priorities([Application(name="a", url_priorities=(UrlPriority(regex="(", value=1),))])
