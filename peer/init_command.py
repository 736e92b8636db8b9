"""`odonata init`: options in, files out. What they are to say is in `peer.client_setup`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from odonata.cli import print_json
from odonata.errors import StorageError

if TYPE_CHECKING:
    from peer.client_setup import FileChange, Setup

RUNTIMES = ("docker", "containerd", "podman", "crio")


@click.command()
@click.argument("runtime", type=click.Choice(RUNTIMES))
@click.option("--proxy", default=None, help="The daemon's; default: http://127.0.0.1:65001.")
@click.option(
    "--registry", "registries", multiple=True,
    help="For containerd: only this registry. Repeatable; default: all.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Take it back.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"),
    help="Of the file system to change, such as that of an image.",
)  # fmt: skip
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def init(
    runtime: str,
    proxy: str | None,
    registries: tuple[str, ...],
    undo: bool,
    dry_run: bool,
    root: Path,
    json_form: bool,
) -> None:
    """Have a container runtime on this host pull through the daemon's proxy.

    Writes its configuration, shows the difference, and says which commands make it count. Runs
    none of them. For registries over HTTPS see `odonata ca`.
    """
    from peer.client_setup import DEFAULT_PROXY, PLANS, Wish

    if registries and runtime != "containerd":
        raise click.UsageError(f"--registry is for containerd: {runtime} takes a proxy for all")
    wish = Wish(proxy=proxy or DEFAULT_PROXY, registries=registries)
    setup = PLANS[runtime](wish, lambda path: _read(_below(root, path)), undo=undo)
    if not dry_run:
        for change in setup.changes:
            _apply(change, root)
    _tell(setup, dry_run=dry_run, json_form=json_form)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StorageError(f"{path} can't be read: {reason}") from None


def _apply(change: FileChange, root: Path) -> None:
    path = _below(root, change.path)
    try:
        if change.backup is not None and change.before is not None:
            _replace(_below(root, change.backup), change.before, like=path)
        if change.after is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, change.after, like=path)
    except OSError as error:
        raise StorageError(f"{path} can't be changed: {error.strerror}; are you root?") from None


def _replace(path: Path, text: str, *, like: Path) -> None:
    """All or nothing, with the mode of what is there."""
    draft = path.with_name(f"{path.name}.odonata-draft")
    draft.write_text(text, encoding="utf-8")
    if like.exists():
        draft.chmod(like.stat().st_mode & 0o777)
    draft.replace(path)


def _tell(setup: Setup, *, dry_run: bool, json_form: bool) -> None:
    if json_form:
        changes = [
            {
                "path": str(change.path),
                "before": change.before,
                "after": change.after,
                "backup": None if change.backup is None else str(change.backup),
            }
            for change in setup.changes
        ]
        print_json({"changes": changes, "then": setup.then, "done": not dry_run})
        return
    if not setup.changes:
        click.echo("nothing to do: it is so already")
        return
    for change in setup.changes:
        both = (change.before, change.after)
        old, new = (text or "" for text in both)
        names = ["/dev/null" if text is None else str(change.path) for text in both]
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), names[0], names[1], lineterm=""
        )
        click.echo("\n".join(lines))
        if change.backup is not None:
            click.echo(f"# as it was: {change.backup}")
    if setup.then:
        click.echo(f"# {'then' if dry_run else 'now'}: {' && '.join(setup.then)}")
