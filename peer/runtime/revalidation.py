"""Whether what is held of a task may answer a request that wants it checked (RFC 9111 §5.2.1).

`Cache-Control: no-cache` or `max-age=0` (or, without Cache-Control, `Pragma: no-cache`) asks for
it. The origin is asked whether its content is still the same. It is: what is held is served. It is
not: that is forgotten, and the content fetched anew, from the source. **The origin can't be
reached, or fails (no answer, 429, 5xx): what is held is served nevertheless, with a warning in the
log**, as RFC 5861's stale-if-error allows: a cluster that goes on during a registry's outage is
what this daemon is for. An origin that refuses (401, 403, 404, ...) refuses this request as well.

A download that is under way is joined: what it brings is as new as its beginning. Nothing is asked
for a content that is named by its digest, which can't change, nor for a request that must not go to
the source.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from odonata.errors import SourceError, is_retryable
from odonata.ids import blob_digest_task_id
from odonata.wire.dragonfly.origin import origin_of_download
from odonata.wire.message import Download
from peer.runtime.port import KnownContent, Source, StoredTask
from peer.runtime.source_run import for_source

_log = structlog.get_logger("download")


def asks_for_check(download: Download) -> bool:
    """Whether `download` wants the origin to be asked about what is held."""
    by_digest = download.content_for_calculating_task_id or (
        download.enable_task_id_based_blob_digest and blob_digest_task_id(download.url)
    )
    return not by_digest and not download.disable_back_to_source and _wants(download.request_header)


def _wants(header: Mapping[str, str]) -> bool:
    named = {name.lower(): value for name, value in header.items()}
    control = named.get("cache-control")
    if control is None:
        return "no-cache" in _directives(named.get("pragma", ""))
    return not {"no-cache", "max-age=0"}.isdisjoint(_directives(control))


def _directives(text: str) -> set[str]:
    return {"".join(part.split()).lower().replace('"', "") for part in text.split(",")}


async def changed_at_origin(source: Source, task: StoredTask, download: Download) -> str | None:
    """Why the origin has another content than `task`; None: it is the same, or can't be reached.

    Errors: SourceError, if the origin refuses; CallerError.
    """
    known = KnownContent(
        content_length=task.content_length, response_header=dict(task.response_header)
    )
    options = origin_of_download(download)
    try:
        header = for_source(download.request_header)
        return await source.compare(download.url, header, known, options)
    except SourceError as error:
        if not is_retryable(error):
            raise
        _log.warning("served_unchecked", task_id=task.task_id, error=error.detail)
        return None
