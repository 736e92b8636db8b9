"""TLS of the piece port and the authorities of sources: good files, and bad in each way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.certificates import Signed, make_authority, make_signed

from peer.doctor.finding import Finding, Level
from peer.doctor.tls import check_piece_tls, check_source_authorities
from peer.settings import PieceTlsSettings

DAY_S = 86400.0
DAYS = 100


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signed, Signed]:
    """An authority for a year, and what it signed for a hundred days."""
    folder = tmp_path_factory.mktemp("site")
    authority = make_authority(folder, days=365)
    return authority, make_signed(folder, authority, "10.0.0.1", days=DAYS)


def judged(authority: Path, cert: Path, key: Path, after_s: float = 60.0) -> Finding:
    settings = PieceTlsSettings(ca_cert=authority, cert=cert, key=key)
    (finding,) = check_piece_tls(settings, time.time() + after_s)
    return finding


def source(path: Path, after_s: float = 60.0) -> Finding:
    (finding,) = check_source_authorities(path, time.time() + after_s)
    return finding


def test_without_them_there_is_nothing_to_say() -> None:
    assert check_piece_tls(None, 0.0) == check_source_authorities(None, 0.0) == ()


@pytest.mark.parametrize(
    ("after_s", "level", "said"),
    [
        (60.0, Level.OK, "signed by its authority, with its key, valid for"),
        (80 * DAY_S, Level.WARNING, "10.0.0.1.crt expires in"),
        (101 * DAY_S, Level.FAILURE, "10.0.0.1.crt expired"),
        (-2 * DAY_S, Level.FAILURE, "valid only in"),
    ],
)
def test_the_time_of_a_pair(
    site: tuple[Signed, Signed], after_s: float, level: Level, said: str
) -> None:
    authority, own = site
    finding = judged(authority.cert, *own, after_s)
    assert (finding.level, said in finding.detail) == (level, True), finding


def test_the_time_of_its_authority(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, days=20)
    own = make_signed(tmp_path, authority, "a", days=DAYS)
    assert "authority.crt expires in" in judged(authority.cert, *own).detail
    finding = judged(authority.cert, *own, 21 * DAY_S)
    assert (finding.level, "authority.crt expired" in finding.detail) == (Level.FAILURE, True)
    # Both are named while the one follows the other.
    both = tmp_path / "both.crt"
    both.write_text(
        authority.cert.read_text() + make_authority(tmp_path, "b", days=DAYS).cert.read_text()
    )
    assert judged(both, *own).level is Level.OK


def test_another_authority_s(site: tuple[Signed, Signed], tmp_path: Path) -> None:
    finding = judged(make_authority(tmp_path, "other", days=DAYS).cert, *site[1])
    assert finding.level is Level.FAILURE
    assert "is not taken by peers" in finding.detail
    assert "sign" in (finding.fix or "")


def test_one_that_is_good_for_servers_only(site: tuple[Signed, Signed], tmp_path: Path) -> None:
    """A peer shows it to its children and to its parents."""
    finding = judged(
        site[0].cert, *make_signed(tmp_path, site[0], "a", days=DAYS, usage="serverAuth")
    )
    assert (finding.level, "purpose" in finding.detail) == (Level.FAILURE, True), finding


def test_another_one_s_key(site: tuple[Signed, Signed]) -> None:
    finding = judged(site[0].cert, site[1].cert, site[0].key)
    assert (finding.level, "is not the key of" in finding.detail) == (Level.FAILURE, True)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("harm", ["gone", "garbage"])
def test_what_is_no_certificate(
    site: tuple[Signed, Signed], tmp_path: Path, which: int, harm: str
) -> None:
    files = [site[0].cert, *site[1]]
    files[which] = tmp_path / "bad.pem"
    if harm == "garbage":
        files[which].write_bytes(b"garbage")
    finding = judged(files[0], files[1], files[2])
    assert (finding.level, str(files[which]) in finding.detail) == (Level.FAILURE, True), finding
    assert finding.fix


@pytest.mark.parametrize(
    ("after_s", "level", "said"),
    [
        (60.0, Level.OK, "trusted"),
        (340 * DAY_S, Level.WARNING, "expires in"),
        (366 * DAY_S, Level.FAILURE, "expired"),
    ],
)
def test_an_authority_of_sources(
    site: tuple[Signed, Signed], after_s: float, level: Level, said: str
) -> None:
    finding = source(site[0].cert, after_s)
    assert (finding.level, said in finding.detail) == (level, True), finding


def test_a_source_s_certificate_by_itself(site: tuple[Signed, Signed]) -> None:
    assert source(site[1].cert).level is Level.OK
    assert source(site[1].cert, 101 * DAY_S).level is Level.FAILURE


def test_of_several_authorities_one_may_have_ended(
    site: tuple[Signed, Signed], tmp_path: Path
) -> None:
    both = tmp_path / "both.crt"
    both.write_text(site[0].cert.read_text() + site[1].cert.read_text())
    assert source(both, 101 * DAY_S).level is Level.OK


def test_what_is_no_authority_of_sources(site: tuple[Signed, Signed], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    assert (source(bad).level, "backend.caCert" in (source(bad).fix or "")) == (Level.FAILURE, True)
    bad.write_bytes(b"garbage")
    assert source(bad).level is Level.FAILURE
    assert source(site[0].key).level is Level.FAILURE
