"""How much a program says, and in which form. What it says is in `odonata.logs`."""

from __future__ import annotations

from typing import Literal

from odonata.settings.section import Section, Settings

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]


class LogSettings(Section):
    """Logs go to stderr; whoever starts the program keeps and rotates them."""

    level: LogLevel = "info"
    format: LogFormat = "console"
    """"console" for people, "json" for collectors (one object on each line)."""
    worker: int | None = None
    """Set by `odonata scheduler --workers`: told in each line, since all workers share a stderr."""


class ProgramSettings(Settings):
    """The settings of a program that runs and says what it does."""

    log: LogSettings = LogSettings()
