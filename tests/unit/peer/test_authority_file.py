"""An authority of one's own: made once, good for what it was made for, and made known to a host."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from odonata.errors import CallerError, SettingsError, StorageError
from odonata.settings.loading import load
from peer.authority_file import TrustStore, apply_trust, create, plan_trust
from peer.ca_command import ca
from peer.runtime.proxy.authority import Authority
from peer.settings import DaemonSettings

LIFE = timedelta(days=3650)
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def made(folder: Path, *hosts: str) -> tuple[Path, Path]:
    return create(folder, name="test", now=datetime.now(UTC), life=LIFE, hosts=hosts)


def is_good(cert: Path, key: Path, host: str) -> bool:
    """What it signs for `host`, to openssl."""
    leaf = Authority.load(cert, key).sign(host, KEY, datetime.now(UTC))
    file = cert.with_name("leaf.pem")
    file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    words = ["-purpose", "sslserver", "-verify_hostname", host, "-x509_strict"]
    command = ["openssl", "verify", "-CAfile", str(cert), *words, str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_what_it_signs_is_good_and_its_key_is_nobody_elses(tmp_path: Path) -> None:
    cert, key = made(tmp_path / "new")
    assert is_good(cert, key, "registry.test")
    assert key.stat().st_mode & 0o777 == 0o600


def test_hosts_that_were_named_are_all_it_is_good_for(tmp_path: Path) -> None:
    cert, key = made(tmp_path, "registry.test", "other.example")
    assert is_good(cert, key, "registry.test")
    assert is_good(cert, key, "eu.other.example")
    assert not is_good(cert, key, "bank.test")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    cert, key = made(tmp_path)
    before = cert.read_bytes(), key.read_bytes()
    with pytest.raises(CallerError, match="is there already"):
        made(tmp_path)
    cert.unlink()
    with pytest.raises(CallerError, match=r"ca\.key is there already"):
        made(tmp_path)
    assert key.read_bytes() == before[1]


@pytest.mark.parametrize("host", ["", "*.test", "r\u00e9gistre.test", "r.test:443"])
def test_what_is_no_host_is_told(tmp_path: Path, host: str) -> None:
    with pytest.raises(CallerError, match="--host"):
        made(tmp_path, host)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        made(tmp_path / "file")


def test_a_host_trusts_it_once_and_no_more(tmp_path: Path) -> None:
    cert, _ = made(tmp_path)
    folder = tmp_path / "store"
    folder.mkdir()
    absent = TrustStore(folder=tmp_path / "absent", command=("true",))
    without = TrustStore(folder=folder, command=("no-such-program",))
    store = TrustStore(folder=folder, command=("true",))
    stores = (absent, without, store)
    change = plan_trust(cert, stores=stores)
    assert change.is_needed
    apply_trust(change)
    (file,) = folder.iterdir()
    assert (file, file.read_bytes()) == (change.file, cert.read_bytes())
    assert not plan_trust(cert, stores=stores).is_needed
    undo = plan_trust(cert, undo=True, stores=stores)
    assert undo.is_needed
    apply_trust(undo)
    assert list(folder.iterdir()) == []
    assert not plan_trust(cert, undo=True, stores=stores).is_needed
    with pytest.raises(CallerError, match="none of the known stores"):
        plan_trust(cert, stores=(absent, without))


def test_what_can_not_be_trusted_is_told(tmp_path: Path) -> None:
    cert, key = made(tmp_path)
    leaf = Authority.load(cert, key).sign("r.test", KEY, datetime.now(UTC))
    file = tmp_path / "leaf.pem"
    file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    for wrong, told in ((file, "CA:FALSE"), (key, "no authority"), (tmp_path / "no", "No such")):
        with pytest.raises(SettingsError, match=told):
            plan_trust(wrong)
    failing = TrustStore(folder=tmp_path, command=("false",))
    with pytest.raises(StorageError, match="false failed"):
        apply_trust(plan_trust(cert, stores=(failing,)))


def test_the_settings_that_it_prints_are_settings(tmp_path: Path) -> None:
    words = ["create", "--dir", str(tmp_path), "--host", "registry.test", "--host", "b.test"]
    done = CliRunner().invoke(ca, words, catch_exceptions=False)
    assert done.exit_code == 0
    printed = done.output.partition("Its settings:\n")[2]
    assert set(yaml.safe_load(printed)) == {"proxy"}
    file = tmp_path / "daemon.yaml"
    file.write_text(printed)
    proxy = load(DaemonSettings, file=file).settings.proxy
    assert proxy.server.ca_cert == tmp_path / "ca.crt"
    assert [host.regex for host in proxy.intercept_hosts] == [
        r"(^|\.)registry\.test$",
        r"(^|\.)b\.test$",
    ]
    again = CliRunner().invoke(ca, ["create", "--dir", str(tmp_path), "--json"])
    assert isinstance(again.exception, CallerError)


def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    cert, _ = made(tmp_path)
    try:
        change = plan_trust(cert)
    except CallerError:
        pytest.skip("no store of authorities here")
    done = CliRunner().invoke(ca, ["trust", str(cert), "--dry-run"], catch_exceptions=False)
    assert f"would write {change.file}" in done.output
    done = CliRunner().invoke(ca, ["trust", str(cert), "--dry-run", "--json"])
    told = json.loads(done.output)
    assert (told["is_needed"], told["done"], told["removes"]) == (True, False, False)
    assert not change.file.exists()
