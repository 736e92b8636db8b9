"""What a measured swarm spreads: contents of random bytes in a folder that the origin serves."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from odonata.swarm.demo.image import blob_path
from odonata.wire.message import Value

BLOCK_BYTES: Final = 1024 * 1024
REPOSITORY: Final = "bench"


class Content(Value, frozen=True, kw_only=True):
    """`digest`: `sha256:<hex>`; `folder`: what the origin serves."""

    folder: Path
    digest: str
    size: int

    def url(self, ip: str, port: int) -> str:
        """Where an origin there serves it."""
        return f"http://{ip}:{port}/v2/{REPOSITORY}/blobs/{self.digest}"


def make_contents(folder: Path, sizes: Sequence[int], number: int) -> tuple[Content, ...]:
    """One of each size; the same bytes for the same sizes and number, and no two alike."""
    seeds = (number if place == 0 else f"{number}/{place}" for place in range(len(sizes)))
    return tuple(make_content(folder, *both) for both in zip(sizes, seeds, strict=True))


def make_content(folder: Path, size: int, number: int | str) -> Content:
    """The same bytes for the same size and number."""
    folder.mkdir(parents=True, exist_ok=True)
    dice, digest, draft = random.Random(number), hashlib.sha256(), folder / "draft"
    with draft.open("wb") as file:
        for start in range(0, size, BLOCK_BYTES):
            block = dice.randbytes(min(BLOCK_BYTES, size - start))
            digest.update(block)
            file.write(block)
    name = f"sha256:{digest.hexdigest()}"
    path = blob_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.rename(path)
    return Content(folder=folder, digest=name, size=size)


def fault_of(path: Path, content: Content) -> str:
    """What is wrong with a copy; "" if nothing is."""
    if not path.exists():
        return "there is no file"
    with path.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return "" if found == content.digest else f"it holds {found}"
