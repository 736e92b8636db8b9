"""The proxy through which origins are asked, if the settings name one, and who is asked past it.

The environment's HTTP_PROXY and its like never count: on a host whose tools use this daemon's own
proxy they name that, and the daemon would ask itself. Nothing here connects.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import MutableMapping

import structlog
from yarl import URL

from odonata.errors import SettingsError
from odonata.wire.message import Value

ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
"""In small letters and in capitals."""

_log = structlog.get_logger("source")


class OutgoingProxy(Value, frozen=True, kw_only=True):
    """`url`: http://[user:password@]host:port; "": none. `exceptions` are asked directly.

    An exception is a host name (which stands for all below it, too; a leading dot or "*." changes
    nothing), an IP address, or a network such as 10.0.0.0/8; "*" is everyone.
    """

    url: str = ""
    exceptions: tuple[str, ...] = ()

    def for_host(self, host: str) -> URL | None:
        """The proxy for what lies on `host` (a name or an IP address); None: ask it directly."""
        if not self.url or self._is_exception(host.strip("[]").rstrip(".").lower()):
            return None
        return URL(self.url)

    def _is_exception(self, host: str) -> bool:
        return any(_covers(exception.strip().lower(), host) for exception in self.exceptions)


NO_PROXY = OutgoingProxy()


def _covers(exception: str, host: str) -> bool:
    if exception == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = exception.removeprefix("*").removeprefix(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        return False  # a name never covers an address


def check_no_loop(url: str, own_port: int) -> None:
    """SettingsError if the proxy at `url` is this host's at `own_port`: it would ask itself.

    Blocks for as long as the name takes to resolve.
    """
    proxy = URL(url)
    if url and own_port and proxy.port == own_port and _is_here(proxy.host or ""):
        raise SettingsError(
            f"backend.proxy names port {own_port} of this host, which is this daemon's own proxy "
            "(proxy.server.port): name another proxy, or none"
        )


def _is_here(host: str) -> bool:
    """Only an address of this host can be bound to. A name that says nothing is not here."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False


def forget_environment_proxies(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take the proxies out of a process's environment: libraries of origins would obey them.

    For the program's start: it changes what every part of the process sees.
    """
    names = [name for name in environ if name.lower() in ENVIRONMENT]
    for name in names:
        del environ[name]
    if names:
        _log.warning(
            "environment_proxy_ignored",
            reason=f"{', '.join(sorted(names))} would be obeyed by some origins' libraries: set "
            "backend.proxy if origins are to be asked through a proxy",
        )
