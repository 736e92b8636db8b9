"""Whom to trust for which origin."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from support.certificates import make_authority

from odonata.errors import SettingsError
from peer.runtime.host_trust import HostTrust, Trusts


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    own = make_authority(tmp_path, "own")
    trusts = Trusts(
        (
            HostTrust(regex="^a[.]test$", insecure=True),
            HostTrust(regex="[.]test:5000$", ca_file=own.cert),
            HostTrust(regex="plain"),
        ),
        default=True,
    )
    anybody, one = trusts.of("a.test", 443), trusts.of("b.test", 5000)
    assert isinstance(anybody, ssl.SSLContext)
    assert (anybody.verify_mode, anybody.check_hostname) == (ssl.CERT_NONE, False)
    assert isinstance(one, ssl.SSLContext)
    assert one.verify_mode is ssl.CERT_REQUIRED
    subjects = [str(authority["subject"]) for authority in one.get_ca_certs()]
    assert any("'own'" in subject for subject in subjects)
    assert trusts.of("b.test", 443) is True
    assert trusts.of("plain.example", 443) is True, "nothing is said of it"


def test_files_and_patterns_that_are_none_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(SettingsError, match=r"interceptHosts: cert .*none\.pem"):
        Trusts((HostTrust(regex="x", ca_file=missing),), default=True)
    with pytest.raises(SettingsError, match=r"interceptHosts.*RE2"):
        Trusts((HostTrust(regex="(", insecure=True),), default=True)
