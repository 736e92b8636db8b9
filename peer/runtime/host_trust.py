"""Whom to trust for which origin: hosts of their own authority, or whose certificate nobody checks.

Everybody else is checked as `default` says. Contexts are made once, when settings are read.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from odonata.errors import CallerError, SettingsError
from odonata.pattern import Pattern
from odonata.wire.message import Value


class HostTrust(Value, frozen=True, kw_only=True):
    """Origins with `regex` in `host` or `host:port`."""

    regex: str
    insecure: bool = False
    """Any certificate will do."""
    ca_file: Path | None = None
    """PEM file of authorities, besides the system's."""


class Trusts:
    """The TLS context for each origin. SettingsError names a file or a pattern that is none."""

    def __init__(self, rules: Sequence[HostTrust], default: ssl.SSLContext | bool) -> None:
        """`default`: as aiohttp takes it; False checks nothing."""
        self._default = default
        self._rules = [
            (_pattern(rule), _context(rule)) for rule in rules if rule.insecure or rule.ca_file
        ]

    def of(self, host: str, port: int | None) -> ssl.SSLContext | bool:
        """For an origin; the first rule that matches decides."""
        names = (host, f"{host}:{port}")
        for pattern, context in self._rules:
            if any(pattern.found_in(name) for name in names):
                return context
        return self._default


def _pattern(rule: HostTrust) -> Pattern:
    try:
        return Pattern(rule.regex)
    except CallerError as cause:
        raise SettingsError(f"proxy.interceptHosts: {cause.detail}") from None


def context_trusting(file: Path | None, setting: str, *, insecure: bool = False) -> ssl.SSLContext:
    """A client's context that trusts the authorities in a PEM file, besides the system's.

    `insecure`: any certificate will do. SettingsError, with `setting`, if the file can't be used.
    """
    context = ssl.create_default_context()
    if file is not None:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as cause:
            raise SettingsError(
                f"{setting} {str(file)!r} can't be used: {cause}; give a PEM file of certificates"
            ) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _context(rule: HostTrust) -> ssl.SSLContext:
    setting = f"proxy.interceptHosts: cert of {rule.regex!r},"
    return context_trusting(rule.ca_file, setting, insecure=rule.insecure)
