"""What the requests to preheat and to stat say of a content: scheduler.v2 -> Download.

Four requests (image and file, preheat and stat) name the same things under the same names; what
only some have is left unset in the others. The rules are `rule`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.wire.dragonfly.download import download_from_wire
from odonata.wire.dragonfly.moment import duration_to_wire
from odonata.wire.message import Download

_TEXTS: Final = ("tag", "application")
_MESSAGES: Final = ("object_storage", "hdfs")


def preheat_download(
    request: Any,
    url: str,
    *,
    header: Mapping[str, str],
    timeout_s: float,
    by_blob_digest: bool = False,
    output_path: str | None = None,
    remote_ip: str | None = None,
) -> Download:
    """The download of `url` by which `request` is carried out, named as pulls name it.

    It asks the scheduler even where it is small, so that many hosts cost the source one copy, and
    takes what the swarm has. Raises CallerError.
    """
    names = request.DESCRIPTOR.fields_by_name
    wire = common_pb2.Download(
        url=url,
        priority=request.priority if "priority" in names else common_pb2.LEVEL0,
        filtered_query_params=request.filtered_query_params,
        request_header=header,
        timeout=duration_to_wire(timeout_s),
        certificate_chain=request.certificate_chain,
        enable_task_id_based_blob_digest=by_blob_digest,
        scheduling_policy=common_pb2.ALWAYS,
        piece_length=request.piece_length or None,
        output_path=output_path,
        remote_ip=remote_ip,
    )
    for name in _TEXTS:
        if request.HasField(name):
            setattr(wire, name, getattr(request, name))
    for name in _MESSAGES:
        if name in names and request.HasField(name):
            getattr(wire, name).CopyFrom(getattr(request, name))
    return download_from_wire(wire)


def entries_request(
    request: Any, url: str, *, task_id: str, timeout_s: float, remote_ip: str | None = None
) -> dfdaemon_pb2.ListTaskEntriesRequest:
    """Ask a daemon what is in the folder `url`, with what `request` (for files) says of it."""
    wire = dfdaemon_pb2.ListTaskEntriesRequest(
        task_id=task_id,
        url=url,
        request_header=dict(request.header),
        timeout=duration_to_wire(timeout_s),
        certificate_chain=request.certificate_chain,
        remote_ip=remote_ip,
    )
    for name in _MESSAGES:
        if request.HasField(name):
            getattr(wire, name).CopyFrom(getattr(request, name))
    return wire
