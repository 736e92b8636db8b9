"""How container runtimes are told of the proxy: their files, as they are and as they are to be.

Every file but containerd's config.toml is ours alone and says so in its first line; one that does
not is nobody's to touch. config.toml is edited in place, with everything else in it as it was, and
kept beside itself as it was before. Pure: `read` brings what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

from odonata.errors import CallerError
from odonata.url import Url, parse_url
from odonata.wire.message import Value

MARK: Final = "# Written by `odonata init`; `odonata init --undo` takes it back.\n"
DEFAULT_PROXY: Final = "http://127.0.0.1:65001"
DIRECT: Final = ("localhost", "127.0.0.0/8", "::1")
"""Nobody's proxy is asked for these: Go's own rule for the first two, said for all others."""
BACKUP_SUFFIX: Final = ".before-odonata"

_SYSTEMD: Final = Path("/etc/systemd/system")
_CONTAINERD: Final = Path("/etc/containerd")
_CERTS: Final = _CONTAINERD / "certs.d"
_IMAGES_OF_VERSION: Final = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}
"""The plugin whose registry.config_path names the folder, by the version of config.toml."""

Read = Callable[[Path], str | None]
"""The text of a file; None: there is none."""


class FileChange(Value, frozen=True, kw_only=True):
    """A file before and after; None: it is not there."""

    path: Path
    before: str | None
    after: str | None
    backup: Path | None = None
    """Where it is kept as it was, if it is somebody else's."""


class Setup(Value, frozen=True, kw_only=True):
    """What changes, and the commands that a person runs then."""

    changes: tuple[FileChange, ...]
    then: tuple[str, ...]


class Wish(Value, frozen=True, kw_only=True):
    """What a runtime is to be told. `registries`: URLs or names, for containerd; (): all."""

    proxy: str = DEFAULT_PROXY
    registries: tuple[str, ...] = ()
    direct: tuple[str, ...] = DIRECT
    """Hosts that are asked without a proxy."""


def plan_docker(wish: Wish, read: Read, *, undo: bool) -> Setup:
    """A drop-in of dockerd's unit: HTTP_PROXY and its companions."""
    return _unit("docker", wish, read, undo=undo)


def plan_crio(wish: Wish, read: Read, *, undo: bool) -> Setup:
    """A drop-in of CRI-O's unit."""
    return _unit("crio", wish, read, undo=undo)


def plan_podman(wish: Wish, read: Read, *, undo: bool) -> Setup:
    """A drop-in of containers.conf(5), which podman and buildah read at each start."""
    lines: Any = tomlkit.array()  # its stubs leave out what it holds
    lines.extend(f"{name}={value}" for name, value in _variables(wish))
    document = tomlkit.document()
    document["engine"] = {"env": lines.multiline(True)}
    path = Path("/etc/containers/containers.conf.d/odonata.conf")
    return Setup(changes=_own(path, tomlkit.dumps(document), read, undo=undo), then=())


def plan_containerd(wish: Wish, read: Read, *, undo: bool) -> Setup:
    """hosts.toml of each registry, or of all, and config.toml's word where they lie."""
    document = _document(read(_CONTAINERD / "config.toml") or "")
    folder = Path(str(_place(document).get("config_path") or _CERTS))
    changes: list[FileChange] = []
    for name, text in _hosts_files(wish):
        changes += _own(folder / name / "hosts.toml", text, read, undo=undo)
    changes += _restored(read) if undo else _edited(read)
    return Setup(changes=tuple(changes), then=("systemctl restart containerd",))


PLANS: Final = {
    "docker": plan_docker,
    "containerd": plan_containerd,
    "podman": plan_podman,
    "crio": plan_crio,
}


def check_proxy(url: str) -> str:
    """`url` if it can be a proxy's. CallerError."""
    parsed = _parsed("--proxy", url)
    if parsed.scheme != "http" or not parsed.host or parsed.port is None:
        raise CallerError(f"--proxy {url!r}: write http://HOST:PORT, as the daemon's proxy has it")
    if parsed.path.strip("/") or parsed.query is not None or any(c in url for c in '"\\ \n'):
        raise CallerError(f"--proxy {url!r}: a proxy has a host and a port, and nothing else")
    return url


def _parsed(option: str, url: str) -> Url:
    try:
        return parse_url(url)
    except CallerError as cause:
        raise CallerError(f"{option} {url!r}: {cause.detail}") from None


