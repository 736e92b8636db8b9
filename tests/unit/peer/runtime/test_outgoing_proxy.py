"""Whom origins are asked through, and that the environment has no say."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from peer.runtime.outgoing_proxy import NO_PROXY, OutgoingProxy, forget_environment_proxies


@pytest.mark.parametrize(
    ("exception", "covered", "others"),
    [
        ("example.org", ["example.org", "EXAMPLE.ORG.", "a.b.example.org"], ["anexample.org", ""]),
        (".example.org", ["example.org", "a.example.org"], ["example.com"]),
        ("*.example.org", ["a.example.org"], ["org"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.1.2.3", "10.example.org"]),
        ("::1", ["::1", "[::1]"], ["::2", "127.0.0.1"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.70"]),
        ("*", ["anything", "10.0.0.1"], []),
        ("", [], ["example.org", "10.0.0.1"]),
    ],
)
def test_exceptions_are_asked_directly(
    exception: str, covered: list[str], others: list[str]
) -> None:
    proxy = OutgoingProxy(url="http://proxy.test:3128", exceptions=(exception,))
    assert [host for host in covered if proxy.for_host(host) is not None] == []
    assert [host for host in others if proxy.for_host(host) is None] == []


def test_without_a_proxy_everyone_is_asked_directly() -> None:
    assert NO_PROXY.for_host("example.org") is None


def test_proxies_of_the_environment_are_forgotten_and_named() -> None:
    environ = {
        "HTTP_PROXY": "http://user:hush@127.0.0.1:65001",
        "https_proxy": "x",
        "ALL_PROXY": "y",
        "HOME": "/root",
    }
    with capture_logs() as log:
        forget_environment_proxies(environ)
    assert environ == {"HOME": "/root"}
    assert log[0]["reason"].startswith("ALL_PROXY, HTTP_PROXY, https_proxy would be obeyed")
    assert "hush" not in str(log)
    with capture_logs() as log:
        forget_environment_proxies(environ)
    assert log == []
