"""Digests against zlib and hashlib, and every malformed text refused."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.digest import (
    Algorithm,
    Digest,
    Verifier,
    check_piece,
    crc32,
    digest_of,
    format_piece_digest,
    parse_digest,
    parse_piece_digest,
    piece_digest,
)
from odonata.errors import CallerError, DigestMismatchError, ProtocolError


def test_the_check_value_of_crc32() -> None:
    # The check value of CRC-32/ISO-HDLC: CRC of "123456789".
    assert piece_digest(b"123456789") == f"crc32:{0xCBF43926}"


@given(st.binary(), st.binary())
def test_crc32_is_zlibs_and_goes_on_from_where_it_was(head: bytes, tail: bytes) -> None:
    assert crc32(head + tail) == zlib.crc32(head + tail)
    assert crc32(tail, crc32(head)) == zlib.crc32(head + tail)
    assert crc32(memoryview(head)) == zlib.crc32(head)


@given(st.sampled_from(["crc32", "sha256", "sha512"]), st.lists(st.binary(max_size=20)))
def test_parts_make_the_digest_of_the_whole(algorithm: Algorithm, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    digest = digest_of(algorithm, parts)
    plain = (
        str(zlib.crc32(whole))
        if algorithm == "crc32"
        else hashlib.new(algorithm, whole).hexdigest()
    )
    assert str(digest) == f"{algorithm}:{plain}"
    assert parse_digest(str(digest)) == digest
    verifier = Verifier(digest)
    for part in parts:
        verifier.update(memoryview(part))
    verifier.finish()


@given(st.sampled_from(["crc32", "sha256", "sha512"]), st.binary(min_size=1), st.data())
def test_one_flipped_bit_is_found(algorithm: Algorithm, whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[at // 8] ^= 1 << at % 8
    verifier = Verifier(digest_of(algorithm, [whole]))
    verifier.update(bytes(broken))
    with pytest.raises(DigestMismatchError, match=f"{algorithm}:.* was promised"):
        verifier.finish()


def test_known_hashes() -> None:
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of("sha256", [b"abc"]) == parse_digest(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no algorithm"),
        ("abcd", "no algorithm"),
        ("md5:8a04994a666b4e4b20a2fd9e5a44f44c", "not known"),
        (":abc", "not known"),
        ("sha256:abc", "64 hex digits"),
        ("sha256:" + "g" * 64, "64 hex digits"),
        ("sha256:" + "a" * 63 + "\n", "64 hex digits"),
        ("sha512:" + "a" * 64, "128 hex digits"),
        ("crc32:", "decimal"),
        ("crc32:cbf43926", "decimal"),
        ("crc32:-1", "decimal"),
        ("crc32:4294967296", "decimal"),
        ("crc32:00000000001", "decimal"),
        ("crc32:٣", "decimal"),
    ],
)
def test_malformed_digests_are_refused_with_the_fix(text: str, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        parse_digest(text)


def test_spellings_of_one_digest_are_equal() -> None:
    assert parse_digest("sha256:" + "AB" * 32) == parse_digest("sha256:" + "ab" * 32)
    # dfget demands exactly ten digits, the wire has none to spare.
    assert parse_digest("crc32:0000000042") == Digest(algorithm="crc32", value="42")


@given(st.binary())
def test_pieces_check_themselves(data: bytes) -> None:
    digest = piece_digest(data)
    assert parse_piece_digest(digest) == zlib.crc32(data)
    assert digest == format_piece_digest(zlib.crc32(data))
    check_piece(memoryview(data), digest)
    with pytest.raises(DigestMismatchError, match="was promised"):
        check_piece(data + b"\0", digest)


@pytest.mark.parametrize(
    "digest", ["", "crc32:", "crc32:x", "sha256:" + "a" * 64, "crc32:99999999999"]
)
def test_a_malformed_piece_digest_is_the_parents_fault(digest: str) -> None:
    with pytest.raises(ProtocolError):
        check_piece(b"", digest)
