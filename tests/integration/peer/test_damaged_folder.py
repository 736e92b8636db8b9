"""Data folders that can't be opened: said to be so, and nothing of them stays open."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import open_descriptors

from odonata.errors import StorageError
from peer.runtime.storage.store import DiskStorage


async def test_an_index_that_takes_nothing_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite3").symlink_to("/dev/null")
    before = open_descriptors()
    with pytest.raises(StorageError, match=r"index\.sqlite3"):
        await DiskStorage.open(tmp_path)
    assert open_descriptors() <= before
