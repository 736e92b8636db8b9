"""Every command of the program is in docs/commands.md, and prints JSON where that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from odonata.cli import root

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `odonata ([a-z ]+?)(?: [A-Z].*| bash.*)?` \| .* \| (.*) \|$", re.MULTILINE)


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Commands that do something, by their words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = (*path, name)
        if isinstance(command, click.Group) and words != ("task", "preheat"):  # `preheat` again
            yield from leaves(command, words)
        else:
            yield " ".join(words), command


def takes_json(command: click.Command) -> bool:
    if isinstance(command, click.Group):
        return all(takes_json(one) for _, one in leaves(command))
    return any("--json" in parameter.opts for parameter in command.params)


def test_commands_are_documented_with_the_json_that_they_print() -> None:
    rows = dict(ROW.findall((ROOT / "docs" / "commands.md").read_text()))
    found = dict(leaves(root))
    assert sorted(rows) == sorted(found)
    assert [name for name in rows if name.split()] == sorted(rows), "in alphabetical order"
    for name, command in found.items():
        prints = not rows[name].startswith("-")
        assert takes_json(command) is prints, f"odonata {name}: {rows[name]}"
