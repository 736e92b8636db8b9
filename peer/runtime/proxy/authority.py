"""Certificates for intercepted hosts, signed by the operator's authority when they are wanted.

One key for all of them, made when the daemon starts, and none of it on a disk. A certificate is
valid for the name that the client asks for (SNI), else for the host of its CONNECT. They are kept,
the least recently used goes first.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from odonata.errors import SettingsError

HOSTS_MAX: Final = 1000
"""Names with a certificate in memory, about 60 KiB each; Dragonfly keeps as many."""
LEAF_LIFE: Final = timedelta(days=90)
"""Long enough that nobody's clock is late for it, short enough for clients that refuse a year."""
RENEWED_AFTER: Final = 2 / 3
"""Of its life a certificate is made anew."""
BACKDATED: Final = timedelta(days=1)
"""Clients' clocks differ."""
NAME_LENGTH_MAX: Final = 253  # RFC 1035
COMMON_NAME_MAX: Final = 64  # RFC 5280, ub-common-name

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

Now = Callable[[], datetime]


def wall_clock() -> datetime:
    """The time of day, with its zone."""
    return datetime.now(UTC)


class Authority:
    """Whoever the operator's clients trust: a certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: _Key) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def load(cls, cert_file: Path, key_file: Path) -> Self:
        """From PEM files. SettingsError names the setting, the file and what is wrong with it."""
        certificate = _certificate(cert_file)
        key = _key(key_file)
        if certificate.public_key() != key.public_key():
            raise SettingsError(
                f"proxy.server.caKey {key_file} is not the key of proxy.server.caCert {cert_file}: "
                "name the key that the certificate was made with"
            )
        return cls(certificate, key)

    def sign(self, name: str, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
        """A server's certificate for `name`, a host name or an IP address. ValueError if neither.

        It never outlives the authority.
        """
        alternative = _general_name(name)
        ends = min(now + LEAF_LIFE, self.certificate.not_valid_after_utc)
        begins = max(now - BACKDATED, self.certificate.not_valid_before_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(max(ends, begins))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_key_identifier(self.certificate), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        return builder.sign(self._key, None if _signs_whole(self._key) else hashes.SHA256())


class Certificates:
    """A TLS context for each host that is intercepted."""

    def __init__(
        self, authority: Authority, now: Now = wall_clock, *, hosts_max: int = HOSTS_MAX
    ) -> None:
        self._authority = authority
        self._now = now
        self._hosts_max = hosts_max
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[datetime, ssl.SSLContext]] = OrderedDict()

    def context(self, name: str) -> ssl.SSLContext:
        """A server's for `name`. ValueError if that is no name of a host."""
        name = name.lower().rstrip(".")
        now = self._now()
        due, context = self._contexts.pop(name, (now, None))
        if context is None or now >= due:
            leaf = self._authority.sign(name, self._key.public_key(), now)
            due = now + RENEWED_AFTER * (leaf.not_valid_after_utc - now)
            context = self._context(name, leaf)
        self._contexts[name] = due, context
        if len(self._contexts) > self._hosts_max:
            self._contexts.popitem(last=False)
        return context

    def _context(self, name: str, leaf: x509.Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        pem = serialization.Encoding.PEM
        key = self._key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = leaf.public_bytes(pem) + self._authority.certificate.public_bytes(pem)
        with _in_memory(key + chain) as path:  # `ssl` takes files only
            context.load_cert_chain(path)

        def on_name(connection: ssl.SSLObject, wanted: str | None, _: ssl.SSLContext) -> None:
            if wanted is not None and wanted.lower() != name:
                try:
                    connection.context = self.context(wanted)
                except ValueError:  # it asks for no name at all: it gets its CONNECT's
                    return

        context.sni_callback = on_name
        return context


def _certificate(file: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except OSError as cause:
        raise _wrong("caCert", file, f"can't be read: {cause.strerror}") from None
    except x509.ExtensionNotFound:
        raise _wrong("caCert", file, "is no authority's: CA:TRUE is missing") from None
    except ValueError as cause:
        raise _wrong("caCert", file, f"is no certificate in PEM form: {cause}") from None
    if not is_authority.value.ca:
        raise _wrong("caCert", file, "is no authority's: it says CA:FALSE")
    return certificate


def _key(file: Path) -> _Key:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as cause:
        raise _wrong("caKey", file, f"can't be read: {cause.strerror}") from None
    except TypeError:
        raise _wrong("caKey", file, "has a passphrase: a daemon has nobody to ask for it") from None
    except ValueError as cause:
        raise _wrong("caKey", file, f"is no key in PEM form: {cause}") from None
    if not isinstance(key, _Key):
        raise _wrong("caKey", file, "can't sign certificates: use RSA, EC or Ed25519")
    return key


def _wrong(setting: str, file: Path, what: str) -> SettingsError:
    return SettingsError(
        f"proxy.server.{setting} {file} {what}; `odonata ca create` makes a pair that fits"
    )


def _signs_whole(key: _Key) -> bool:
    """Edwards curves have a digest of their own."""
    return isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)


def _subject(name: str) -> x509.Name:
    """For people: clients look at the alternative name."""
    short = name if len(name) <= COMMON_NAME_MAX else "intercepted"
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    if not name or len(name) > NAME_LENGTH_MAX or not name.isascii() or "*" in name:
        raise ValueError(f"{name[:80]!r} is no name of a host")
    return x509.DNSName(name)


def _key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
        public = certificate.public_key()  # type: ignore[assignment]  # it has signed already
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


@contextmanager
def _in_memory(content: bytes) -> Generator[str]:
    """The path of a file that nobody else can read, on no disk where that is possible."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
