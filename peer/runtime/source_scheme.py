"""The schemes that fsspec and its family know: how each is connected to, addressed and described.

A new one is one line in `SCHEMES`, and a function that turns a URL and the request's options into
the keyword arguments of its filesystem class. The packages are looked for when a scheme is first
used, never before: a daemon that only speaks HTTP loads none of them.

**Whose credentials.** What the request says wins. Where it says nothing, the origin's own way of
finding credentials on this host applies (s3, gs), unless the request also names the endpoint: then
the origin is asked anonymously, because an endpoint that a stranger chose must not see what this
host is known by. A file of credentials is read only below `backend.credentialRoots`.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from odonata.errors import CallerError, ForbiddenError, PreconditionError
from odonata.url import Url
from odonata.wire.message import Value
from odonata.wire.origin import ObjectStorage, OriginOptions
from peer.runtime.outgoing_proxy import NO_PROXY, OutgoingProxy
from peer.runtime.source_file import ConfinedFiles

CONNECT_TIMEOUT_S: Final = 10.0  # as for http
READ_TIMEOUT_S: Final = 30.0  # likewise: a silent origin is a dead one
PUT_PART_BYTES: Final = 8 * 1024 * 1024
"""Of an upload in parts: Dragonfly's putChunkSize. A whole number of 256 KiB, which gs asks for."""
WEBHDFS_PORT: Final = 9870  # the name node's web port since Hadoop 3, and Dragonfly's default
FTP_PORT: Final = 21

_UNSAFE_IN_CONNECTION_STRING: Final = frozenset(";\r\n")


class FsspecPlace(Value, frozen=True, kw_only=True):
    """What the settings allow and ask for.

    `file_roots`: folders that file:// URLs may name something in; none: file is off.
    `credential_roots`: folders with files of credentials that a request may name.
    """

    file_roots: tuple[Path, ...] = ()
    credential_roots: tuple[Path, ...] = ()
    proxy: OutgoingProxy = NO_PROXY
    insecure: bool = False
    ca_file: Path | None = None


Make = Callable[[Url, OriginOptions, FsspecPlace], Any]
"""Connects, with blocking calls: returns an fsspec filesystem."""
Info = Mapping[str, Any]
"""What fsspec's `info` says of one name."""


class Scheme(Value, frozen=True, kw_only=True):
    """One line of the table.

    `kept`: one filesystem object serves several streams, one after another and at once.
    `hang_up`: breaks the connection of one that is not kept, whoever waits for it.
    `info` and `read`: ask for one name and for bytes [start, end) of it, blocking, where the
    library's own way is a detour or wrong.
    `put`: keyword arguments for writing; None: nothing can be written.
    """

    make: Make
    buckets: bool = True  # scheme://bucket/key; else scheme://host/path
    kept: bool = True
    hang_up: Callable[[Any], None] | None = None
    info: Callable[[Any, str], Info] | None = None
    read: Callable[[Any, str, int, int], bytes] | None = None
    put: Callable[[ObjectStorage], dict[str, Any]] | None = None

    def path(self, url: Url) -> str:
        """What the filesystem calls the thing that `url` names."""
        below = unquote(url.path)
        if any(letter in "\0\r\n" for letter in below):
            raise CallerError("the URL's path holds a line break or a zero byte")
        if not self.buckets:
            return below or "/"
        if not url.host:
            raise CallerError(f"the URL names no bucket: write {url.scheme}://BUCKET/KEY")
        return f"{url.host}{below}"


def validators(info: Info) -> dict[str, str]:
    """ETag, Last-Modified and the like of one name, as a response header would say them."""
    header: dict[str, str] = {}
    etag, changed = info.get("ETag") or info.get("etag"), _changed_at(info)
    if not etag and changed is not None:  # as web servers make one of a file
        etag = f"{round(changed.timestamp() * 1000):x}-{info.get('size') or 0:x}"
    if isinstance(etag, str) and etag:
        header["etag"] = etag if etag.endswith('"') else f'"{etag}"'
    if changed is not None:
        header["last-modified"] = format_datetime(changed, usegmt=True)
    kind = info.get("ContentType") or info.get("contentType") or info.get("content_type")
    if isinstance(kind, str) and kind.isprintable():
        header["content-type"] = kind
    return header


