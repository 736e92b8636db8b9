"""`odonata doctor`: options in, no work here. The checks are in `peer.doctor`."""

from __future__ import annotations

from typing import TextIO

import click

from odonata.cli import SettingsOptions, print_json, settings_options


@click.command()
@settings_options
@click.option("--pull", "image", metavar="IMAGE", help="Pull it by the running daemon's proxy.")
@click.option("--username", default="", help="At the image's registry.")
@click.option(
    "--password-file", type=click.File(), help="Holds the password; -: read from standard input."
)
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def doctor(
    options: SettingsOptions,
    image: str | None,
    username: str,
    password_file: TextIO | None,
    json_form: bool,
) -> None:
    """Look for what keeps a daemon on this host from working well, and say how to mend it.

    Give it the settings that the daemon gets (--config, --set, the environment). It changes
    nothing, and works before the daemon is started as well as beside it. Exit code 1 if something
    is a failure; warnings are advice.

    With --pull it proves one pull, end to end: the image REGISTRY/REPOSITORY:TAG of this machine's
    platform, every blob checked and thrown away, and whether it came by the swarm.
    """
    import asyncio
    import os

    from odonata.image.reader import RegistryLogin
    from peer.doctor.examination import Surroundings, examine
    from peer.doctor.finding import Level
    from peer.doctor.pull import PullWish

    password = password_file.read().rstrip("\n") if password_file else ""
    login = RegistryLogin(username=username, password=password)
    pull = None if image is None else PullWish(image=image, login=login)
    findings = asyncio.run(examine(options, Surroundings(environ=os.environ), pull))
    is_well = all(one.level is not Level.FAILURE for one in findings)
    if json_form:
        print_json({"is_well": is_well, "findings": findings})
    else:
        from rich.console import Console

        from peer.doctor.table import show_findings

        show_findings(Console(), findings)
    if not is_well:
        click.get_current_context().exit(1)
