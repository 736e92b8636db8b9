"""The image of the demo: layers of random bytes, made from a seed, as blobs in a folder."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from odonata.wire.message import Value

MIB = 1 << 20
# Like a real image: a few large layers, some small ones. 96 MiB in all.
LAYERS_BYTES = tuple(n * MIB for n in (40, 28, 16, 9, 3))


class Layer(Value, frozen=True, kw_only=True):
    """One blob: `digest` is `sha256:<hex>`, `size` bytes."""

    digest: str
    size: int


class Image(Value, frozen=True, kw_only=True):
    """What a puller has to fetch."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


def blob_path(folder: Path, digest: str) -> Path:
    """Where the blob `digest` lies in `folder`."""
    return folder / digest.replace(":", "-")


def make_image(folder: Path, seed: int, sizes: Sequence[int] = LAYERS_BYTES) -> Image:
    """Write one random blob for each size; the same seed makes the same image."""
    rng = random.Random(seed)  # noqa: S311  # content for a demo, not a secret
    layers: list[Layer] = []
    for size in sizes:
        content = rng.randbytes(size)
        layer = Layer(digest=f"sha256:{hashlib.sha256(content).hexdigest()}", size=size)
        blob_path(folder, layer.digest).write_bytes(content)
        layers.append(layer)
    return Image(name="odonata/demo", layers=tuple(layers))