def _changed_at(info: Info) -> datetime | None:
    """In UTC. Each library has a name and a form of its own for it."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "modificationTime", "modify"):
        value = info.get(name)
        try:
            if isinstance(value, datetime):
                return value.astimezone(UTC)
            if isinstance(value, int | float):
                seconds = value / 1000 if name == "modificationTime" else value
                return datetime.fromtimestamp(seconds, UTC)
            if isinstance(value, str) and value:
                return _parse_moment(value)
        except (ValueError, OverflowError):
            continue
    return None


def _parse_moment(text: str) -> datetime:
    if text.isdecimal():  # FTP's MLSD: 20261128210259
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    if "," in text:
        return parsedate_to_datetime(text).astimezone(UTC)
    return datetime.fromisoformat(text).astimezone(UTC)


# --- connecting ---


def _load(module: str, name: str, extra: str) -> Callable[..., Any]:
    """A class of an optional package."""
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise PreconditionError(
            f"origins of this kind need the package {error.name or module}, which this host lacks: "
            f'pip install "odonata[{extra}]"'
        ) from None
    return found


# Own objects, so that options with secrets are not kept for ever; no listing that is out of date.
_FRESH: Final = {"skip_instance_cache": True, "use_listings_cache": False}


def _s3(_url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    storage = options.storage
    client: dict[str, Any] = {}
    if storage.region:
        client["region_name"] = storage.region
    if storage.insecure_skip_verify or place.insecure:
        client["verify"] = False
    elif place.ca_file is not None:
        client["verify"] = str(place.ca_file)
    endpoint_host = _host_of(storage.endpoint) or "amazonaws.com"
    proxy = place.proxy.for_host(endpoint_host)
    config = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "proxies": {} if proxy is None else {"http": str(proxy), "https": str(proxy)},
    }
    return _load("s3fs", "S3FileSystem", "s3")(
        anon=bool(storage.endpoint and not storage.access_key_id),
        key=storage.access_key_id or None,
        secret=storage.access_key_secret or None,
        token=storage.session_token or storage.security_token or None,
        endpoint_url=storage.endpoint or None,
        client_kwargs=client,
        config_kwargs=config,
        **_FRESH,
    )


def _gs(_url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    storage = options.storage
    token: Any = None
    if storage.credential_path:
        token = _credential_file(storage.credential_path, place)
    elif storage.endpoint:
        token = "anon"  # noqa: S105  # the library's word for "none"
    proxy = place.proxy.for_host(_host_of(storage.endpoint) or "storage.googleapis.com")
    # The plain one: the package's other asks a second service, by gRPC, what kind a bucket is.
    return _load("gcsfs.core", "GCSFileSystem", "gs")(
        token=token,
        endpoint_url=storage.endpoint or None,
        session_kwargs={"proxy": proxy, "trust_env": False},
        **_FRESH,
    )


def _abs(_url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    storage = options.storage
    endpoint = _require_endpoint(storage, "abs", "https://ACCOUNT.blob.core.windows.net")
    _refuse_proxy("abs", endpoint, place)
    fields = {"BlobEndpoint": endpoint.rstrip("/")}
    if storage.access_key_id:
        fields |= {
            "AccountName": storage.access_key_id,
            "AccountKey": storage.access_key_secret,
        }
    signature = storage.session_token or storage.security_token
    if signature:
        fields["SharedAccessSignature"] = signature.removeprefix("?")
    for name, value in fields.items():
        if _UNSAFE_IN_CONNECTION_STRING.intersection(value):
            raise CallerError(f"object_storage: {name} holds a semicolon or a line break")
    return _load("adlfs", "AzureBlobFileSystem", "abs")(
        connection_string="".join(f"{name}={value};" for name, value in fields.items()),
        connection_timeout=int(CONNECT_TIMEOUT_S),
        read_timeout=int(READ_TIMEOUT_S),
        **_FRESH,
    )


def _oss(_url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    storage = options.storage
    endpoint = _require_endpoint(storage, "oss", "https://oss-REGION.aliyuncs.com")
    _refuse_proxy("oss", endpoint, place)
    return _load("ossfs", "OSSFileSystem", "oss")(
        endpoint=endpoint,
        key=storage.access_key_id or None,
        secret=storage.access_key_secret or None,
        token=storage.security_token or storage.session_token or None,
        skip_instance_cache=True,  # it can't do without a cache of listings: one object, one use
    )


def _oss_info(fs: Any, path: str) -> Info:
    """By one HEAD; the library lists the whole folder instead."""
    bucket, key = fs.split_path(path)
    if not key:
        return {"type": "directory"}
    found = fs._call_oss("head_object", key, bucket=bucket)  # noqa: SLF001  # the only way to it
    return {
        "type": "file",
        "size": found.content_length,
        "etag": found.etag,
        "mtime": found.last_modified,
        "content_type": found.content_type,
    }


def _oss_read(fs: Any, path: str, start: int, end: int) -> bytes:
    """The library's cat_file takes `end` for the last byte."""
    bucket, key = fs.split_path(path)
    answer = fs._call_oss("get_object", key, bucket=bucket, byte_range=(start, end - 1))  # noqa: SLF001  # as above
    data: bytes = answer.read()
    return data


