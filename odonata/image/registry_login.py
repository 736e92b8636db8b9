"""How a registry wants to be logged in to: its challenge, read; a token, asked for. No state.

A registry answers 401 with `WWW-Authenticate`. `Bearer realm=...,service=...` sends the client to a
token server, with user and password if there are any; `Basic` wants these themselves. Both are
RFC 7235 challenges, of which one header may hold several.
"""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from odonata.errors import ForbiddenError, SourceError
from odonata.wire.message import Value

_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z]+)(?:\s+(?=[^\s=,]+\s*=)|\s*(?=,|$))")
_PARAMETER: Final = re.compile(r'\s*,?\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Challenge(Value, frozen=True, kw_only=True):
    """One challenge: `scheme` in lower case, parameters as sent."""

    scheme: str
    parameters: dict[str, str] = {}


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def read_challenges(header: str) -> list[Challenge]:
    """All challenges of a WWW-Authenticate header; what can't be understood ends the list."""
    found: list[Challenge] = []
    position = 0
    while (scheme := _SCHEME.match(header, position)) is not None and scheme.end() > position:
        position = scheme.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(header, position)) is not None:
            position = parameter.end()
            quoted = parameter[2]
            value = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters[parameter[1].lower()] = value
        found.append(Challenge(scheme=scheme[1].lower(), parameters=parameters))
    return found


def basic(username: str, password: str) -> str:
    """The Authorization header of these credentials."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def token_url(challenge: Challenge, repository: str, registry: str) -> str:
    """Where a token to pull from `repository` is to be had.

    Raises SourceError for a realm that is no URL, ForbiddenError for one that would have
    credentials sent in clear although the registry itself speaks TLS.
    """
    realm = challenge.parameters.get("realm", "")
    parts = urlsplit(realm)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(f"registry {registry} sends to a token server at {realm[:120]!r}: no URL")
    if registry.startswith("https:") and parts.scheme != "https":
        raise ForbiddenError(
            f"registry {registry} sends to a token server without TLS ({parts.hostname}): "
            "credentials are not sent there"
        )
    query = parse_qsl(parts.query)
    if service := challenge.parameters.get("service"):
        query.append(("service", service))
    query.append(("scope", f"repository:{repository}:pull"))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def read_token(data: bytes, registry: str) -> str:
    """The Authorization header made of a token server's answer. Raises SourceError."""
    try:
        found = msgspec.json.decode(data, type=_Token)
    except msgspec.DecodeError as error:
        raise SourceError(f"the token server of {registry} answers no token: {error}") from None
    token = found.token or found.access_token
    if not token or any(letter.isspace() for letter in token):
        raise SourceError(f"the token server of {registry} answers without a usable token")
    return f"Bearer {token}"
