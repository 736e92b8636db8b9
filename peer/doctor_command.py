"""`odonata doctor`: options in, no work here. The checks are in `peer.doctor`."""

from __future__ import annotations

import click

from odonata.cli import SettingsOptions, print_json, settings_options


@click.command()
@settings_options
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def doctor(options: SettingsOptions, json_form: bool) -> None:
    """Look for what keeps a daemon on this host from working well, and say how to mend it.

    Give it the settings that the daemon gets (--config, --set, the environment). It changes
    nothing, and works before the daemon is started as well as beside it. Exit code 1 if something
    is a failure; warnings are advice.
    """
    import asyncio
    import os

    from peer.doctor.examination import Surroundings, examine
    from peer.doctor.finding import Level

    findings = asyncio.run(examine(options, Surroundings(environ=os.environ)))
    is_well = all(one.level is not Level.FAILURE for one in findings)
    if json_form:
        print_json({"is_well": is_well, "findings": findings})
    else:
        from rich.console import Console

        from peer.doctor.table import show_findings

        show_findings(Console(), findings)
    if not is_well:
        click.get_current_context().exit(1)
