"""`odonata daemon` and `odonata get`: the command lines of a peer.

The work is done in `peer.runtime` and `peer.get`, imported when a command is called.
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


@click.command()
@click.argument("url")
@click.option(
    "-O", "--output", required=True, type=click.Path(path_type=Path), help="File to write."
)
@click.option("-d", "--digest", help="What the content must be, such as sha256:HEX.")
@click.option("--tag", help="Makes another task of the same URL.")
@click.option("--application", help="Likewise, by who asks.")
@click.option(
    "-H", "--header", multiple=True, metavar="NAME:VALUE", help="For the source. Repeatable."
)
@click.option("--piece-length", metavar="SIZE", help="4MiB or more. Default: by content length.")
@click.option(
    "--filtered-query-param", multiple=True, metavar="NAME",
    help="Query parameter that does not make another task. Repeatable. Default: signatures.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--timeout", metavar="DURATION", help="Give up after, such as 30m. Default: never.")
@click.option(
    "-e", "--endpoint", type=click.Path(path_type=Path), envvar="ODONATA_DAEMON_SOCKET",
    help="The daemon's unix socket. Default: the one a daemon of this user makes.",
)  # fmt: skip
@click.option("--disable-back-to-source", is_flag=True, help="From peers or not at all.")
@click.option("--no-progress", is_flag=True, help="Say nothing but errors.")
def get(
    url: str,
    output: Path,
    digest: str | None,
    tag: str | None,
    application: str | None,
    header: tuple[str, ...],
    piece_length: str | None,
    filtered_query_param: tuple[str, ...],
    overwrite: bool,
    timeout: str | None,
    endpoint: Path | None,
    disable_back_to_source: bool,
    no_progress: bool,
) -> None:
    """Download URL through the daemon of this host into a file.

    What peers have comes from them, the rest from the source; what is here already is not fetched
    again. The file is whole and checked, or it is not there.
    """
    import asyncio

    from peer.daemon_socket import default_endpoint
    from peer.get import Wish, download_of, get_file

    wish = Wish(
        url=url,
        output=output,
        digest=digest,
        tag=tag,
        application=application,
        header=header,
        piece_length=piece_length,
        filtered_query_params=filtered_query_param,
        overwrite=overwrite,
        timeout=timeout,
        disable_back_to_source=disable_back_to_source,
    )
    download = download_of(wish)
    asyncio.run(get_file(download, endpoint or default_endpoint(), quiet=no_progress))