def _variables(wish: Wish) -> list[tuple[str, str]]:
    proxy = check_proxy(wish.proxy)
    return [("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy), ("NO_PROXY", ",".join(wish.direct))]


def _unit(name: str, wish: Wish, read: Read, *, undo: bool) -> Setup:
    # A percent sign begins a specifier of systemd's.
    lines = [f'Environment="{n}={v}"'.replace("%", "%%") for n, v in _variables(wish)]
    text = "\n".join(("[Service]", *lines, ""))
    path = _SYSTEMD / f"{name}.service.d" / "odonata.conf"
    return Setup(
        changes=_own(path, text, read, undo=undo),
        then=("systemctl daemon-reload", f"systemctl restart {name}"),
    )


def _own(path: Path, text: str, read: Read, *, undo: bool) -> tuple[FileChange, ...]:
    """A file that is ours alone; () if it is already as it is to be."""
    before = read(path)
    if before is not None and not before.startswith(MARK):
        raise CallerError(
            f"{path} is there and was not written by `odonata init`: move it away, or add to it by "
            f"hand what stands here:\n{text}"
        )
    after = None if undo else MARK + text
    return () if before == after else (FileChange(path=path, before=before, after=after),)


# --- containerd -----------------------------------------------------------------------------------


def _hosts_files(wish: Wish) -> Sequence[tuple[str, str]]:
    """Folder below certs.d and the text of its hosts.toml."""
    if not wish.registries:
        return [("_default", _hosts_toml(wish.proxy, None))]
    return [_registry_file(wish.proxy, registry) for registry in wish.registries]


def _registry_file(proxy: str, registry: str) -> tuple[str, str]:
    url = registry if "://" in registry else f"https://{registry}"
    parsed = _parsed("--registry", url)
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.path.strip("/"):
        raise CallerError(f"--registry {registry!r}: write HOST[:PORT], or a URL of no more")
    name = parsed.host if parsed.port is None else f"{parsed.host}:{parsed.port}"
    return name, _hosts_toml(proxy, url.rstrip("/"))


def _hosts_toml(proxy: str, server: str | None) -> str:
    document = tomlkit.document()
    host: dict[str, Any] = {"capabilities": ["pull", "resolve"]}
    if server is not None:
        document["server"] = server
        host["header"] = {"X-Dragonfly-Registry": [server]}
    document["host"] = {check_proxy(proxy): host}
    return tomlkit.dumps(document)


def _document(text: str) -> Any:
    """A document of tomlkit's, whose stubs leave out what it holds."""
    path = _CONTAINERD / "config.toml"
    try:
        document: Any = tomlkit.parse(text)
    except TOMLKitError as cause:
        raise CallerError(f"{path} is not TOML: {cause}; `containerd config default`") from None
    if not text.strip():
        document["version"] = 2
    if document.get("version") not in _IMAGES_OF_VERSION:
        raise CallerError(
            f"{path} has version {document.get('version', 1)}: migrate it (`containerd config "
            "migrate`) to 2 or 3 first"
        )
    return document


def _place(document: Any) -> dict[str, Any]:
    """The table that has config_path; it is made if there is none."""
    plugin = _IMAGES_OF_VERSION[document["version"]]
    table = cast("dict[str, Any]", document)
    for key in ("plugins", plugin, "registry"):
        if key not in table:
            table[key] = tomlkit.table(is_super_table=key != "registry")
        if not isinstance(table[key], dict):
            raise CallerError(f"{_CONTAINERD / 'config.toml'}: {key} is no table")
        table = cast("dict[str, Any]", table[key])
    return table


def _edited(read: Read) -> list[FileChange]:
    path = _CONTAINERD / "config.toml"
    before = read(path)
    document = _document(before or "")
    table = _place(document)
    if table.get("config_path"):
        return []
    if table.get("mirrors"):
        raise CallerError(
            f"{path} has registry.mirrors, which containerd refuses beside config_path: move them "
            f"into {_CERTS}/HOST/hosts.toml first"
        )
    table["config_path"] = str(_CERTS)
    backup = None if before is None else path.with_name(path.name + BACKUP_SUFFIX)
    after = tomlkit.dumps(document)
    return [FileChange(path=path, before=before, after=after, backup=backup)]


def _restored(read: Read) -> list[FileChange]:
    path = _CONTAINERD / "config.toml"
    kept = path.with_name(path.name + BACKUP_SUFFIX)
    now, former = read(path), read(kept)
    if now is None or (former is None and now != _made_anew()):
        return []
    if former is not None and now != _edited(lambda _: former)[0].after:
        raise CallerError(
            f"{path} was changed since `odonata init`: take config_path out by hand; as it was "
            f"before, it is {kept}"
        )
    changes = [FileChange(path=path, before=now, after=former)]
    if former is not None:
        changes.append(FileChange(path=kept, before=former, after=None))
    return changes


def _made_anew() -> str | None:
    """What `_edited` writes where there is no config.toml."""
    return _edited(lambda _: None)[0].after
