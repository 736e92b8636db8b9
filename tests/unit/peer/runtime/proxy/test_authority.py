"""Certificates for intercepted hosts: who signs, for whom, how long, and how many are kept."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.certificates import Signed, make_authority, make_signed

from odonata.errors import SettingsError
from peer.runtime.proxy.authority import LEAF_LIFE, Authority, Certificates

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return make_authority(tmp_path_factory.mktemp("authority"))


def verified(leaf: x509.Certificate, authority: Path, folder: Path, *words: str) -> bool:
    """By openssl, as a server's."""
    file = folder / "leaf.pem"
    file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", str(authority), *words]
    return subprocess.run([*command, str(file)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["ec", "rsa:2048", "ed25519"])
def test_what_any_kind_of_authority_signs_is_good(kind: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", kind, *curve, "-nodes", "-days", "2", "-subj",
         "/CN=a", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    authority = Authority.load(cert, key)
    now = datetime.now(UTC)
    for name, words in (
        ("registry.test", ["-verify_hostname", "registry.test"]),
        ("10.1.2.3", ["-verify_ip", "10.1.2.3"]),
        ("::1", ["-verify_ip", "::1"]),
        ("a" * 60 + ".example.test", ["-verify_hostname", "a" * 60 + ".example.test"]),
    ):
        assert verified(authority.sign(name, KEY, now), cert, tmp_path, *words), name
    leaf = authority.sign("registry.test", KEY, now)
    assert not verified(leaf, cert, tmp_path, "-verify_hostname", "other.test")


def test_no_leaf_outlives_its_authority(files: Signed) -> None:
    authority = Authority.load(*files)
    now = datetime.now(UTC)
    leaf = authority.sign("r.test", KEY, now)
    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc
    early = now - timedelta(days=300)
    long_ago = authority.sign("r.test", KEY, early)
    assert long_ago.not_valid_before_utc == authority.certificate.not_valid_before_utc


def test_one_context_for_each_name_until_it_is_due(tmp_path: Path) -> None:
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "3650", "-subj", "/CN=a", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    clock = [datetime.now(UTC)]
    kept = Certificates(Authority.load(cert, key), now=lambda: clock[0])
    first = kept.context("Registry.test.")
    assert kept.context("registry.test") is first
    clock[0] += LEAF_LIFE / 2
    assert kept.context("registry.test") is first
    clock[0] += LEAF_LIFE / 4
    assert kept.context("registry.test") is not first, "soon it would be too old"


def test_the_oldest_name_goes_first(files: Signed) -> None:
    kept = Certificates(Authority.load(*files), hosts_max=3)
    made = {name: kept.context(name) for name in "abc"}
    assert kept.context("a") is made["a"]
    kept.context("d")
    assert kept.context("a") is made["a"]
    assert kept.context("b") is not made["b"]


@pytest.mark.parametrize("name", ["", "*.test", "x" * 254, "r\u00e9gistre.test"])
def test_what_is_no_name_gets_nothing(files: Signed, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a host"):
        Certificates(Authority.load(*files)).context(name)


def test_pairs_that_are_none_are_told_with_the_setting(files: Signed, tmp_path: Path) -> None:
    other = make_authority(tmp_path, "other")
    server = make_signed(tmp_path, other, "r.test")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(files.key), "-aes256", "-passout", "pass:x", "-out",
         str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    for cert, key, told in (
        (files.cert, other.key, "caKey .*other.key is not the key of"),
        (server.cert, server.key, "caCert .*r.test.crt is no authority's"),
        (text, files.key, "caCert .*text.pem is no certificate"),
        (files.cert, text, "caKey .*text.pem is no key"),
        (files.cert, locked, "caKey .*locked.key has a passphrase"),
        (tmp_path / "none", files.key, "caCert .*none can't be read: No such file"),
    ):
        with pytest.raises(SettingsError, match=told):
            Authority.load(cert, key)
