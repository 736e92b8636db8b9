"""`odonata scheduler` and `odonata explain`: options in, no work here.

What they do is in `scheduler.runtime` and `scheduler.explain`.
"""

from __future__ import annotations

import click

from odonata.cli import SettingsOptions, settings_options


@click.command()
@settings_options
@click.option("--listen-ip", help="Address to listen on. Default: 0.0.0.0, all of them.")
@click.option("--port", type=int, help="Port to listen on; 0: any free one. Default: 8002.")
@click.option(
    "--workers", type=int, help="Schedulers, on consecutive ports from --port on. Default: 1."
)
def scheduler(
    options: SettingsOptions, listen_ip: str | None, port: int | None, workers: int | None
) -> None:
    """Run a scheduler: it tells each peer from whom to download.

    Peers (ours and Dragonfly's) reach it by gRPC. Its state is soft: after a restart it learns
    again from the peers who holds what. Several workers are several schedulers: tell daemons all
    their addresses (--scheduler HOST:8002-8005). SIGTERM or Ctrl-C stops it.
    """
    import uvloop

    from scheduler.settings import SchedulerSettings

    flags: dict[str, object] = {
        "server.listenIP": listen_ip,
        "server.port": port,
        "server.workers": workers,
    }
    settings = options.apply(SchedulerSettings, flags)
    if settings.server.workers > 1:
        from scheduler import workers as several

        given = {**(options.overrides or {}), **{k: v for k, v in flags.items() if v is not None}}
        lines = several.command_lines(settings, options.config, given)
        uvloop.run(several.run(lines))
        return
    from scheduler.runtime.app import run

    uvloop.run(run(settings))


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--peer", "kind", flag_value="peer", help="ID is a peer's: a child that asked.")
@click.option("--task", "kind", flag_value="task", help="ID is a task's.")
@click.option(
    "--scheduler-status",
    "url",
    metavar="URL",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The scheduler's status page (metrics.addr).",
)
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

    ID is that of a peer or a task. The scheduler remembers its latest decisions; it must run with
    metrics.enable, and tells them to its own machine alone unless metrics.explainRemotely is set.
    """
    import msgspec
    from rich.console import Console

    from scheduler.explain import ask, show

    explanation = ask(url, kind, id_)
    if json_form:
        click.echo(msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode())
    else:
        show(Console(), explanation, last)
