"""A setting that nothing reads is a lie: it must be in the table of keys without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from odonata.settings.schema import Setting, Shape, pattern_of, schema_of
from odonata.settings.section import Settings
from peer.settings import DaemonSettings
from scheduler.settings import SchedulerSettings

ROOT = Path(__file__).parents[2]
# Settings of which only one value may be said, so that there is nothing to read.
CONSTANT: set[str] = set()


def text_of(*rooms: str) -> str:
    files = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return "\n".join(path.read_text() for path in files if path.name != "settings.py")


def leaves(model: type[Settings]) -> Iterator[Setting]:
    sections = {Shape.SECTION, Shape.SECTIONS}
    return (s for s in schema_of(model).settings.values() if s.shape not in sections)


def is_without_effect(model: type[Settings], path: str) -> bool:
    pattern = pattern_of(path)
    keys = {ignored.key for ignored in model.dialect.ignored}
    above = [pattern[: m.start()] for m in re.finditer(r"[.\[]", pattern)]
    return pattern in keys or any(f"{key}.*" in keys for key in above)


@pytest.mark.parametrize(
    ("model", "rooms"),
    [
        (DaemonSettings, ("peer", "odonata")),
        (SchedulerSettings, ("scheduler", "odonata")),
    ],
)
def test_every_setting_is_read_or_said_to_have_no_effect(
    model: type[Settings], rooms: tuple[str, ...]
) -> None:
    text = text_of(*rooms)
    unread = [
        setting.path
        for setting in leaves(model)
        if not re.search(rf"\.{setting.attribute}\b", text)
        and not is_without_effect(model, setting.path)
    ]
    assert set(unread) <= CONSTANT, (
        f"read them, or list them in odonata/settings/dialect.py: {unread}"
    )
