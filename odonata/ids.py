"""Names of tasks, hosts and peers, byte for byte as Dragonfly's clients make them.

Two daemons share a content only if they derive the same task id from the same request, so nothing
here may differ by a single byte from Dragonfly's client (Rust, v1.5.1). A task id is a lower-case
hex SHA-256 over parts put one after another without separators. Pure functions: no clock, no
randomness; the unique part of a peer id is an argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from odonata.url import format_query, parse_query, parse_url
from odonata.wire.message import Download

# A piece request on the wire has room for exactly this many characters (Vortex).
TASK_ID_LENGTH: Final = 64

# Query parameters that sign or route a request without changing what it names. Dragonfly's default.
DEFAULT_FILTERED_QUERY_PARAMS: Final[tuple[str, ...]] = (
    # Amazon S3 and its kin
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-User-Agent",
    # Google Cloud Storage
    "X-Goog-Algorithm",
    "X-Goog-Credential",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-SignedHeaders",
    "X-Goog-Signature",
    # Alibaba Cloud OSS
    "OSSAccessKeyId",
    "Expires",
    "Signature",
    "SecurityToken",
    # Huawei Cloud OBS (Signature and Expires as above)
    "AccessKeyId",
    "X-Obs-Date",
    "X-Obs-Security-Token",
    # Tencent Cloud COS
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
    "x-cos-security-token",
    # containerd names the mirrored registry in it
    "ns",
)

_SEED_SUFFIX: Final = "-seed"
_BLOB_URL: Final = re.compile(r"(.*)://(.*)/v2/(.*)/blobs/([^?]+)(\?.*)?")
_BLOB_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})|sha512:([0-9a-f]{128})|crc32:([0-9a-f]+)")

_CRC32_GROUP: Final = 3


def normalize_url(url: str, filtered_query_params: Collection[str] = ()) -> str:
    """Write `url` as it goes into a task id.

    WHATWG serialisation; query parameters named in `filtered_query_params` (case counts) dropped,
    the others form-urlencoded anew in their order; no `?` when none is left; no slash after a bare
    host. Clients later than 1.5.1 sort what is left (dragonflyoss/client#2014): with them, URLs
    that keep several parameters make other ids.
    CallerError if it is not a whole URL.
    """
    parsed = parse_url(url)
    kept = [
        (name, value)
        for name, value in parse_query(parsed.query or "")
        if name not in filtered_query_params
    ]
    query = f"?{format_query(kept)}" if kept else ""
    fragment = "" if parsed.fragment is None else f"#{parsed.fragment}"
    text = f"{parsed.without_query()}{query}{fragment}"
    return text.rstrip("/") if parsed.path == "/" else text


def url_task_id(
    url: str,
    *,
    tag: str | None = None,
    application: str | None = None,
    revision: str | None = None,
    piece_length: int | None = None,
    filtered_query_params: Collection[str] = (),
) -> str:
    """Task id of what a URL names. `revision` counts for model hubs; absent parts add nothing."""
    return _hash(
        normalize_url(url, filtered_query_params).encode(),
        _parts(tag, application, revision, piece_length),
        b"STANDARD",
    )


def content_task_id(content: str) -> str:
    """Task id from a text that the user gave for the purpose."""
    return hashlib.sha256(content.encode()).hexdigest()


def blob_digest_task_id(url: str) -> str | None:
    """Task id of an OCI blob URL: the hex of its own digest. None if `url` is no such URL.

    May be longer or shorter than TASK_ID_LENGTH for digests other than sha256.
    """
    digest_match = _blob_digest_match(url)
    if digest_match is None:
        return None
    return digest_match[digest_match.lastindex or 0]


def blob_digest(url: str) -> str | None:
    """Digest that an OCI blob URL names its content by: `sha256:HEX` or `sha512:HEX`, else None."""
    digest_match = _blob_digest_match(url)
    if digest_match is None or digest_match.lastindex == _CRC32_GROUP:
        return None
    return digest_match[0]


@lru_cache(maxsize=256)  # one request asks several times
def _blob_digest_match(url: str) -> re.Match[str] | None:
    blob_match = _BLOB_URL.fullmatch(url)
    return _BLOB_DIGEST.fullmatch(blob_match[4]) if blob_match else None


def persistent_task_id(url: str, *, region: str = "", endpoint: str = "") -> str:
    """Task id of an object that was put into object storage through the swarm."""
    return _hash(f"{url}{region}{endpoint}".encode(), b"PERSISTENT")


def persistent_cache_task_id(
    content: bytes | Iterable[bytes | memoryview],
    *,
    tag: str | None = None,
    application: str | None = None,
    piece_length: int | None = None,
) -> str:
    """Task id of a local file that was put into the swarm; `content` may come in chunks."""
    chunks = [content] if isinstance(content, bytes) else content
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    hasher.update(_parts(tag, application, None, piece_length))
    hasher.update(b"PERSISTENT_CACHE")
    return hasher.hexdigest()


def task_id_of(download: Download) -> str:
    """Task id of a request: given content first, then the blob's digest if enabled, then the URL.

    Only sha256 blobs go by their digest: a longer id does not fit a piece request, so the swarm
    could name such a task but never move it; those go by URL.
    """
    if download.content_for_calculating_task_id is not None:
        return content_task_id(download.content_for_calculating_task_id)
    if download.enable_task_id_based_blob_digest:
        blob_id = blob_digest_task_id(download.url)
        if blob_id is not None and len(blob_id) == TASK_ID_LENGTH:
            return blob_id
    return url_task_id(
        download.url,
        tag=download.tag,
        application=download.application,
        revision=download.revision,
        piece_length=download.piece_length,
        filtered_query_params=download.filtered_query_params,
    )


def host_id(ip: str, hostname: str, *, is_seed: bool = False) -> str:
    """Id of a host: the same after a restart, and different for a seed on the same machine."""
    return f"{ip}-{hostname}{_SEED_SUFFIX if is_seed else ''}"


def peer_id(ip: str, hostname: str, uuid: str, *, is_seed: bool = False) -> str:
    """Id of one download of one task on one host; `uuid` is a new random UUID for each download."""
    return f"{ip}-{hostname}-{uuid}{_SEED_SUFFIX if is_seed else ''}"


def piece_id(task_id: str, number: int) -> str:
    """Id of a piece."""
    return f"{task_id}-{number}"


def _parts(
    tag: str | None, application: str | None, revision: str | None, piece_length: int | None
) -> bytes:
    length = "" if piece_length is None else str(piece_length)
    return f"{tag or ''}{application or ''}{revision or ''}{length}".encode()


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
