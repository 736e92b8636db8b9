"""curl as a client of registries: a manifest, and each blob that it names."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from support.image import MANIFEST_TYPE
from support.program import Place


@dataclass(frozen=True, kw_only=True)
class CurlImage:
    """`base`: URL of the registry, or of its mirror. `header`: lines of each request.

    `login`: user:password. With `realm`, the URL where tokens are, it is for that alone, and there
    asked of by the same way. `trusted`: the only authority.
    """

    place: Place
    base: str
    folder: Path
    proxy: str | None = None
    trusted: Path | None = None
    header: tuple[str, ...] = ()
    login: str | None = None
    realm: str | None = None

    def pull(self, reference: str) -> str:
        """repository:tag. Returns the manifest's digest; AssertionError if anything is wrong."""
        self.remove(reference)
        self.folder.mkdir()
        repository, _, tag = reference.rpartition(":")
        own = self._credentials(repository)
        manifest = self.folder / "manifest"
        url = f"{self.base}/v2/{repository}/manifests/{tag}"
        self._fetch(*own, "-H", f"Accept: {MANIFEST_TYPE}", "-o", str(manifest), url)
        said = json.loads(manifest.read_bytes())
        digests = [one["digest"] for one in (said["config"], *said["layers"])]
        words = (
            ("-o", str(self.folder / digest), f"{self.base}/v2/{repository}/blobs/{digest}")
            for digest in digests
        )
        self._fetch(*own, *(word for one in words for word in one))
        for digest in digests:
            assert self._digest(self.folder / digest) == digest
        return self._digest(manifest)

    def remove(self, reference: str) -> None:
        del reference
        shutil.rmtree(self.folder, ignore_errors=True)

    def _credentials(self, repository: str) -> tuple[str, ...]:
        if self.login is None:
            return ()
        if self.realm is None:
            return ("-u", self.login)
        query = f"service=a%20registry&scope=repository:{repository}:pull"
        answer = self.folder / "token"
        self._fetch("-u", self.login, "-o", str(answer), f"{self.realm}?{query}")
        return ("-H", f"Authorization: Bearer {json.loads(answer.read_bytes())['token']}")

    def _fetch(self, *words: str) -> None:
        self.place.run(*curl(self.proxy, self.trusted, *self.header), "--fail", *words)

    def _digest(self, path: Path) -> str:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def curl(proxy: str | None, trusted: Path | None, *header: str) -> list[str]:
    """The start of its command line."""
    return [
        *("curl", "-q", "-sS", "--noproxy", ""),
        *(() if proxy is None else ("--proxy", proxy)),
        *(() if trusted is None else ("--cacert", str(trusted))),
        *(word for line in header for word in ("-H", line)),
    ]


def status_of(
    place: Place,
    url: str,
    *,
    proxy: str | None = None,
    trusted: Path | None = None,
    header: tuple[str, ...] = (),
) -> int:
    """What a GET is answered."""
    words = ("-o", "/dev/null", "-w", "%{http_code}", url)
    return int(place.run(*curl(proxy, trusted, *header), *words))
