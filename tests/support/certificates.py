"""Certificates made by openssl for one test: an authority, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_NEW = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch")


class Signed(NamedTuple):
    """Files in PEM form."""

    cert: Path
    key: Path


def _openssl(*words: str | Path) -> None:
    program = shutil.which("openssl")
    assert program is not None, "install openssl"
    subprocess.run([program, *map(str, words)], check=True, capture_output=True, timeout=60)


def make_authority(folder: Path, name: str = "authority", *, days: int = 2) -> Signed:
    """An authority that signs itself."""
    made = Signed(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl(*_NEW, "-x509", "-days", str(days), "-subj", f"/CN={name}", "-keyout", made.key,
             "-out", made.cert, "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip
    return made


def make_signed(
    folder: Path, authority: Signed, name: str, *, days: int = 2, usage: str = ""
) -> Signed:
    """A certificate for `name`, a host's or an IP address, signed by `authority`.

    `usage`: what alone it is good for ("serverAuth"); "": for everything.
    """
    made = Signed(folder / f"{name}.crt", folder / f"{name}.key")
    request = folder / f"{name}.csr"
    kind = "IP" if name.replace(".", "").isdigit() else "DNS"
    extension = folder / f"{name}.ext"
    lines = [f"subjectAltName={kind}:{name}", *([f"extendedKeyUsage={usage}"] if usage else [])]
    extension.write_text("\n".join(lines) + "\n")
    _openssl(*_NEW, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
    _openssl("x509", "-req", "-days", str(days), "-in", request, "-CA", authority.cert,
             "-CAkey", authority.key, "-CAcreateserial", "-extfile", extension,
             "-out", made.cert)  # fmt: skip
    return made
