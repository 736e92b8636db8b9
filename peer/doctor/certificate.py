"""The proxy's authority (proxy.server.caCert, caKey), which signs for the hosts that it opens.

Judged by OpenSSL as the standard library has it: what it would refuse is refused here. Blocks.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from odonata.units import format_duration
from peer.doctor.finding import Finding, failure, ok, warning

SOON_S: Final = 30 * 86400.0
"""A new authority has to reach every client's trust store first: a month's notice."""

_CHECK: Final = "proxy.certificate"
_MAKE: Final = "make a new pair, and let the clients of the proxy trust it"


def check_certificate(cert: Path | None, key: Path | None, now_s: float) -> tuple[Finding, ...]:
    """Whether they can be read, belong together, and are a valid authority's at `now_s` (Unix)."""
    if cert is None or key is None:
        return ()
    for path, name in ((cert, "proxy.server.caCert"), (key, "proxy.server.caKey")):
        unreadable = _unreadable(path, name)
        if unreadable is not None:
            return (unreadable,)
    return (_mismatch(cert, key) or _judge(cert, now_s),)


def _unreadable(path: Path, name: str) -> Finding | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        reason = error.strerror or str(error)
        fix = f"correct {name}, or let the daemon's user read it"
        return failure(_CHECK, f"{path} can't be read: {reason}", fix, subject=str(path))
    return None


def _no_passphrase() -> str:
    return ""


def _mismatch(cert: Path, key: Path) -> Finding | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            fix = "name the key that the certificate was made with"
            detail = f"{key} is not the key of {cert}"
        else:
            fix = "name PEM files: a certificate, and its key without a passphrase"
            detail = f"{cert} and {key} are not taken: {error.reason or error}"
        return failure(_CHECK, detail, fix, subject=str(cert))
    except ValueError as error:  # an empty passphrase is refused before it is tried
        fix = "write the key without a passphrase: a daemon has nobody to ask for it"
        return failure(_CHECK, f"{key} is not taken: {error}", fix, subject=str(key))
    return None


def _judge(cert: Path, now_s: float) -> Finding:
    subject = str(cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cert)
    # What is no authority is left out of this list.
    authorities: list[dict[str, Any]] = list(context.get_ca_certs())
    if not authorities:
        detail = f"{cert} is no authority's (CA:TRUE is missing): clients refuse what it signs"
        return failure(_CHECK, detail, _MAKE, subject=subject)
    begins_s = ssl.cert_time_to_seconds(str(authorities[0]["notBefore"]))
    ends_s = ssl.cert_time_to_seconds(str(authorities[0]["notAfter"]))
    if now_s < begins_s:
        wait = format_duration(begins_s - now_s)
        detail = f"{cert} is valid only in {wait}"
        return failure(_CHECK, detail, "set this host's clock, or wait", subject=subject)
    if now_s >= ends_s:
        ago = format_duration(now_s - ends_s)
        return failure(_CHECK, f"{cert} expired {ago} ago", _MAKE, subject=subject)
    left = format_duration(ends_s - now_s)
    if ends_s - now_s < SOON_S:
        return warning(_CHECK, f"{cert} expires in {left}", _MAKE, subject=subject)
    return ok(_CHECK, f"an authority's, with its key, valid for {left}", subject=subject)
