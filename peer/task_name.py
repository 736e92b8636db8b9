"""How a user names a task: by its id, by the beginning of it, or by a URL and what else makes ids.

Pure: ids are computed as the daemon computes them, and nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from odonata.errors import CallerError, NotFoundError
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, task_id_of
from odonata.units import parse_size
from odonata.wire.dragonfly import require_url
from odonata.wire.message import Download, Value

_ID: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,127}")
_SHOWN_MATCHES: Final = 5


class Naming(Value, frozen=True, kw_only=True):
    """What goes into a task id besides the URL, as `odonata get` and the proxy say it."""

    tag: str | None = None
    application: str | None = None
    revision: str | None = None
    piece_length: str | None = None
    filtered_query_params: tuple[str, ...] = ()
    content_for_calculating_task_id: str | None = None
    by_blob_digest: bool = False


def is_id(text: str) -> bool:
    """Whether it is a whole task id."""
    return _ID.fullmatch(text) is not None


def id_of_url(url: str, naming: Naming) -> str:
    """The task id of `url`. Raises CallerError if it is no URL, or a length is none."""
    return task_id_of(
        Download(
            url=require_url("URL", url),
            tag=naming.tag,
            application=naming.application,
            revision=naming.revision,
            piece_length=None if naming.piece_length is None else parse_size(naming.piece_length),
            filtered_query_params=naming.filtered_query_params or DEFAULT_FILTERED_QUERY_PARAMS,
            content_for_calculating_task_id=naming.content_for_calculating_task_id,
            enable_task_id_based_blob_digest=naming.by_blob_digest,
        )
    )


def id_of(text: str, naming: Naming) -> str | None:
    """The id that `text` names; None if it is the beginning of one, which only a daemon can end.

    Raises CallerError if it is neither, or an id comes with options that only a URL needs.
    """
    if "://" in text:
        return id_of_url(text, naming)
    whole = is_id(text)
    if not whole and _BEGINNING.fullmatch(text) is None:
        raise CallerError(
            f"{text[:140]!r} is neither a URL nor a task id: write the URL with its scheme, or at "
            "least 4 digits of the id (`odonata task ls` shows them)"
        )
    if naming != Naming():
        raise CallerError(f"{text} is an id already: leave out the options that make one of a URL")
    return text if whole else None


def only_match(beginning: str, ids: Iterable[str]) -> str:
    """The one of `ids` that begins so. Raises NotFoundError, CallerError."""
    found = sorted(one for one in ids if one.startswith(beginning))
    if not found:
        raise NotFoundError(
            f"no task on this host begins with {beginning}: see `odonata task ls`, or write the "
            "whole id"
        )
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN_MATCHES])
        more = f" and {len(found) - _SHOWN_MATCHES} more" if len(found) > _SHOWN_MATCHES else ""
        raise CallerError(f"{beginning} is the beginning of {shown}{more}: say more of the id")
    return found[0]
