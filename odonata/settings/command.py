"""`odonata config`: what a program would run with, and where each value comes from."""

from __future__ import annotations

import click

from odonata.cli import SettingsOptions, found, load_entry, settings_options
from odonata.errors import SettingsError
from odonata.settings.log import ProgramSettings
from odonata.settings.printing import as_json, as_yaml

_ENTRY_POINTS = "odonata.settings"


@click.command()
@click.argument("program", metavar="daemon|scheduler|manager")
@settings_options
@click.option("--json", "json_form", is_flag=True, help="As JSON, with origins and warnings.")
def config(program: str, options: SettingsOptions, json_form: bool) -> None:
    """Show the effective settings of a program, each with its origin. Secrets are hidden.

    A value comes from the command line (--set), else from the environment
    (ODONATA_PROXY__SERVER__PORT), else from the YAML file (--config), else from its default.
    """
    loaded = options.read(_model(program))
    click.echo(as_json(loaded) if json_form else as_yaml(loaded), nl=False)


def _model(program: str) -> type[ProgramSettings]:
    entries = found(_ENTRY_POINTS)
    if program not in entries:
        raise SettingsError(
            f"{program!r} is no program with settings: name one of {', '.join(sorted(entries))}"
        )
    model = load_entry(entries[program])
    if not (isinstance(model, type) and issubclass(model, ProgramSettings)):
        raise SettingsError(
            f"entry point {program} = {entries[program].value} is no settings model"
        )
    return model
