"""An authority of the operator's own, for the proxy's interception: made, and made known to a host.

What it signs is good for servers only, and, if hosts are named, for these alone: a key that is
stolen then opens no other connection.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from odonata.errors import CallerError, SettingsError, StorageError
from odonata.wire.message import Value

CERT_NAME: Final = "ca.crt"
KEY_NAME: Final = "ca.key"
BACKDATED: Final = timedelta(days=1)
"""Clients' clocks differ."""
TIMEOUT_S: Final = 120.0
"""Of a program that collects authorities: it reads a few hundred files."""


def create(
    folder: Path, *, name: str, now: datetime, life: timedelta, hosts: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Write certificate and key into `folder`, and return their paths.

    The key is readable for its owner only. CallerError if one of them is there already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(key, name=name, now=now, life=life, hosts=hosts)
    cert_file, key_file = folder / CERT_NAME, folder / KEY_NAME
    present = next((file for file in (cert_file, key_file) if file.exists()), None)
    if present is not None:
        raise CallerError(
            f"{present} is there already, and clients may trust it: name another --dir, or remove "
            "both files"
        )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(key_file, secret, mode=0o600)
    _write(cert_file, certificate.public_bytes(pem), mode=0o644)
    return cert_file, key_file


def _signed(
    key: ec.EllipticCurvePrivateKey,
    *,
    name: str,
    now: datetime,
    life: timedelta,
    hosts: Sequence[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if hosts:
        permitted = [_dns_name(host) for host in hosts]
        limits = x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)
        builder = builder.add_extension(limits, critical=True)
    return builder.sign(key, hashes.SHA256())


_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _dns_name(host: str) -> x509.DNSName:
    if not host or not host.isascii() or "*" in host or ":" in host:
        raise CallerError(
            f"--host {host!r}: write the name of a host, such as registry.example; it permits the "
            "hosts below it, too"
        )
    return x509.DNSName(host)


def _write(file: Path, content: bytes, *, mode: int) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
    except OSError as cause:
        raise StorageError(f"{file} can't be written: {cause.strerror}") from None


class TrustStore(Value, frozen=True, kw_only=True):
    """Where a system keeps the authorities that its user added, and what collects them."""

    folder: Path
    command: tuple[str, ...]


STORES: Final = (
    TrustStore(
        folder=Path("/usr/local/share/ca-certificates"), command=("update-ca-certificates",)
    ),  # Debian, Ubuntu, Alpine
    TrustStore(
        folder=Path("/etc/pki/ca-trust/source/anchors"), command=("update-ca-trust", "extract")
    ),  # Fedora, RHEL
    TrustStore(folder=Path("/etc/pki/trust/anchors"), command=("update-ca-certificates",)),  # SUSE
    TrustStore(
        folder=Path("/etc/ca-certificates/trust-source/anchors"), command=("update-ca-trust",)
    ),  # Arch
)


class TrustChange(Value, frozen=True, kw_only=True):
    """What `trust` does, or would do: one file, and one command after it."""

    file: Path
    content: bytes | None
    """None: the file is removed."""
    command: tuple[str, ...]
    is_needed: bool
    """False: it is so already."""


def plan_trust(
    cert: Path, *, undo: bool = False, stores: Sequence[TrustStore] = STORES
) -> TrustChange:
    """How this host comes to trust the authority of `cert`, or no more. Changes nothing.

    SettingsError if the file is no authority's, CallerError if the system's store is not known.
    """
    content, certificate = _authority(cert)
    store = next((one for one in stores if _is_here(one)), None)
    if store is None:
        known = ", ".join(str(one.folder) for one in stores)
        raise CallerError(
            f"this system has none of the known stores ({known}): add {cert} to its authorities by "
            "its own means"
        )
    name = certificate.fingerprint(hashes.SHA256()).hex()[:16]
    file = store.folder / f"odonata-{name}.crt"
    held = file.read_bytes() if file.exists() else None
    wanted = None if undo else content
    return TrustChange(file=file, content=wanted, command=store.command, is_needed=held != wanted)


def apply_trust(change: TrustChange) -> None:
    """Do it. StorageError if the file can't be written, or its command fails."""
    try:
        if change.content is None:
            change.file.unlink(missing_ok=True)
        else:
            change.file.write_bytes(change.content)
    except OSError as cause:
        raise StorageError(
            f"{change.file} can't be changed: {cause.strerror}; are you root?"
        ) from None
    program = shutil.which(change.command[0])
    assert program is not None, "its store was chosen because it is there"
    done = subprocess.run(  # noqa: S603  # one of STORES' commands
        [program, *change.command[1:]],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise StorageError(f"{' '.join(change.command)} failed: {said}")


def _is_here(store: TrustStore) -> bool:
    return store.folder.is_dir() and shutil.which(store.command[0]) is not None


def _authority(cert: Path) -> tuple[bytes, x509.Certificate]:
    try:
        content = cert.read_bytes()
        certificate = x509.load_pem_x509_certificate(content)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except OSError as cause:
        raise SettingsError(f"{cert} can't be read: {cause.strerror}") from None
    except (ValueError, x509.ExtensionNotFound) as cause:
        raise SettingsError(f"{cert} is no authority's certificate in PEM form: {cause}") from None
    if not constraints.value.ca:
        raise SettingsError(f"{cert} is no authority's: it says CA:FALSE")
    return content, certificate
