"""Real MLflow registries in SQLite, made quickly: the tables once, then a copy for each test."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from support.ranker_bundle import tiny_bundle

from training.registry import Registry, RunRecord, Version
from training.settings import DATABASE_FILE


def registry_at(folder: Path) -> Registry:
    """An empty registry whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), folder / DATABASE_FILE)
    return Registry(uri_of(folder))


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder / DATABASE_FILE}"


def logged(registry: Registry, folder: Path, version: str, *, gate: str = "open") -> Version:
    """Log a tiny bundle of that version, with a card beside it."""
    tiny_bundle(folder / version, version)
    page = folder / version / "card.md"
    page.write_text(f"# {version}\n")
    return registry.log(
        "tests",
        RunRecord(
            name=version,
            created_at_s=1_800_000_000.0,
            params={"seed": 1, "trees": 10},
            metrics={"time.all.learned.regret_at_1": 0.25},
            tags={"gate": gate, "data_sha256": "abc"},
            bundle=folder / version,
            files=(page,),
            data_digest="abc" * 20,
            data_source="dataset",
        ),
    )


@cache
def _template() -> Path:
    """A database with all tables and nothing in them; it lives as long as the process needs it."""
    folder = Path(mkdtemp(prefix="odonata-registry-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    registry = Registry(uri_of(folder))
    assert registry.versions() == []
    return folder / DATABASE_FILE
