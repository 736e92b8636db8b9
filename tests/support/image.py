"""Container images for tests: OCI layouts on disk, with gzip layers of random bytes.

    layers = [Layer(size=1 * MIB, seed=1), Layer(size=20 * MIB, seed=2)]
    image = make_image(folder, layers)          # the same layers make the same digests

Layers are stored, not compressed, inside gzip: random bytes don't shrink, and tests have better
things to do. `Image.blobs` are all that a client fetches besides the manifest.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from support.content import MIB

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_CHUNK_BYTES = MIB
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A layer with one file of `size` bytes, which `seed` determines."""

    size: int
    seed: int


@dataclass(frozen=True)
class Image:
    """An OCI layout in `folder`. `digest` is the manifest's, `blobs` digest -> length in bytes."""

    folder: Path
    digest: str
    blobs: Mapping[str, int]

    @property
    def layers(self) -> Mapping[str, int]:
        """The blobs but the configuration, which comes first."""
        return dict(list(self.blobs.items())[1:])

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(self.blobs.values())


class _Hashing(io.RawIOBase):
    """Writes through to a file and hashes on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sha256.update(data)
        self.size += len(data)
        return self._file.write(data)


class _RandomFile(io.RawIOBase):
    """Random bytes without end."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._left) < size:
            self._left += self._random.randbytes(_CHUNK_BYTES)
        data, self._left = self._left[:size], self._left[size:]
        return data


def make_image(folder: Path, layers: Sequence[Layer]) -> Image:
    """Write the layout of an image into `folder`, which must not exist yet."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    made = [_write_layer(blobs, layer) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in made]},
        "history": [{"created_by": f"random bytes {layer.seed}"} for layer in layers],
    }
    descriptors = [descriptor for _, descriptor in made]
    config_descriptor = _write_json(blobs, _CONFIG_TYPE, config)
    manifest = _write_json(
        blobs,
        MANIFEST_TYPE,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config_descriptor,
            "layers": descriptors,
        },
    )
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": "image"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    everything = [config_descriptor, *descriptors]
    return Image(
        folder=folder,
        digest=manifest["digest"],
        blobs={descriptor["digest"]: descriptor["size"] for descriptor in everything},
    )


def check_blobs(folder: Path, image: Image) -> list[str]:
    """Digests of `image` that are missing or wrong in `folder` (files named by their hex)."""
    wrong: list[str] = []
    for digest in image.blobs:
        path = folder / digest.removeprefix("sha256:")
        if not path.exists():
            wrong.append(f"{digest} is missing")
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if f"sha256:{found}" != digest:
            wrong.append(f"{digest} holds sha256:{found}")
    return wrong


def _write_layer(blobs: Path, layer: Layer) -> tuple[str, dict[str, Any]]:
    """The digest of the tar itself, and the descriptor of the gzipped one."""
    partial = blobs / "partial"
    with partial.open("wb") as file:
        zipped = _Hashing(file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=zipped, mtime=0) as gz:
            plain = _Hashing(cast("BinaryIO", gz))
            with tarfile.open(fileobj=plain, mode="w|", bufsize=_READ_BYTES) as tar:
                member = tarfile.TarInfo(f"data/{layer.seed}.bin")
                member.size = layer.size
                member.mode = 0o644
                tar.addfile(member, _RandomFile(layer.seed))
    shutil.move(partial, blobs / zipped.digest.removeprefix("sha256:"))
    return plain.digest, {"mediaType": _LAYER_TYPE, "digest": zipped.digest, "size": zipped.size}


def _write_json(blobs: Path, media_type: str, value: Mapping[str, Any]) -> dict[str, Any]:
    data = json.dumps(value).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}
