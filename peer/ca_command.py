"""`odonata ca`: options in, no work here. The work is in `peer.authority_file`."""

from __future__ import annotations

from pathlib import Path

import click

from odonata.cli import print_json

LIFE_DAYS = 3650
"""Ten years: an authority that ends takes every client that trusts it along."""


@click.group()
def ca() -> None:
    """Make an authority for the proxy's interception of HTTPS, and have hosts trust it."""


@ca.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path(),
    help="Where ca.crt and ca.key are written; default: here.",
)  # fmt: skip
@click.option("--name", default="Odonata proxy", show_default=True, help="Of the authority.")
@click.option("--days", type=click.IntRange(min=1, max=36500), default=LIFE_DAYS, show_default=True)
@click.option(
    "--host", "hosts", multiple=True,
    help="Sign for this host and those below it alone. Repeatable; default: for all.",
)  # fmt: skip
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def create(folder: Path, name: str, days: int, hosts: tuple[str, ...], json_form: bool) -> None:
    """Make an authority: a certificate that clients are to trust, and its key.

    Nothing is overwritten. Only its owner can read the key.
    """
    from datetime import UTC, datetime, timedelta

    from peer import authority_file

    cert, key = authority_file.create(
        folder, name=name, now=datetime.now(UTC), life=timedelta(days=days), hosts=hosts
    )
    if json_form:
        print_json({"cert": str(cert), "key": str(key)})
        return
    click.echo(f"{cert}: let the clients of the proxy trust it (odonata ca trust {cert})")
    click.echo(f"{key}: for the daemon alone. Its settings:\n")
    click.echo(f"proxy:\n  server:\n    caCert: {cert.absolute()}\n    caKey: {key.absolute()}")
    if hosts:
        click.echo("  interceptHosts:")
    for host in hosts:
        click.echo(f"    - regex: {_pattern(host)}")


@ca.command()
@click.argument("cert", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--undo", is_flag=True, help="Trust it no more.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def trust(cert: Path, undo: bool, dry_run: bool, json_form: bool) -> None:
    """Have this host's programs trust the authority of CERT (or no more, with --undo).

    Adds it to the system's store, which most programs read when they start: restart dockerd,
    containerd and podman's users afterwards. Needs root.
    """
    from peer import authority_file

    change = authority_file.plan_trust(cert, undo=undo)
    if change.is_needed and not dry_run:
        authority_file.apply_trust(change)
    if json_form:
        print_json(
            {
                "file": str(change.file),
                "command": list(change.command),
                "removes": change.content is None,
                "is_needed": change.is_needed,
                "done": change.is_needed and not dry_run,
            }
        )
        return
    what = "remove" if change.content is None else "write"
    if not change.is_needed:
        click.echo(f"nothing to do: {change.file} is {'not there' if undo else 'there'} already")
    elif dry_run:
        click.echo(f"would {what} {change.file} and run {' '.join(change.command)}")
    else:
        click.echo(f"{change.file}: {'removed' if undo else 'written'}, and the store renewed")
        click.echo("restart what is to know of it: dockerd, containerd")


def _pattern(host: str) -> str:
    import re

    return f"'(^|\\.){re.escape(host)}$'"
