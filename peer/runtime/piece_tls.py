"""TLS between peers of ours, with both sides showing a certificate of one authority.

Who a certificate names is not looked at: hosts come and go and change addresses; that the site's
authority signed it says that the other end is one of its peers. Versions before 1.3 are refused:
both ends are ours. Keys are read once; a new certificate takes a restart.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from odonata.errors import SettingsError
from peer.settings import PieceTlsSettings


class PieceTls(NamedTuple):
    """How a host speaks TLS as a parent and as a child."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    is_required: bool


def piece_tls(settings: PieceTlsSettings | None) -> PieceTls | None:
    """None: it is not configured. SettingsError: a file is missing, or is not what it should be."""
    if settings is None:
        return None
    return PieceTls(
        server=_prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings),
        client=_prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings),
        is_required=settings.required,
    )


def _prepared(context: ssl.SSLContext, settings: PieceTlsSettings) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(settings.ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"storage.server.tls.caCert {settings.ca_cert}: {_reason(error)}; name a readable PEM "
            "file with the authority's certificate"
        ) from error
    try:
        context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"storage.server.tls.cert {settings.cert} with key {settings.key}: {_reason(error)}; "
            "name readable PEM files that belong together"
        ) from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return error.strerror or str(error)
