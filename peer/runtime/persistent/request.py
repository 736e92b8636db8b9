"""What users and schedulers ask about persistent tasks, read off the wire and checked.

Requests of dfdaemon.v2 in, `Download` and `Import` out. Nothing is asked or moved here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata import ids
from odonata.digest import parse_digest
from odonata.errors import CallerError
from odonata.wire.dragonfly import duration_from_wire, require_id, require_url
from odonata.wire.dragonfly.check import require_piece_length
from odonata.wire.dragonfly.origin import object_storage_from_wire
from odonata.wire.dragonfly.persistent import require_replicas, require_ttl_s
from odonata.wire.message import Download, TaskType
from odonata.wire.origin import OriginOptions
from peer.runtime.persistent.importer import Import
from peer.runtime.storage.layout import check_task_id

DownloadRequest = (
    dfdaemon_pb2.DownloadPersistentTaskRequest | dfdaemon_pb2.DownloadPersistentCacheTaskRequest
)
UploadRequest = (
    dfdaemon_pb2.UploadPersistentTaskRequest | dfdaemon_pb2.UploadPersistentCacheTaskRequest
)


def download_of(request: DownloadRequest) -> tuple[str, Download]:
    """The id of the task, and what is wanted of it. Raises CallerError."""
    fields: dict[str, Any] = {
        "timeout_s": duration_from_wire(request.timeout) if request.HasField("timeout") else None,
        "output_path": request.output_path if request.HasField("output_path") else None,
        "digest": str(parse_digest(request.digest)) if request.digest else None,
        "need_piece_content": request.need_piece_content,
        "force_hard_link": request.force_hard_link,
        "overwrite": request.overwrite,
    }
    if isinstance(request, dfdaemon_pb2.DownloadPersistentTaskRequest):
        url = require_url("url", request.url)
        where = request.object_storage
        task_id = ids.persistent_task_id(url, region=where.region, endpoint=where.endpoint)
        extra = common_pb2.Download(object_storage=request.object_storage).SerializeToString()
        return task_id, Download(type=TaskType.PERSISTENT, url=url, extra=extra, **fields)
    task_id = check_task_id(require_id("task_id", request.task_id))
    download = Download(
        type=TaskType.PERSISTENT_CACHE,
        url="",
        tag=request.tag or None,
        application=request.application or None,
        **fields,
    )
    return task_id, download


def import_of(request: UploadRequest) -> Import:
    """The import that is wanted. Raises CallerError."""
    if not request.path:
        raise CallerError("path is empty: name the file to import")
    fields: dict[str, Any] = {
        "path": Path(request.path),
        "replica_count": require_replicas(request.persistent_replica_count),
        "ttl_s": require_ttl_s(request),
        "timeout_s": duration_from_wire(request.timeout) if request.HasField("timeout") else None,
    }
    if isinstance(request, dfdaemon_pb2.UploadPersistentTaskRequest):
        return Import(
            url=require_url("url", request.url),
            storage=request.object_storage.SerializeToString(),
            options=OriginOptions(object_storage=object_storage_from_wire(request.object_storage)),
            **fields,
        )
    piece_length = None
    if request.HasField("piece_length"):
        piece_length = require_piece_length("piece_length", request.piece_length)
    content = None
    if request.HasField("content_for_calculating_task_id"):
        content = request.content_for_calculating_task_id
    return Import(
        tag=request.tag or None,
        application=request.application or None,
        piece_length=piece_length,
        content_for_calculating_task_id=content,
        **fields,
    )
