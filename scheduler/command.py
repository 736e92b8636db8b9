"""`odonata scheduler`, `odonata explain` and `odonata host`: options in, no work here.

What they do is in `scheduler.runtime`, `scheduler.explain` and `scheduler.host_list`.
"""

from __future__ import annotations

import click

from odonata.cli import SettingsOptions, settings_options

_STATUS = click.option(
    "--scheduler-status",
    "url",
    metavar="URL",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The scheduler's status page (metrics.addr).",
)


@click.command()
@settings_options
@click.option("--listen-ip", help="Address to listen on. Default: 0.0.0.0, all of them.")
@click.option("--port", type=int, help="Port to listen on; 0: any free one. Default: 8002.")
def scheduler(options: SettingsOptions, listen_ip: str | None, port: int | None) -> None:
    """Run a scheduler: it tells each peer from whom to download.

    Peers (ours and Dragonfly's) reach it by gRPC. Its state is soft: after a restart it learns
    again from the peers who holds what. SIGTERM or Ctrl-C stops it.
    """
    import uvloop

    from scheduler.runtime.app import run
    from scheduler.settings import SchedulerSettings

    flags = {"server.listenIP": listen_ip, "server.port": port}
    uvloop.run(run(options.apply(SchedulerSettings, flags)))


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--peer", "kind", flag_value="peer", help="ID is a peer's: a child that asked.")
@click.option("--task", "kind", flag_value="task", help="ID is a task's.")
@_STATUS
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many decisions are shown.",
)
@click.option("--json", "json_form", is_flag=True, help="All of them, as JSON.")
def explain(id_: str, kind: str | None, url: str, last: int, json_form: bool) -> None:
    """Show why a scheduler gave a peer its parents: candidates, scores, features, who ranked.

    ID is that of a peer or a task, or the beginning of it. The scheduler remembers its latest
    decisions; it must run with metrics.enable, and tells them to its own machine alone unless
    metrics.explainRemotely is set.
    """
    from rich.console import Console

    from scheduler.explain import ask, show

    explanation = ask(url, kind, id_)
    if json_form:
        _print_json(explanation)
    else:
        show(Console(), explanation, last)


@click.group()
def host() -> None:
    """Look at the hosts that a scheduler knows: whom it trusts, and what they serve.

    The scheduler must run with metrics.enable, and tells them to its own machine alone unless
    metrics.explainRemotely is set.
    """


@host.command("ls")
@_STATUS
@click.option("--json", "json_form", is_flag=True, help="As JSON, with all that is known of each.")
def host_ls(url: str, json_form: bool) -> None:
    """List all hosts, those that are not trusted first.

    Standing: Good; Evicted: its children complained, and it gets no more of them for a while;
    OnProbation: it may prove itself to one child at a time. Failures are those of the last minutes.
    """
    from scheduler.host_list import ask_hosts, show_hosts

    found = ask_hosts(url)
    if json_form:
        _print_json(found)
        return
    from rich.console import Console

    show_hosts(Console(), found)


@host.command("show")
@click.argument("id_", metavar="ID")
@_STATUS
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def host_show(id_: str, url: str, json_form: bool) -> None:
    """Show all that is known of one host. ID is its id, or the beginning of it."""
    from scheduler.host_list import ask_host, show_host

    found = ask_host(url, id_)
    if json_form:
        _print_json(found.hosts[0])
        return
    from rich.console import Console

    show_host(Console(), found.hosts[0], found.at_s)


def _print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
