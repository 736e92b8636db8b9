"""TLS of the piece port (storage.server.tls), and the authorities of sources (backend.caCert).

A pair is tried as peers would try it: two ends in memory shake hands with the daemon's own
contexts. Lives of certificates are read by `cryptography`, since the standard library tells only
those of authorities, and a source's certificate may be trusted by itself. Blocks.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509

from odonata.errors import SettingsError
from odonata.units import format_duration
from peer.doctor.certificate import Life, mismatch, unreadable, untimely
from peer.doctor.finding import Finding, Level, failure, ok, split_fix
from peer.runtime.piece_tls import PieceTls, piece_tls
from peer.settings import PieceTlsSettings

_PIECES: Final = "storage.certificate"
_SOURCES: Final = "backend.authorities"
_SIGN: Final = "have the authority of storage.server.tls.caCert sign a new one, and restart"
_RENEW: Final = "make a new authority, name both in storage.server.tls.caCert, then sign anew by it"
_FETCH: Final = "get the new one of who runs the source, and restart"
_TURNS: Final = 8
"""A handshake of TLS 1.3 takes three."""


def check_piece_tls(settings: PieceTlsSettings | None, now_s: float) -> tuple[Finding, ...]:
    """Whether peers take what this host shows them at `now_s` (Unix seconds)."""
    if settings is None:
        return ()
    name, authority, cert = "storage.server.tls", settings.ca_cert, settings.cert
    named = ((authority, f"{name}.caCert"), (cert, f"{name}.cert"), (settings.key, f"{name}.key"))
    bad = unreadable(_PIECES, named) or mismatch(_PIECES, cert, settings.key)
    if bad is not None:
        return (bad,)
    try:
        tls = piece_tls(settings)
    except SettingsError as error:
        return (failure(_PIECES, *split_fix(error.detail), subject=str(authority)),)
    assert tls is not None, "there are settings"
    return (_judge_pair(tls, authority, cert, now_s),)


def check_source_authorities(path: Path | None, now_s: float) -> tuple[Finding, ...]:
    """Whether backend.caCert, if there is one, adds to whom we trust at `now_s` (Unix seconds)."""
    if path is None:
        return ()
    bad = unreadable(_SOURCES, ((path, "backend.caCert"),))
    if bad is not None:
        return (bad,)
    subject = str(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        detail = f"{path} is not taken: {error.reason or error}"
        return (failure(_SOURCES, detail, "name a PEM file of certificates", subject=subject),)
    lives = _lives(path)
    late = [untimely(_SOURCES, path, life, now_s, _FETCH) for life in lives]
    return (
        _mildest(late)
        or ok(_SOURCES, f"{len(lives) or 'some'} trusted for sources", subject=subject),
    )


def _judge_pair(tls: PieceTls, authority: Path, cert: Path, now_s: float) -> Finding:
    lives = _lives(cert)[:1]  # what follows are authorities between
    late = [untimely(_PIECES, cert, life, now_s, _SIGN) for life in lives]
    late += [_mildest([untimely(_PIECES, authority, a, now_s, _RENEW) for a in _lives(authority)])]
    found = [finding for finding in late if finding is not None]
    failed = [finding for finding in found if finding.level is Level.FAILURE]
    refused = None if failed else _refusal(tls)
    if refused is not None:
        detail = f"{cert} is not taken by peers with {authority}: {refused}"
        return failure(_PIECES, detail, _SIGN, subject=str(cert))
    if found:
        return (failed or found)[0]
    left = f", valid for {format_duration(lives[0].ends_s - now_s)}" if lives else ""
    return ok(_PIECES, f"signed by its authority, with its key{left}", subject=str(cert))


def _mildest(found: list[Finding | None]) -> Finding | None:
    """Of several certificates one will do: who ends may still be named beside its successor."""
    bad = [one for one in found if one is not None]
    if len(bad) < len(found):
        return None
    return min(bad, key=lambda one: one.level is Level.FAILURE, default=None)


def _lives(path: Path) -> list[Life]:
    """Of the certificates in a PEM file; none if `cryptography` is stricter than OpenSSL."""
    with suppress(ValueError):
        found = x509.load_pem_x509_certificates(path.read_bytes())
        return [
            Life(one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp())
            for one in found
        ]
    return []


def _refusal(tls: PieceTls) -> str | None:
    """Why one end would not speak with the other, if both show what this host does."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        tls.client.wrap_bio(to_client, to_server),
        tls.server.wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        for end in ends * _TURNS:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    return None
