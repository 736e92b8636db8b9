"""Certificates and their keys: whether they can be read, belong together, and are of this time.

And the proxy's authority (proxy.server.caCert, caKey), which signs for the hosts that it opens.
Judged by OpenSSL as the standard library has it: what it would refuse is refused here. Blocks.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

from odonata.units import format_duration
from peer.doctor.finding import Finding, failure, ok, warning

SOON_S: Final = 30 * 86400.0
"""A new authority has to reach every client's trust store first: a month's notice."""

_CHECK: Final = "proxy.certificate"
_MAKE: Final = "make a new pair, and let the clients of the proxy trust it"


class Life(NamedTuple):
    """Of a certificate, in Unix seconds."""

    begins_s: float
    ends_s: float


def check_certificate(cert: Path | None, key: Path | None, now_s: float) -> tuple[Finding, ...]:
    """Whether they can be read, belong together, and are a valid authority's at `now_s` (Unix)."""
    if cert is None or key is None:
        return ()
    named = ((cert, "proxy.server.caCert"), (key, "proxy.server.caKey"))
    bad = unreadable(_CHECK, named) or mismatch(_CHECK, cert, key)
    return (bad or _judge(cert, now_s),)


def unreadable(check: str, named: tuple[tuple[Path, str], ...]) -> Finding | None:
    """The first of these files that can't be read, each with its setting."""
    for path, name in named:
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            reason = error.strerror or str(error)
            fix = f"correct {name}, or let the daemon's user read it"
            return failure(check, f"{path} can't be read: {reason}", fix, subject=str(path))
    return None


def _no_passphrase() -> str:
    return ""


def mismatch(check: str, cert: Path, key: Path) -> Finding | None:
    """What keeps a server from showing this pair."""
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
        return failure(check, detail, fix, subject=str(cert))
    except ValueError as error:  # an empty passphrase is refused before it is tried
        fix = "write the key without a passphrase: a daemon has nobody to ask for it"
        return failure(check, f"{key} is not taken: {error}", fix, subject=str(key))
    return None


def untimely(check: str, cert: Path, life: Life, now_s: float, fix: str) -> Finding | None:
    """It is not valid yet, or not any more, or not for long."""
    subject = str(cert)
    if now_s < life.begins_s:
        wait = format_duration(life.begins_s - now_s)
        detail = f"{cert} is valid only in {wait}"
        return failure(check, detail, "set this host's clock, or wait", subject=subject)
    if now_s >= life.ends_s:
        ago = format_duration(now_s - life.ends_s)
        return failure(check, f"{cert} expired {ago} ago", fix, subject=subject)
    if life.ends_s - now_s < SOON_S:
        left = format_duration(life.ends_s - now_s)
        return warning(check, f"{cert} expires in {left}", fix, subject=subject)
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
    life = Life(
        ssl.cert_time_to_seconds(str(authorities[0]["notBefore"])),
        ssl.cert_time_to_seconds(str(authorities[0]["notAfter"])),
    )
    left = format_duration(life.ends_s - now_s) if now_s < life.ends_s else ""
    said = f"an authority's, with its key, valid for {left}"
    return untimely(_CHECK, cert, life, now_s, _MAKE) or ok(_CHECK, said, subject=subject)
