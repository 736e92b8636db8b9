"""What must never be shown: passwords, tokens, credentials in headers and URLs.

Used wherever values become visible: logs, error messages, printed settings. It hides by the name of
what holds the value and by the form of the value; a secret under a harmless name in a harmless form
is beyond it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

HIDDEN = "***"

# Names are compared in lower case without "-", "_" and ".": "Auth-Token" and "authToken" are one.
_SECRET_WORDS = (
    "password", "passwd", "token", "secret", "authorization", "credential", "cookie", "signature",
    "apikey", "accesskey", "privatekey", "securitykey",
)  # fmt: skip
# Query parameters of signed URLs (S3, GCS, OSS, Azure SAS, CloudFront) besides the words above.
_SECRET_PARAMETERS = frozenset(
    [
        "sig",
        "sign",
        "awsaccesskeyid",
        "ossaccesskeyid",
        "googleaccessid",
        "keypairid",
        "policy",
        "auth",
        "key",
    ]
)
_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s@]*@")
_PARAMETER = re.compile(r"(?P<name>(?<=[?&;])[^=&#\s;?]+)=(?P<value>[^&#\s;\"'<>]*)")
_BEARER = re.compile(
    r"\b(?P<scheme>Bearer|Basic|Digest|Negotiate)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE
)


@lru_cache(maxsize=4096)  # the same few names again and again, half the cost of a log line
def is_secret_key(name: str) -> bool:
    """Whether something of this name (a header, a key path, a log key) holds a secret."""
    plain = re.sub(r"[-_.\s]", "", name.rpartition(".")[2]).lower()
    return any(word in plain for word in _SECRET_WORDS)


def redact_text(text: str) -> str:
    """The text without credentials in URLs (user info, signatures) and without bearer tokens."""
    if "@" in text:
        text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    if "=" in text:
        text = _PARAMETER.sub(_redact_parameter, text)
    if len(text.split(maxsplit=1)) == 1:  # most of what is logged is one word
        return text
    return _BEARER.sub(rf"\g<scheme> {HIDDEN}", text)


def redact(value: object, name: str = "") -> object:
    """The value with every secret in it hidden; mappings and sequences are searched."""
    if name and is_secret_key(name) and value not in (None, "", b""):
        return HIDDEN
    match value:
        case str():
            return redact_text(value)
        case bytes():
            return f"<{len(value)} bytes>"
        case Mapping():
            mapping = cast("Mapping[object, object]", value)
            return {key: redact(inner, str(key)) for key, inner in mapping.items()}
        case list() | tuple():
            return [redact(inner) for inner in cast("Sequence[object]", value)]
        case _:
            return value


def shown(value: object, *, secret: bool) -> str:
    """A value for a message: text in quotes, secrets hidden."""
    if secret and value not in (None, ""):
        return HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(redact_text(value)) if isinstance(value, str) else str(value)


def _redact_parameter(match: re.Match[str]) -> str:
    name = unquote(match["name"])
    plain = re.sub(r"[-_.\s]", "", name).lower()
    hide = plain in _SECRET_PARAMETERS or is_secret_key(name)
    return f"{match['name']}={HIDDEN}" if hide else match[0]
