"""`odonata scheduler`: the command line of a scheduler. The work is done in `scheduler.runtime`."""

from __future__ import annotations

import click

from odonata.cli import SettingsOptions, settings_options


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
