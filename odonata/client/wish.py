"""What a user wants of a URL, as keywords, and the Download that says so. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

import msgspec
from dragonfly_api import common_pb2

from odonata.digest import parse_digest
from odonata.errors import CallerError
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS
from odonata.wire.dragonfly import download_from_wire
from odonata.wire.dragonfly.feature import NO_P2P
from odonata.wire.dragonfly.origin import lay_origin_options
from odonata.wire.message import ByteRange, Download
from odonata.wire.origin import Hdfs, ModelHub, ObjectStorage, OriginOptions


class Options(TypedDict, total=False):
    """What may be said of any request; all of it may be left out.

    `header`: for the origin. `digest`: what the whole content must be, such as sha256:HEX.
    `tag`, `application`, `piece_length` (bytes, 4 MiB or more), `content_for_calculating_task_id`:
    make another task of the same URL. `filtered_query_params`: parameters of the URL that do not;
    None: those that sign a URL. `priority`: Dragonfly's levels, 0 to 6. `no_p2p`: from this host's
    disk or the source, not from peers. `disable_back_to_source`: the other way round.
    `revalidate`: what is held is used only if the source still has it so. `timeout_s`: for
    each question to the daemon (a reader may ask several); None: no limit.
    """

    header: Mapping[str, str]
    digest: str | None
    tag: str | None
    application: str | None
    priority: int
    piece_length: int | None
    filtered_query_params: Sequence[str] | None
    content_for_calculating_task_id: str | None
    enable_task_id_based_blob_digest: bool
    no_p2p: bool
    disable_back_to_source: bool
    revalidate: bool
    timeout_s: float | None
    object_storage: ObjectStorage | None
    hdfs: Hdfs | None
    hugging_face: ModelHub | None
    model_scope: ModelHub | None
    open_csg: ModelHub | None
    certificate_chain: Sequence[bytes]


_PLAIN: Final = (
    "digest",
    "tag",
    "application",
    "priority",
    "piece_length",
    "content_for_calculating_task_id",
    "enable_task_id_based_blob_digest",
    "disable_back_to_source",
)
_ORIGIN: Final = ("object_storage", "hdfs", "hugging_face", "model_scope", "open_csg")


def make_download(url: str, options: Options) -> Download:
    """The request for a content. Raises CallerError, naming the field and the fix."""
    told: dict[str, Any] = dict(options)
    unknown = sorted(told.keys() - Options.__annotations__.keys())
    if unknown:
        raise CallerError(
            f"{unknown[0]!r} is no option of a request: use {', '.join(Options.__annotations__)}"
        )
    if told.get("no_p2p") and told.get("disable_back_to_source"):
        raise CallerError(
            "no_p2p and disable_back_to_source leave nobody to ask: take one of them away"
        )
    if told.get("digest") is not None:
        parse_digest(told["digest"])
    if (told.get("piece_length") or 0) < 0:
        raise CallerError(f"piece_length {told['piece_length']} is negative: give 4 MiB or more")
    message = common_pb2.Download(url=url, request_header=header_of(options))
    for name in _PLAIN:
        if told.get(name) is not None:
            setattr(message, name, told[name])
    filtered = told.get("filtered_query_params")
    message.filtered_query_params.extend(
        DEFAULT_FILTERED_QUERY_PARAMS if filtered is None else filtered
    )
    lay_origin_options(message, origin_options(options))
    download = download_from_wire(message)
    return msgspec.structs.replace(
        download, timeout_s=told.get("timeout_s"), no_p2p=bool(told.get("no_p2p"))
    )


def header_of(options: Options) -> dict[str, str]:
    """The headers for the origin."""
    header = dict(options.get("header") or {})
    if options.get("revalidate"):
        header = {name: value for name, value in header.items() if name.lower() != "cache-control"}
        header["Cache-Control"] = "no-cache"
    return header


def origin_options(options: Options) -> OriginOptions:
    """What is said of the origin besides headers."""
    told: dict[str, Any] = {name: options.get(name) for name in _ORIGIN}
    return OriginOptions(**told, certificate_chain=tuple(options.get("certificate_chain") or ()))


def to_file(
    download: Download, path: Path, *, overwrite: bool = False, force_hard_link: bool = False
) -> Download:
    """The same, written to `path` by the daemon."""
    return msgspec.structs.replace(
        download,
        output_path=str(path.absolute()),
        overwrite=overwrite,
        force_hard_link=force_hard_link,
    )


def part(download: Download, wanted: ByteRange | None) -> Download:
    """The same content, only these bytes of it. The digest is that of the whole."""
    return msgspec.structs.replace(
        download, range=wanted, digest=download.digest if wanted is None else None
    )


def features_of(download: Download) -> tuple[str, ...]:
    """What must be told of `download` beside the message."""
    return (NO_P2P,) if download.no_p2p else ()
