"""HTTP headers on their way through the proxy: what passes, what stops, what X-Dragonfly-* ask for.

A header list is a tuple of (name, value) as it came, so that duplicates and order survive; names
are compared without case. Three ways out of here: towards an origin (`forwarded`), into a download
that other peers may carry out too (`download_header`), and back to a client from a content that is
shared (`shared_answer_header`). Pure; the routes themselves are in `peer.core.proxy_rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from odonata.errors import CallerError, ForbiddenError
from odonata.piece import MIB, PIECE_LENGTH_MAX, PIECE_LENGTH_MIN
from odonata.units import UnitError, parse_size
from odonata.wire.message import Value

HeaderList = tuple[tuple[str, str], ...]

# RFC 9110 §7.6.1, and Proxy-Connection, which old clients still send to proxies.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
PREFIX: Final = "x-dragonfly-"

# What belongs to this one request or client and not to the content that all peers share: its own
# part, its own cache, its own body. Accept-Encoding too: the first asker must not decide by it what
# bytes everybody gets.
_ONE_REQUEST: Final = frozenset(
    {
        "accept-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "via",
    }
)
# What describes one answer of the origin rather than the content: its part, its age, its listener.
_ONE_ANSWER: Final = frozenset(
    {"accept-ranges", "age", "content-length", "content-range", "date", "set-cookie"}
)
_PRIORITY_MAX: Final = 6


class Wishes(Value, frozen=True, kw_only=True):
    """The X-Dragonfly-* headers of a request; None where it says nothing."""

    tag: str | None = None
    application: str | None = None
    priority: int | None = None
    registry: str | None = None
    filtered_query_params: tuple[str, ...] | None = None
    use_p2p: bool = False
    prefetch: bool | None = None
    output_path: str | None = None
    force_hard_link: bool = False
    piece_length: int | None = None
    content_for_calculating_task_id: str | None = None
    enable_task_id_based_blob_digest: bool | None = None


_NO_WISHES: Final = Wishes()


def value_of(headers: HeaderList, name: str) -> str | None:
    """The header's value, several joined by a comma as RFC 9110 §5.3 allows; None if absent."""
    length = len(name)  # compared first: lower case costs more, and a request asks a dozen times
    values = [value for key, value in headers if len(key) == length and key.lower() == name]
    return ", ".join(values) if values else None


def forwarded(headers: HeaderList) -> HeaderList:
    """What goes on to an origin or back from it unchanged: no hop-by-hop header, nothing for us."""
    named = _named_by_connection(headers)
    stopped = HOP_BY_HOP | named if named else HOP_BY_HOP
    return tuple(
        [
            pair
            for pair in headers
            if (name := pair[0].lower()) not in stopped and not name.startswith(("proxy-", PREFIX))
        ]
    )


def download_header(headers: HeaderList) -> dict[str, str]:
    """Headers for a download of the content by this or another peer, credentials included."""
    kept: dict[str, tuple[str, str]] = {}
    for name, value in forwarded(headers):
        key = name.lower()
        if key in _ONE_REQUEST:
            continue
        joint = "; " if key == "cookie" else ", "
        first, before = kept.get(key, (name, None))
        kept[key] = (first, value if before is None else f"{before}{joint}{value}")
    return {**dict(kept.values()), "Accept-Encoding": "identity"}


def shared_answer_header(header: Mapping[str, str]) -> HeaderList:
    """Of the origin's answer to whoever asked first, what is true for everybody."""
    pairs = tuple(header.items())
    return tuple(
        (name, value) for name, value in forwarded(pairs) if name.lower() not in _ONE_ANSWER
    )


def via(headers: HeaderList, pseudonym: str) -> str:
    """The Via header after this hop."""
    before = value_of(headers, "via")
    own = f"1.1 {pseudonym}"
    return f"{before}, {own}" if before else own


def passed_through(headers: HeaderList, pseudonym: str) -> bool:
    """Whether the request went through the proxy of that name before."""
    hops = (value_of(headers, "via") or "").split(",")
    return any(pseudonym in hop.split() for hop in hops)


def parse_wishes(headers: HeaderList) -> Wishes:
    """Read the X-Dragonfly-* headers. CallerError names header, value and fix; unknown ones pass.

    Of a header that comes twice the last counts.
    """
    given = {
        name.lower().removeprefix(PREFIX): value.strip()
        for name, value in headers
        if name.lower().startswith(PREFIX)
    }
    params = given.get("filtered-query-params")
    if not given:
        return _NO_WISHES
    blob_key = "enable-task-id-based-blob-digest"
    return Wishes(
        tag=given.get("tag"),
        application=given.get("application"),
        priority=_priority(given.get("priority")),
        registry=given.get("registry"),
        filtered_query_params=None if params is None else _names(params),
        use_p2p=_flag("Use-P2P", given.get("use-p2p")) or False,
        prefetch=_flag("Prefetch", given.get("prefetch")),
        output_path=given.get("output-path"),
        force_hard_link=_flag("Force-Hard-Link", given.get("force-hard-link")) or False,
        piece_length=_piece_length(given.get("piece-length")),
        content_for_calculating_task_id=given.get("content-for-calculating-task-id"),
        enable_task_id_based_blob_digest=_flag(
            "Enable-Task-ID-Based-Blob-Digest", given.get(blob_key)
        ),
    )


def check_output_path(path: str, roots: Iterable[str]) -> str:
    """`path`, if it lies below one of the folders that the proxy may write to; they are absolute.

    Any local user can reach the proxy, so without this a daemon of root's would write anywhere on
    their behalf. Links inside those folders are not looked at: only trusted users may write there.
    """
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path or ".." in parts or not parts[-1]:
        raise CallerError(
            f"X-Dragonfly-Output-Path is {path!r}: give an absolute path of a file, without '..'"
        )
    if not any(path.startswith(root.rstrip("/") + "/") for root in roots):
        raise ForbiddenError(
            f"X-Dragonfly-Output-Path {path!r} lies in no folder that the proxy may write to: "
            "use `odonata get -O`, or have the folder allowed in the daemon's proxy settings"
        )
    return path


def _named_by_connection(headers: HeaderList) -> frozenset[str]:
    text = value_of(headers, "connection")
    return frozenset(name.lower() for name in _names(text)) if text else frozenset()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _flag(name: str, text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in {"true", "false"}:
        raise CallerError(f"X-Dragonfly-{name} is {text[:80]!r}: write true or false")
    return text.lower() == "true"


def _priority(text: str | None) -> int | None:
    if text is None:
        return None
    if not (len(text) == 1 and text in "0123456"):
        raise CallerError(
            f"X-Dragonfly-Priority is {text[:80]!r}: write a number from 0 to {_PRIORITY_MAX}"
        )
    return int(text)


def _piece_length(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        length = parse_size(text[:80])
    except UnitError as cause:
        raise CallerError(f"X-Dragonfly-Piece-Length: {cause.detail}") from None
    if not PIECE_LENGTH_MIN <= length <= PIECE_LENGTH_MAX:
        raise CallerError(
            f"X-Dragonfly-Piece-Length is {text!r}: write a size from "
            f"{PIECE_LENGTH_MIN // MIB}MiB to {PIECE_LENGTH_MAX // MIB}MiB"
        )
    return length
