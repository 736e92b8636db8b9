"""Digests: what is written beside content to tell whether it is whole.

Text form `ALGORITHM:VALUE`. sha256, sha512 and blake3 carry lower-case hex, as in OCI; crc32
carries the CRC-32 (IEEE, as zlib's) in decimal, as Dragonfly writes it for pieces. Bytes come from
the caller: nothing here opens a file.

A CRC-32 tells of an accident: anybody can make other bytes that have the same one. A *strong*
digest tells of a liar: the BLAKE3 of a piece, 32 bytes, for which nobody can (docs/adr/0023).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, cast

from blake3 import blake3
from isal import isal_zlib

from odonata.errors import CallerError, DigestMismatchError, ProtocolError
from odonata.wire.message import Value

Algorithm = Literal["crc32", "sha256", "sha512", "blake3"]

CRC32_MAX: Final = 0xFFFFFFFF
# Longest digest text: "sha512:" and 128 digits. No more than this of a bad one is shown.
DIGEST_LENGTH_MAX: Final = 7 + 128

STRONG_DIGEST_BYTES: Final = 32
"""Of a strong digest: it takes 2^128 attempts to find two contents that have the same one."""

_HEX_DIGITS: Final[dict[str, tuple[Literal["sha256", "sha512", "blake3"], int]]] = {
    "sha256": ("sha256", 64),
    "sha512": ("sha512", 128),
    "blake3": ("blake3", 2 * STRONG_DIGEST_BYTES),
}
_DECIMAL: Final = re.compile(r"[0-9]{1,10}")
_Crc32 = Callable[[bytes | memoryview, int], int]
# isal's stub names a buffer type that pyright does not find.
_crc32 = cast("_Crc32", isal_zlib.crc32)  # pyright: ignore[reportUnknownMemberType]  # as above
_HEX: Final = re.compile(r"[0-9a-f]+")


class Digest(Value, frozen=True, kw_only=True):
    """A checked digest. `value`: lower-case hex; for crc32 the decimal without leading zeros."""

    algorithm: Algorithm
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class Hasher(Protocol):
    """Takes bytes as they come; `value` is the digest's text of all so far."""

    def update(self, data: bytes | memoryview) -> None: ...
    def value(self) -> str: ...


class Crc32Hasher:
    """CRC-32 as a `Hasher`; decimal."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: bytes | memoryview) -> None:
        self._crc = crc32(data, self._crc)

    def value(self) -> str:
        return str(self._crc)


class ShaHasher:
    """SHA-2 as a `Hasher`; hex."""

    def __init__(self, algorithm: Literal["sha256", "sha512"]) -> None:
        self._sha = hashlib.new(algorithm)

    def update(self, data: bytes | memoryview) -> None:
        self._sha.update(data)

    def value(self) -> str:
        return self._sha.hexdigest()


class Blake3Hasher:
    """BLAKE3 as a `Hasher`; hex."""

    def __init__(self) -> None:
        self._blake3 = blake3()

    def update(self, data: bytes | memoryview) -> None:
        self._blake3.update(data)

    def value(self) -> str:
        return self._blake3.hexdigest()


class Verifier:
    """Checks content that comes in parts: `update` with each part in order, then `finish`."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hasher = hasher(digest.algorithm)
        self._n_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        self._n_bytes += memoryview(data).nbytes

    def finish(self) -> None:
        """Return if the content matched; DigestMismatchError otherwise."""
        found = self._hasher.value()
        if not hmac.compare_digest(found, self._digest.value):
            raise DigestMismatchError(
                f"content of {self._n_bytes} bytes has digest {self._digest.algorithm}:{found}, "
                f"but {self._digest} was promised"
            )


def hasher(algorithm: Algorithm) -> Hasher:
    """A fresh hasher."""
    if algorithm == "crc32":
        return Crc32Hasher()
    return Blake3Hasher() if algorithm == "blake3" else ShaHasher(algorithm)


def parse_digest(text: str) -> Digest:
    """Read `crc32:DECIMAL`, `sha256:HEX` and its like; CallerError names what is wrong.

    Upper-case hex is taken and written in lower case. Dragonfly's own tools demand exactly ten
    digits after `crc32:`; leading zeros are taken here, and not demanded.
    """
    shown = repr(text[:DIGEST_LENGTH_MAX])
    name, colon, value = text.partition(":")
    if not colon:
        raise CallerError(f"digest {shown} has no algorithm: write sha256:HEX")
    if name == "crc32":
        return Digest(algorithm="crc32", value=_crc32_value(shown, value))
    if name not in _HEX_DIGITS:
        raise CallerError(
            f"digest {shown} has an algorithm that is not known: use sha256, sha512, blake3 or "
            "crc32"
        )
    algorithm, length = _HEX_DIGITS[name]
    lowered = value.lower() if len(value) == length else ""
    if not _HEX.fullmatch(lowered):
        raise CallerError(
            f"digest {shown} is malformed: {name}: is followed by {length} hex digits"
        )
    return Digest(algorithm=algorithm, value=lowered)


def digest_of(algorithm: Algorithm, chunks: Iterable[bytes | memoryview]) -> Digest:
    """Digest of content given in parts."""
    running = hasher(algorithm)
    for chunk in chunks:
        running.update(chunk)
    return Digest(algorithm=algorithm, value=running.value())


def crc32(data: bytes | memoryview, start: int = 0) -> int:
    """CRC-32 of `data`; `start` is the CRC-32 of what came before it."""
    return _crc32(data, start)


def piece_digest(data: bytes | memoryview) -> str:
    """Digest of a piece as it travels on the wire: `crc32:DECIMAL`."""
    return format_piece_digest(crc32(data))


def format_piece_digest(crc: int) -> str:
    """Write a CRC-32 that was computed on the way as a piece's digest."""
    return f"crc32:{crc}"


def parse_piece_digest(text: str) -> int:
    """CRC-32 in a piece's digest. ProtocolError if malformed, since it came from another peer."""
    if not text.startswith("crc32:"):
        raise ProtocolError(f"piece digest {text[:40]!r} is not of the form crc32:DECIMAL")
    try:
        return int(_crc32_value(repr(text[:40]), text[6:]))
    except CallerError as error:
        raise ProtocolError(error.detail) from None


def strong_digest(data: bytes | memoryview) -> bytes:
    """BLAKE3 of a piece, by this thread alone: STRONG_DIGEST_BYTES bytes."""
    return blake3(data).digest()


def format_strong_digest(digest: bytes) -> str:
    """Write a strong digest as text: `blake3:HEX`."""
    return f"blake3:{digest.hex()}"


def check_piece(data: bytes | memoryview, digest: str) -> None:
    """Return if `data` has the piece digest `digest`.

    DigestMismatchError if not, ProtocolError if `digest` is malformed. Whether a piece without a
    digest is taken is for the caller to decide.
    """
    wanted = parse_piece_digest(digest)
    found = crc32(data)
    if found != wanted:
        raise DigestMismatchError(
            f"piece of {memoryview(data).nbytes} bytes has digest crc32:{found}, "
            f"but {digest} was promised"
        )


def _crc32_value(shown: str, value: str) -> str:
    if not _DECIMAL.fullmatch(value) or int(value) > CRC32_MAX:
        raise CallerError(
            f"digest {shown} is malformed: crc32: is followed by a decimal number up to {CRC32_MAX}"
        )
    return str(int(value))
