"""Who may use the proxy: right, wrong, missing and garbled logins."""

from __future__ import annotations

import base64

import pytest

from odonata.errors import CallerError
from peer.core.proxy_auth import LoginError, ProxyLogin, admit
from peer.core.proxy_rule import RequestHead

LOGIN = ProxyLogin(username="alice", password="s3cret:ü")


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


RIGHT = basic("alice:s3cret:ü")


def head(target: str, *headers: tuple[str, str]) -> RequestHead:
    return RequestHead(method="GET", target=target, headers=headers)


def test_without_a_login_everybody_may() -> None:
    request = head("/v2/", ("Authorization", "Bearer t"))
    assert admit(request, None) is request


@pytest.mark.parametrize("target", ["http://r.test/x", "/v2/", "r.test:443"])
def test_the_proxys_own_header(target: str) -> None:
    request = head(target, ("Proxy-Authorization", RIGHT), ("Authorization", "Bearer t"))
    assert admit(request, LOGIN) is request


def test_a_mirrors_client_logs_in_like_at_a_registry() -> None:
    request = head("/v2/", ("Accept", "a"), ("authorization", RIGHT))
    assert admit(request, LOGIN).headers == (("Accept", "a"),)


@pytest.mark.parametrize(
    ("request_head", "status", "asks_by"),
    [
        (head("http://r.test/x"), 407, "Proxy-Authenticate"),
        (head("http://r.test/x", ("Authorization", RIGHT)), 407, "Proxy-Authenticate"),
        (head("r.test:443", ("Proxy-Authorization", basic("alice:x"))), 407, "Proxy-Authenticate"),
        (head("http://r.test/x", ("Proxy-Authorization", "Bearer t")), 407, "Proxy-Authenticate"),
        (head("/v2/"), 401, "WWW-Authenticate"),
        (head("/v2/", ("Authorization", "Bearer t")), 401, "WWW-Authenticate"),
        (head("/v2/", ("Authorization", basic("bob:s3cret"))), 401, "WWW-Authenticate"),
    ],
)
def test_others_are_asked(request_head: RequestHead, status: int, asks_by: str) -> None:
    with pytest.raises(LoginError) as caught:
        admit(request_head, LOGIN)
    assert caught.value.http_status == status
    assert caught.value.challenge[0] == asks_by
    assert "s3cret" not in caught.value.detail


def test_a_garbled_login_is_the_callers_mistake() -> None:
    with pytest.raises(CallerError) as caught:
        admit(head("/v2/", ("Authorization", "Basic %%%")), LOGIN)
    assert caught.value.http_status == 400


def test_the_password_is_not_shown() -> None:
    assert "s3cret" not in repr(LOGIN)
