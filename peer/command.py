"""`odonata daemon`: the command line of a peer.

The work is done in `peer.runtime`, imported when the command is called.
"""

from __future__ import annotations

from pathlib import Path

import click

from odonata.cli import SettingsOptions, settings_options


@click.command()
@settings_options
@click.option("--seed", is_flag=True, default=None, help="Be a seed peer: go to sources for all.")
@click.option("--scheduler", multiple=True, metavar="HOST:PORT",
    help="A scheduler; HOST:8002-8005 for several workers. Repeatable.",
)  # fmt: skip
@click.option("--ip", help="Address of this host that others connect to. Default: found out.")
@click.option("--hostname", help="Name of this host. Default: the system's.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where content is kept.")
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket for `odonata get`.")
@click.option("--upload-port", type=int, help="gRPC for schedulers and peers. Default: 4000.")
@click.option("--piece-port", type=int, help="Pieces for peers. Default: 4005.")
@click.option("--proxy-port", type=int, help="HTTP proxy. Default: 65001. Everywhere 0: any.")
def daemon(
    options: SettingsOptions,
    seed: bool | None,
    scheduler: tuple[str, ...],
    ip: str | None,
    hostname: str | None,
    data_dir: Path | None,
    socket: Path | None,
    upload_port: int | None,
    piece_port: int | None,
    proxy_port: int | None,
) -> None:
    """Run a peer daemon: it downloads for this host and gives to others.

    Container runtimes use its HTTP proxy, people `odonata get`. SIGTERM or Ctrl-C stops it; what it
    holds is kept. Without a scheduler every download goes to its source.
    """
    import uvloop

    from peer.runtime.daemon import run
    from peer.settings import DaemonSettings

    flags = {
        "seedPeer.enable": seed,
        "scheduler.addrs": list(scheduler) or None,
        "host.ip": ip,
        "host.hostname": hostname,
        "storage.dir": None if data_dir is None else str(data_dir.absolute()),
        "download.server.socketPath": None if socket is None else str(socket.absolute()),
        "upload.server.port": upload_port,
        "storage.server.tcpPort": piece_port,
        "proxy.server.port": proxy_port,
    }
    uvloop.run(run(options.apply(DaemonSettings, flags)))
