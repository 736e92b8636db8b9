"""Who may use the proxy, where it asks for a name and a password (RFC 7617, Basic).

Proxy-Authorization is the header for it. Clients of a registry mirror don't know that they talk to
a proxy, so in origin-form Authorization counts as well, as in Dragonfly; it is then ours and is not
passed on. Nobody is asked unless the daemon's settings say so.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import ClassVar

import msgspec

from odonata.errors import CallerError, ForbiddenError
from odonata.wire.message import Value
from peer.core.proxy_header import value_of
from peer.core.proxy_rule import RequestHead

_REALM = 'Basic realm="odonata proxy", charset="UTF-8"'


class ProxyLogin(Value, frozen=True, kw_only=True):
    """What a client has to send."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"ProxyLogin(username={self.username!r})"


class LoginError(ForbiddenError):
    """No name and password, or wrong ones; `challenge` is the header that asks for them."""

    code = "login"
    http_status: ClassVar[int] = 407
    challenge: ClassVar[tuple[str, str]] = ("Proxy-Authenticate", _REALM)


class MirrorLoginError(LoginError):
    """The same, told to a client that takes us for a registry."""

    http_status: ClassVar[int] = 401
    challenge: ClassVar[tuple[str, str]] = ("WWW-Authenticate", _REALM)


def admit(head: RequestHead, login: ProxyLogin | None) -> RequestHead:
    """The request without what was meant for us. LoginError; CallerError for a garbled header."""
    if login is None:
        return head
    is_mirror = head.target.startswith("/")
    given = value_of(head.headers, "proxy-authorization")
    by_authorization = given is None and is_mirror
    if by_authorization:
        given = value_of(head.headers, "authorization")
    if given is None or not _matches(given, login):
        kind = MirrorLoginError if is_mirror else LoginError
        raise kind("this proxy wants the name and password of its proxy.server.basicAuth setting")
    if not by_authorization:
        return head
    kept = tuple(pair for pair in head.headers if pair[0].lower() != "authorization")
    return msgspec.structs.replace(head, headers=kept)


def _matches(given: str, login: ProxyLogin) -> bool:
    scheme, _, encoded = given.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        sent = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        raise CallerError(
            "the proxy's login is garbled: send Basic and base64 of name:password"
        ) from None
    return hmac.compare_digest(sent, f"{login.username}:{login.password}".encode())
