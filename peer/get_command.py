"""`odonata get`: its command line. The work is done in `peer.get_run`, imported when called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from peer.storage_option import storage_options

if TYPE_CHECKING:
    from odonata.client import Options

_Command = TypeVar("_Command", bound=Callable[..., Any])

# option prefix -> field of the request, name
_HUBS: Final = {
    "hf": ("hugging_face", "Hugging Face"),
    "ms": ("model_scope", "ModelScope"),
    "csg": ("open_csg", "OpenCSG"),
}
_HUB_FIELDS: Final = {
    "token": "access token.",
    "revision": "branch, tag or commit.",
    "base_url": "server.",
}
# Options of the request that are said as they are meant.
_PLAIN: Final = (
    "digest",
    "tag",
    "application",
    "priority",
    "content_for_calculating_task_id",
    "no_p2p",
    "disable_back_to_source",
    "revalidate",
)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _origin_options(command: _Command) -> _Command:
    """--hdfs-*, and those of each model hub."""
    for prefix, (_, title) in reversed(_HUBS.items()):
        for field, meaning in reversed(_HUB_FIELDS.items()):
            name = f"{prefix}_{field}"
            variable = f"ODONATA_{name.upper()}"
            command = click.option(_flag(name), envvar=variable, help=f"{title}: {meaning}")(
                command
            )
    return click.option(
        "--hdfs-delegation-token", envvar="ODONATA_HDFS_DELEGATION_TOKEN", help="For WebHDFS."
    )(command)


@click.command()
@click.argument("url")
@click.option(
    "-O", "--output", required=True, type=click.Path(path_type=Path, allow_dash=True),
    help="File to write (with --recursive: folder); - for stdout.",
)  # fmt: skip
@click.option("-d", "--digest", help="What the content must be, such as sha256:HEX.")
@click.option("--range", "part", metavar="RANGE", help="Only these bytes: 0-99, 100- or -50.")
@click.option("--tag", help="Makes another task of the same URL.")
@click.option("--application", help="Likewise, by who asks.")
@click.option(
    "--content-for-calculating-task-id", metavar="TEXT",
    help="Makes the task's id of this text alone: for one content under several URLs.",
)  # fmt: skip
@click.option(
    "-p", "--priority", type=click.IntRange(0, 6), default=0, help="Dragonfly's level, 0 to 6."
)
@click.option(
    "-H", "--header", multiple=True, metavar="NAME:VALUE", help="For the source. Repeatable."
)
@click.option("--piece-length", metavar="SIZE", help="4MiB or more. Default: by content length.")
@click.option(
    "--filtered-query-param", multiple=True, metavar="NAME",
    help="Query parameter that does not make another task. Repeatable. Default: signatures.",
)  # fmt: skip
@click.option("-r", "--recursive", is_flag=True, help="All files below the folder URL.")
@click.option(
    "-I", "--include", "--include-files", multiple=True, metavar="GLOB",
    help="With -r: only these. Repeatable.",
)  # fmt: skip
@click.option("--exclude", multiple=True, metavar="GLOB", help="With -r: not these. Repeatable.")
@click.option(
    "--max-files", type=click.IntRange(1), default=100, show_default=True, help="With -r: no more."
)
@click.option(
    "--max-concurrent-requests", type=click.IntRange(1, 64), default=5, show_default=True,
    help="With -r: files at once.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--force-hard-link", is_flag=True, help="Link to the daemon's file, or fail.")
@click.option(
    "--transfer-from-dfdaemon", "transfer", is_flag=True,
    help="Write the output here, as this user, not as the daemon.",
)  # fmt: skip
@click.option("--timeout", metavar="DURATION", help="Give up after, such as 30m. Default: never.")
@click.option(
    "-e", "--endpoint", type=click.Path(path_type=Path), envvar="ODONATA_DAEMON_SOCKET",
    help="The daemon's unix socket. Default: the one a daemon of this user makes.",
)  # fmt: skip
@click.option("--no-p2p", is_flag=True, help="From this host's disk or the source, not from peers.")
@click.option("--disable-back-to-source", is_flag=True, help="From peers or not at all.")
@click.option("--revalidate", is_flag=True, help="Ask the source if what is held is still so.")
@click.option("--no-progress", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "wants_json", is_flag=True, help="At the end one JSON object on stdout.")
@storage_options
@_origin_options
def get(
    url: str,
    output: Path,
    part: str | None,
    endpoint: Path | None,
    no_progress: bool,
    wants_json: bool,
    recursive: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_files: int,
    max_concurrent_requests: int,
    overwrite: bool,
    force_hard_link: bool,
    transfer: bool,
    **request: Any,
) -> None:
    """Download URL through the daemon of this host into a file.

    What peers have comes from them, the rest from the source; what is here already is not fetched
    again, so a download that was interrupted goes on when it is asked for again. The file is whole
    and checked, or it is not there.
    """
    import asyncio

    from odonata.errors import CallerError
    from peer.daemon_socket import default_endpoint
    from peer.get import part_from
    from peer.get_run import Wish, as_json, get
    from peer.get_sink import STDOUT

    if wants_json and output == STDOUT:
        raise CallerError("--json and -O - both write to stdout: take one of them away")
    options = _options(request)
    wish = Wish(
        url=url,
        output=output,
        part=None if part is None else part_from(part),
        recursive=recursive,
        include=include,
        exclude=exclude,
        max_files=max_files,
        max_concurrent=max_concurrent_requests,
        overwrite=overwrite,
        force_hard_link=force_hard_link,
        transfer=transfer,
        quiet=no_progress or wants_json,
    )
    result = asyncio.run(get(wish, options, endpoint or default_endpoint()))
    if wants_json:
        click.echo(as_json(result))


def _options(told: dict[str, Any]) -> Options:
    """The request's own options. Raises CallerError."""
    from odonata.client import Hdfs, ModelHub, ObjectStorage
    from odonata.units import parse_duration_s, parse_size
    from peer.get import header_from

    length, timeout, filtered = told["piece_length"], told["timeout"], told["filtered_query_param"]
    hdfs_token = told["hdfs_delegation_token"]
    hubs: dict[str, Any] = {}
    for prefix, (field, _) in _HUBS.items():
        said = {name: told[f"{prefix}_{name}"] or "" for name in _HUB_FIELDS}
        hubs[field] = ModelHub(**said) if any(said.values()) else None
    options: dict[str, Any] = {
        "header": header_from(told["header"]),
        "piece_length": None if length is None else parse_size(length),
        "timeout_s": None if timeout is None else parse_duration_s(timeout),
        "filtered_query_params": filtered or None,
        "hdfs": Hdfs(delegation_token=hdfs_token) if hdfs_token else None,
        **hubs,
        **{name: told[name] for name in _PLAIN},
    }
    if told["storage"] != ObjectStorage():
        options["object_storage"] = told["storage"]
    return cast("Options", options)
