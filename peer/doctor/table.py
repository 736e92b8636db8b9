"""Findings for people: the bad ones first, each with its fix, and one line to sum up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from peer.doctor.finding import Finding, Level

_ORDER: Final = (Level.FAILURE, Level.WARNING, Level.OK)
_STYLE: Final = {Level.FAILURE: "bold red", Level.WARNING: "yellow", Level.OK: "green"}
_INDENT: Final = 9


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line or two for each; lines are broken at the console's width."""
    for level in _ORDER:
        for finding in findings:
            if finding.level is level:
                _show(console, finding)
    count = Counter(finding.level for finding in findings)
    failures, warnings = count[Level.FAILURE], count[Level.WARNING]
    if not failures and not warnings:
        console.print("Nothing is wrong.")
    else:
        console.print(f"{_plural(failures, 'failure')}, {_plural(warnings, 'warning')}.")


def _show(console: Console, finding: Finding) -> None:
    line = Text(f"{finding.level:<{_INDENT}}", style=_STYLE[finding.level])
    line.append(finding.check, style="bold")
    subject = f" {finding.subject}" if finding.subject else ""
    line.append(f"{subject}: {finding.detail}", style="default not bold")
    console.print(line, highlight=False)
    if finding.fix is not None:
        console.print(Padding(Text(f"-> {finding.fix}"), (0, 0, 0, _INDENT)), highlight=False)


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
