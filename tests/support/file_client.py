"""pip and git-lfs as clients of the matrix: a fetch of one file, at a peer, by a way, as somebody.

`fetch` returns what arrived; AssertionError with the client's own words if it failed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from support.matrix_client import Cell
from support.matrix_site import Site
from support.package_index import wheel_name


def with_login(url: str, login: str | None) -> str:
    """`login`: user:password."""
    scheme, _, rest = url.partition("://")
    return url if login is None else f"{scheme}://{login}@{rest}"


@dataclass(frozen=True)
class Pip:
    """An index is what pip asks by `--index-url`; so is a peer that mirrors one."""

    site: Site

    def fetch(self, cell: Cell, peer: str, login: str | None, package: str) -> bytes:
        site, trusted = self.site, self.site.trusted(cell.way)
        proxy, origin = site.swarm.proxy(peer), site.index_doors.url(cell.way)
        base = with_login(proxy if cell.way.is_mirror else origin, login)
        folder = site.place.folder / f"wheels-{package}-{peer}"
        site.place.run(
            *(sys.executable, "-m", "pip", "download", "--isolated", "--no-deps", "--no-input"),
            *("--no-cache-dir", "--disable-pip-version-check", "--retries=0"),
            *("--index-url", f"{base}/{cell.guard.value}/simple/", "--dest", folder),
            *(() if cell.way.is_mirror else ("--proxy", proxy)),
            *(() if cell.way.is_tls else ("--trusted-host", site.index_doors.plain)),
            package,
            # pip's library prefers it to --cert; whatever the user's own says, it is not for here.
            environ={"REQUESTS_CA_BUNDLE": "" if trusted is None else str(trusted)},
        )
        return (folder / wheel_name(package)).read_bytes()


class GitLfs:
    """One repository with pointers to all objects; each fetch has a store of its own."""

    def __init__(self, site: Site, objects: dict[str, bytes]) -> None:
        """`objects` by oid."""
        self._site = site
        self._repository = site.place.folder / "git"
        site.lfs.contents |= objects
        self._git("init", "--quiet", str(self._repository))
        attributes = self._repository / ".gitattributes"
        attributes.write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        for oid, content in objects.items():
            pointer = "version https://git-lfs.github.com/spec/v1\n"
            pointer += f"oid sha256:{oid}\nsize {len(content)}\n"
            (self._repository / f"{oid}.bin").write_text(pointer)
        self._git("-C", str(self._repository), "add", ".")
        self._git("-C", str(self._repository), "commit", "--quiet", "-m", "models")

    def fetch(
        self, cell: Cell, peer: str, login: str | None, oid: str, *, again: bool = False
    ) -> bytes:
        """`again`: into an empty store."""
        site, trusted = self._site, self._site.trusted(cell.way)
        url = with_login(f"{site.lfs_doors.url(cell.way)}/{cell.guard.value}", login)
        store = site.place.folder / f"lfs-{oid[:8]}-{peer}{'-again' if again else ''}"
        settings = {
            "lfs.url": url,
            "lfs.storage": str(store),
            "http.proxy": site.swarm.proxy(peer),
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        words += ["-C", str(self._repository), "lfs", "fetch", f"--include={oid}.bin"]
        self._git(*words, trusted=trusted)
        return (store / "objects" / oid[:2] / oid[2:4] / oid).read_bytes()

    def _git(self, *words: str, trusted: Path | None = None) -> None:
        """As somebody with a name, who fetches objects when told to, and is never asked."""
        name = ("-c", "user.name=a", "-c", "user.email=a@example.test")
        environ = {"GIT_LFS_SKIP_SMUDGE": "1", "GIT_TERMINAL_PROMPT": "0"}
        if trusted is not None:
            environ["GIT_SSL_CAINFO"] = str(trusted)
        self._site.place.run("git", *name, *words, environ=environ)
