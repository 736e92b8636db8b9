"""Storage options and names of other fsspec filesystems, as what a request says of its origin.

`odonata::s3://bucket/key` takes the options that s3fs takes. What has no meaning for the daemon is
refused by name: an option that is silently ignored is a bug of a user who does not know it. Names
are those of the inner filesystem, which are plain text; the daemon's are URLs. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from odonata.client.wish import Options
from odonata.errors import CallerError
from odonata.wire.origin import Hdfs, ModelHub, ObjectStorage

# Options of that filesystem -> fields of ObjectStorage.
_S3: Final = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "access_key_secret",
    "password": "access_key_secret",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "region": "region",
}
_OSS: Final = _S3 | {"endpoint": "endpoint", "token": "security_token"}
_GS: Final = {"token": "credential_path", "endpoint_url": "endpoint"}
_AZ: Final = {
    "account_name": "access_key_id",
    "account_key": "access_key_secret",
    "sas_token": "security_token",
    "account_host": "endpoint",
    "endpoint": "endpoint",
}
_STORES: Final = {
    **dict.fromkeys(("s3", "s3a", "obs", "cos"), _S3),
    **dict.fromkeys(("gs", "gcs"), _GS),
    **dict.fromkeys(("az", "abfs", "abfss", "adl", "abs"), _AZ),
    "oss": _OSS,
}
_SCHEMES: Final = {"gcs": "gs", "abfs": "abs", "az": "abs", "s3a": "s3", "webhdfs": "hdfs"}
_SCHEMES_OF_WEB: Final = frozenset({"http", "https"})

# What HfFileSystem writes before a file's own name. Its revision is escaped there (`refs%2Fpr%2F1`)
# but for those of the hub itself, which may be written either way.
_HF_REPOSITORY: Final = re.compile(
    r"(?P<repository>(?:(?:datasets|spaces|models)/)?[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert/[^/]+|pr/\d+)|[^/]+))?"
)

_WITH_HOST: Final = frozenset({"ftp", "hdfs", "webhdfs"})
_AUTHORITY: Final = frozenset({"host", "port", "username", "password"})

# How that filesystem works inside, which is the daemon's business here.
_MEANINGLESS: Final = frozenset(
    {
        "anon",
        "asynchronous",
        "block_size",
        "cache_regions",
        "cache_type",
        "default_block_size",
        "default_cache_type",
        "default_fill_cache",
        "dircache",
        "fill_cache",
        "loop",
        "skip_instance_cache",
        "use_listings_cache",
        "use_ssl",
    }
)


def scheme_of(protocol: str) -> str:
    """The URL scheme under which the daemon knows what fsspec calls `protocol`."""
    return _SCHEMES.get(protocol, protocol)


def path_of(protocol: str, name: str) -> str:
    """What stands in the daemon's URL for what the inner filesystem calls `name`."""
    if protocol in _SCHEMES_OF_WEB:
        return name
    found = _HF_REPOSITORY.match(name) if protocol == "hf" else None
    if found is None:
        return quote(name)
    revision = found["revision"]
    at = f"@{quote(unquote(revision), safe='')}" if revision else ""
    return f"{found['repository']}{at}{quote(name[found.end() :])}"


def name_of(protocol: str, path: str) -> str:
    """What the inner filesystem calls what stands in a URL as `path`."""
    if protocol in _SCHEMES_OF_WEB:
        return path
    found = _HF_REPOSITORY.match(path) if protocol == "hf" else None
    if found is None:
        return unquote(path)
    return path[: found.end()] + unquote(path[found.end() :])


def authority_of(protocol: str, told: Mapping[str, Any]) -> str:
    """What stands between `://` and the path, where the inner filesystem takes it as options."""
    if protocol not in _WITH_HOST or not told.get("host"):
        return ""
    user, password = (told.get(name) or "" for name in ("username", "password"))
    login = quote(str(user), safe="")
    login += f":{quote(str(password), safe='')}" if password else ""
    port = f":{told['port']}" if told.get("port") else ""
    return f"{login}@{told['host']}{port}" if login else f"{told['host']}{port}"


def options_of(protocol: str, told: Mapping[str, Any]) -> Options:
    """What a request says. Raises CallerError, naming the option."""
    flat = dict(told)
    client: Mapping[str, Any] = flat.pop("client_kwargs", None) or {}
    flat.update(client)
    said = {name: value for name, value in flat.items() if name not in _MEANINGLESS}
    said = {name: value for name, value in said.items() if value is not None}
    if protocol in _WITH_HOST:
        said = {name: value for name, value in said.items() if name not in _AUTHORITY}
    if protocol in _STORES:
        return {"object_storage": _store(protocol, said)}
    if protocol in _SCHEMES_OF_WEB:
        return {"header": dict(_only(protocol, said, {"headers"}).get("headers", {}))}
    if protocol == "hf":
        names = {"token": "token", "revision": "revision", "endpoint": "base_url"}
        return {"hugging_face": ModelHub(**_renamed(protocol, said, names))}
    if scheme_of(protocol) == "hdfs":
        return {"hdfs": Hdfs(**_renamed(protocol, said, {"token": "delegation_token"}))}
    _only(protocol, said, set())
    return {}


def _store(protocol: str, said: Mapping[str, Any]) -> ObjectStorage:
    left = dict(said)
    skip = left.pop("verify", True) is False
    fields = _renamed(protocol, left, _STORES[protocol])
    return ObjectStorage(**fields, insecure_skip_verify=skip)


def _renamed(protocol: str, said: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    _only(protocol, said, names.keys())
    for name, value in said.items():
        if not isinstance(value, str):
            raise CallerError(f"option {name!r} of {protocol} is no text: the daemon needs one")
    return {names[name]: value for name, value in said.items()}


def _only(protocol: str, said: Mapping[str, Any], names: Any) -> Mapping[str, Any]:
    for name in said:
        if name not in names:
            known = ", ".join(sorted(names)) or "no option at all"
            raise CallerError(f"{name!r} of {protocol} can't be told to the daemon: use {known}")
    return said