def _hdfs(url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    if not url.host:
        raise CallerError("the URL names no name node: write hdfs://HOST:PORT/PATH")
    user = unquote(url.username) or None
    delegation_token = options.web_hdfs.delegation_token
    fs = _load("fsspec.implementations.webhdfs", "WebHDFS", "hdfs")(
        host=url.host,
        port=url.port or WEBHDFS_PORT,
        token=delegation_token or None,
        user=None if delegation_token else user,
        **_FRESH,
    )
    session = fs.session
    session.trust_env = False
    proxy = place.proxy.for_host(url.host)
    if proxy is not None:
        session.proxies = {"http": str(proxy), "https": str(proxy)}
    timeouts = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    session.request = partial(session.request, timeout=timeouts)
    return fs


def _ftp(url: Url, options: OriginOptions, place: FsspecPlace) -> Any:
    storage = options.storage
    if not url.host:
        raise CallerError("the URL names no server: write ftp://HOST/PATH")
    _refuse_proxy("ftp", f"ftp://{url.host}", place)
    return _load("fsspec.implementations.ftp", "FTPFileSystem", "ftp")(
        host=url.host.strip("[]"),
        port=url.port or FTP_PORT,
        username=storage.access_key_id or unquote(url.username) or "anonymous",
        password=storage.access_key_secret or unquote(url.password) or "anonymous@",
        timeout=READ_TIMEOUT_S,
        **_FRESH,
    )


def _hang_up_ftp(fs: Any) -> None:
    control = fs.ftp.sock
    if control is not None:
        with suppress(OSError):  # the server was quicker
            control.shutdown(socket.SHUT_RDWR)  # wakes who waits in a thread; closing would not
    fs.ftp.close()


def _file(url: Url, _options: OriginOptions, place: FsspecPlace) -> Any:
    if not place.file_roots:
        raise ForbiddenError(
            "this daemon gives no files of its host: set backend.fileRoots to the folders it may "
            "give from"
        )
    if url.host:
        raise CallerError(f"file://{url.host}/... names another host: write file:///PATH")
    return ConfinedFiles(place.file_roots)


def _credential_file(name: str, place: FsspecPlace) -> str:
    path = Path(name)
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in place.credential_roots):
        raise ForbiddenError(
            "credential_path names a file outside backend.credentialRoots: put it in one of these "
            "folders, or set backend.credentialRoots"
        )
    return str(real)


def _require_endpoint(storage: ObjectStorage, scheme: str, example: str) -> str:
    if not storage.endpoint:
        raise CallerError(f"{scheme}:// needs object_storage.endpoint, such as {example}")
    return storage.endpoint


def _refuse_proxy(scheme: str, endpoint: str, place: FsspecPlace) -> None:
    host = _host_of(endpoint)
    if place.proxy.for_host(host) is not None:
        raise ForbiddenError(
            f"{scheme}:// can't go through backend.proxy: add {host} to backend.noProxy if it may "
            "be asked directly"
        )


def _host_of(endpoint: str) -> str:
    authority = endpoint.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if authority.startswith("["):
        return authority.partition("]")[0].lstrip("[")
    return authority.partition(":")[0]


def _nothing(_storage: ObjectStorage) -> dict[str, Any]:
    return {}


def _put_s3(storage: ObjectStorage) -> dict[str, Any]:
    acl = {"ACL": storage.predefined_acl} if storage.predefined_acl else {}
    return {"chunksize": PUT_PART_BYTES, **acl}


def _put_gs(storage: ObjectStorage) -> dict[str, Any]:
    if storage.predefined_acl:
        raise CallerError("predefined_acl can't be set when writing to gs: leave it out")
    return {"chunksize": PUT_PART_BYTES}


_AZURE: Final = Scheme(make=_abs, put=_nothing)

SCHEMES: Final[Mapping[str, Scheme]] = {
    "s3": Scheme(make=_s3, put=_put_s3),
    "gs": Scheme(make=_gs, put=_put_gs),
    "abs": _AZURE,
    "az": _AZURE,
    "oss": Scheme(make=_oss, info=_oss_info, read=_oss_read, kept=False, put=_nothing),
    "hdfs": Scheme(make=_hdfs, buckets=False),
    "ftp": Scheme(make=_ftp, buckets=False, kept=False, hang_up=_hang_up_ftp),
    "file": Scheme(make=_file, buckets=False),
}
