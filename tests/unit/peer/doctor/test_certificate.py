"""The proxy's authority: pairs that openssl made, good and bad in each way."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from peer.doctor.certificate import check_certificate
from peer.doctor.finding import Finding, Level

DAY_S = 86400.0


def make_pair(folder: Path, *, is_ca: bool = True, passphrase: str = "") -> tuple[Path, Path]:
    """A certificate for 100 days, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    protection = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         *protection, "-days", "100", "-subj", "/CN=test", "-keyout", str(key), "-out", str(cert),
         "-addext", f"basicConstraints=critical,CA:{'TRUE' if is_ca else 'FALSE'}"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def judged(cert: Path, key: Path, after_s: float = 60.0) -> Finding:
    (finding,) = check_certificate(cert, key, time.time() + after_s)
    return finding


def test_without_one_there_is_nothing_to_say() -> None:
    assert check_certificate(None, None, 0.0) == ()


@pytest.mark.parametrize(
    ("after_s", "level", "said"),
    [
        (60.0, Level.OK, "valid for"),
        (71 * DAY_S, Level.WARNING, "expires in"),
        (101 * DAY_S, Level.FAILURE, "expired"),
        (-DAY_S - 90.0, Level.FAILURE, "valid only in 1d"),
    ],
)
def test_its_time(after_s: float, level: Level, said: str, tmp_path: Path) -> None:
    finding = judged(*make_pair(tmp_path), after_s)
    assert finding.level is level
    assert said in finding.detail


def test_one_that_may_not_sign(tmp_path: Path) -> None:
    finding = judged(*make_pair(tmp_path, is_ca=False))
    assert (finding.level, "CA:TRUE" in finding.detail) == (Level.FAILURE, True)


def test_another_one_s_key(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    cert, _ = make_pair(tmp_path)
    _, key = make_pair(tmp_path / "other")
    finding = judged(cert, key)
    assert (finding.level, "is not the key of" in finding.detail) == (Level.FAILURE, True)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    finding = judged(*make_pair(tmp_path, passphrase="secret"))
    assert finding.level is Level.FAILURE
    assert "passphrase" in (finding.fix or "")


def test_what_is_no_certificate(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    cert.write_bytes(b"garbage")
    assert judged(cert, key).level is Level.FAILURE


def test_what_can_not_be_read(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    key.unlink()
    finding = judged(cert, key)
    assert (finding.level, "caKey" in (finding.fix or "")) == (Level.FAILURE, True)
