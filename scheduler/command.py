"""`odonata scheduler`, `explain`, `preheat` and `host`: options in, no work here.

What they do is in `scheduler.runtime`, `scheduler.explain`, `scheduler.preheat_client` and
`scheduler.host_list`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

import click

from odonata.cli import SettingsOptions, print_json, settings_options

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
        print_json(explanation)
    else:
        show(Console(), explanation, last)


def _preheat_options(command: Callable[..., None]) -> Callable[..., None]:
    """What both kinds of preheat take."""
    for option in reversed(
        (
            click.argument("url"),
            click.option(
                "--scheduler",
                metavar="HOST:PORT",
                default="127.0.0.1:8002",
                show_default=True,
                help="The scheduler of the swarm.",
            ),
            click.option(
                "--scope",
                type=click.Choice(["single_seed_peer", "all_seed_peers", "all_peers"]),
                default="single_seed_peer",
                show_default=True,
                help="Which daemons fetch.",
            ),
            click.option("--ip", "ips", multiple=True, help="Only hosts with it. Repeatable."),
            click.option("--count", type=int, help="So many hosts of the scope."),
            click.option("--percentage", type=int, help="Such a part of them."),
            click.option("--tag", help="As the pulls will say."),
            click.option("--application", help="Likewise."),
            click.option("--piece-length", metavar="SIZE", help="Likewise."),
            click.option(
                "-H", "--header", multiple=True, metavar="NAME:VALUE", help="For the source."
            ),
            click.option("--priority", type=click.IntRange(0, 6), default=0, help="0 to 6."),
            click.option("--timeout", default="60m", show_default=True, help="For all of it."),
            click.option("--wait", is_flag=True, help="Until some host holds everything."),
            click.option("--stat", is_flag=True, help="Fetch nothing: show who holds it."),
            click.option("--json", "json_form", is_flag=True, help="As JSON."),
        )
    ):
        command = option(command)
    return command


@click.group()
def preheat() -> None:
    """Fetch images or files into the swarm ahead of time, or show who holds them.

    The scheduler checks and plans at once and fetches behind the call; its log and metrics tell how
    that went, --wait waits for it.
    """


@preheat.command()
@_preheat_options
@click.option("--platform", metavar="OS/ARCH", help="Of an index. Default: the scheduler's own.")
@click.option("--username", help="At the registry.")
@click.option(
    "--password-file", type=click.File(), help="Holds the password; -: read from standard input."
)
@click.option("--ca-cert", type=click.File("rb"), help="PEM of the registry's authority.")
@click.option("--insecure", is_flag=True, help="Take any certificate of the registry.")
def image(
    password_file: TextIO | None, ca_cert: BinaryIO | None, insecure: bool, **given: Any
) -> None:
    """Preheat an image: https://REGISTRY/v2/REPOSITORY/manifests/TAG."""
    given["password"] = password_file.read().rstrip("\n") if password_file else ""
    given["certificate_chain"] = [ca_cert.read()] if ca_cert else []
    given["insecure_skip_verify"] = insecure
    _preheat("image", given)


@preheat.command()
@_preheat_options
@click.option("--output-path", help="Where stock daemons write it on their hosts.")
def file(**given: Any) -> None:
    """Preheat a file, or with a URL that ends in "/" all below it (object storage)."""
    from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS

    # As `odonata get` names it.
    given["filtered_query_params"] = DEFAULT_FILTERED_QUERY_PARAMS
    _preheat("file", given)


def _preheat(kind: str, given: dict[str, Any]) -> None:
    import asyncio

    from rich.console import Console

    from odonata.errors import CallerError
    from odonata.units import parse_duration_s, parse_size
    from scheduler import preheat_client

    scheduler, only_show, waits = given.pop("scheduler"), given.pop("stat"), given.pop("wait")
    json_form = given.pop("json_form")
    length, timeout = given.pop("piece_length"), given.pop("timeout")
    try:
        timeout_s = parse_duration_s(timeout)
        given["piece_length"] = parse_size(length) if length else None
    except ValueError as error:
        raise CallerError(str(error)) from None
    given["header"] = dict(_header(text) for text in given["header"])
    wish = preheat_client.Wish(kind=kind, url=given.pop("url"), timeout_s=timeout_s, fields=given)
    if not only_show:
        asyncio.run(preheat_client.preheat(scheduler, wish))
    shown = None
    if only_show or waits:
        ask = preheat_client.holdings if only_show else preheat_client.wait
        shown = asyncio.run(ask(scheduler, wish))
    if json_form:
        print_json(preheat_client.report(wish, shown))
    elif shown is not None:
        Console().print(preheat_client.table(*shown))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"header {name!r} has no colon: write NAME:VALUE")
    return name.strip(), value.strip()


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
        print_json(found)
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
        print_json(found.hosts[0])
        return
    from rich.console import Console

    show_host(Console(), found.hosts[0], found.at_s)
