"""A learned ranker on disk: written, checked, loaded, published.

A bundle is a folder with `model.txt` and `goodput.txt` (LightGBM's native text: the rank head and
the goodput head) and `manifest.json`. There is no pickle in it, and loading runs nothing of it.

A scheduler watches a *place*:

    <place>/versions/<version>/{model.txt,goodput.txt,manifest.json}     never changed afterwards
    <place>/current -> versions/<version>                                swung by one rename

so whoever looks sees one whole bundle or the other. What is read is checked as it was read, each
file once: nobody can exchange it in between. Who may write the place is for its folder's mode to
say; a checksum beside a file guards against accidents, not against who can write both.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from models.booster import Booster, BrokenModelError, NoLightgbmError
from models.facts import FACT_NAMES, CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix, schema_hash
from models.learned import LearnedModel
from models.manifest import (
    FORMAT,
    GOLDEN_TOLERANCE,
    GOODPUT_FILE,
    HEAD_FILES,
    MANIFEST_FILE,
    MODEL_FILE,
    BlendWeights,
    BundleError,
    CardValue,
    GoldenGroup,
    Manifest,
    check_schema,
    decode,
    encode,
    golden_group,
)
from odonata.errors import AlreadyExistsError, CallerError

__all__ = [
    "BUNDLE_FILES",
    "CURRENT",
    "BlendWeights",
    "BundleError",
    "Manifest",
    "current_version",
    "load_bundle",
    "publish",
    "read_manifest",
    "withdraw",
    "write_bundle",
]

MANIFEST_BYTES_LIMIT = 4 * 1024 * 1024
"""32 golden groups of 128 candidates are about 2 MB; usual is 20 KB."""
MODEL_BYTES_LIMIT = 32 * 1024 * 1024
"""150 trees of 31 leaves are half a megabyte; whatever is 60 times that misses the time budget."""

CURRENT = "current"
VERSIONS = "versions"
VERSIONS_KEPT = 20
"""Published versions that stay to go back to. With one a day that is three weeks."""

BUNDLE_FILES = (*HEAD_FILES, MANIFEST_FILE)


def write_bundle(
    directory: Path,
    *,
    name: str,
    version: str,
    created_at_s: float,
    model: str,
    goodput: str,
    golden: Sequence[CandidateBatch],
    weights: BlendWeights | None = None,
    card: Mapping[str, CardValue] | None = None,
) -> Manifest:
    """Write a bundle into `directory` (made if need be), the manifest last; load it once.

    `model` and `goodput` are `Booster.model_to_string()` of boosters over FEATURE_NAMES. `golden`
    are the candidates of a few decisions; their scores are computed here. Raises CallerError if
    they prove nothing, BundleError if nobody could load the result (nothing is written then).
    """
    heads = {MODEL_FILE: model.encode(), GOODPUT_FILE: goodput.encode()}
    blank = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        created_at_s=created_at_s,
        fact_names=FACT_NAMES,
        feature_names=FEATURE_NAMES,
        feature_schema=schema_hash(),
        files={file: _sha256(text) for file, text in heads.items()},
        weights=weights or BlendWeights(),
        golden=(),
        card=dict(card or {}),
    )
    groups = _golden(_parse(blank, heads), golden)
    manifest = msgspec.structs.replace(blank, golden=groups)
    files = {**heads, MANIFEST_FILE: encode(manifest)}
    _check(files)
    directory.mkdir(parents=True, exist_ok=True)
    _write_files(directory, files)
    return manifest


def load_bundle(directory: Path) -> LearnedModel:
    """Load and check a bundle. BundleError says which check failed, and why."""
    return _check(_read(directory))


def read_manifest(directory: Path) -> Manifest:
    """The manifest alone, unchecked against its files. BundleError."""
    return decode(_read_file(directory / MANIFEST_FILE, MANIFEST_BYTES_LIMIT))


def publish(bundle_dir: Path, place: Path) -> Path:
    """Copy a bundle to `<place>/versions/<version>` and swing `<place>/current` to it.

    Raises BundleError for a bundle nobody could load, AlreadyExistsError if the version is there
    with another manifest. The same version again is fine: it goes (or goes back) to it, and mends
    its files.
    """
    files = _read(bundle_dir)
    version = _check(files).version
    target = place / VERSIONS / version
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        _mend(target, files)
    else:
        fresh = target.parent / f".{version}.{secrets.token_hex(8)}"
        fresh.mkdir()
        _write_files(fresh, files)
        fresh.rename(target)
        _sync_folder(target.parent)
    _swing(place, version)
    _forget_oldest(target.parent, version)
    return target


def current_version(place: Path) -> str | None:
    """The version that `<place>/current` names, whether or not it can be loaded; None if none."""
    try:
        return (place / CURRENT).readlink().name
    except OSError:
        return None


def withdraw(place: Path) -> None:
    """Remove `<place>/current`: the rule ranks. The versions stay."""
    (place / CURRENT).unlink(missing_ok=True)
    if place.is_dir():
        _sync_folder(place)


# --- checks -------------------------------------------------------------------------------------


def _check(files: Mapping[str, bytes]) -> LearnedModel:
    """All checks in their order: manifest, checksums, schema, models, golden rows."""
    manifest = decode(files[MANIFEST_FILE])
    for file in HEAD_FILES:
        found = _sha256(files[file])
        if found != manifest.files[file]:
            raise BundleError(
                "checksum", f"{file} has sha256 {found}, not {manifest.files[file]} as promised"
            )
    check_schema(manifest)
    model = _parse(manifest, files)
    for number, group in enumerate(manifest.golden):
        _check_golden(model, number, group)
    return model


def _parse(manifest: Manifest, files: Mapping[str, bytes]) -> LearnedModel:
    heads: dict[str, Booster] = {}
    for file in HEAD_FILES:
        try:
            heads[file] = Booster(files[file], FEATURE_NAMES)
        except BrokenModelError as error:
            raise BundleError("model", f"{file}: {error}") from None
        except NoLightgbmError as error:
            raise BundleError("no_lightgbm", str(error)) from None
    return LearnedModel(manifest, heads[MODEL_FILE], heads[GOODPUT_FILE])


def _check_golden(model: LearnedModel, number: int, group: GoldenGroup) -> None:
    scores = model.score(feature_matrix(group.batch()))
    worst = float(np.max(np.abs(scores - np.array(group.scores))))
    if not worst <= GOLDEN_TOLERANCE:
        raise BundleError(
            "golden", f"golden group {number} is off by {worst:g}: another model or other features"
        )


def _golden(model: LearnedModel, batches: Sequence[CandidateBatch]) -> tuple[GoldenGroup, ...]:
    groups = [golden_group(batch, model.score(feature_matrix(batch))) for batch in batches]
    if not any(score for group in groups for score in group.scores):
        raise CallerError(
            "golden decisions prove nothing: the model scores all their candidates alike; take "
            "decisions with candidates that differ"
        )
    return tuple(groups)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- files --------------------------------------------------------------------------------------


def _read(directory: Path) -> dict[str, bytes]:
    """All files, each read once. The manifest is judged before the others are looked for."""
    files = {MANIFEST_FILE: _read_file(directory / MANIFEST_FILE, MANIFEST_BYTES_LIMIT)}
    decode(files[MANIFEST_FILE])
    for file in HEAD_FILES:
        files[file] = _read_file(directory / file, MODEL_BYTES_LIMIT)
    return files


def _read_file(path: Path, limit: int) -> bytes:
    try:
        # Without waiting: a pipe in its place would be opened when somebody writes, or never.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError("unreadable", f"{path} is no file")
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError("missing", f"{path} is not there") from None
    except OSError as error:
        raise BundleError("unreadable", f"{path} can't be read: {error.strerror}") from None
    if len(data) > limit:
        raise BundleError("unreadable", f"{path} has more than {limit} bytes")
    return data


def _write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Each file by a rename, the manifest last, all of it on the disk in the end."""
    for file in BUNDLE_FILES:
        fresh = directory / f".{file}.{secrets.token_hex(8)}"
        with fresh.open("wb") as out:
            out.write(files[file])
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(directory / file)
    _sync_folder(directory)


def _mend(target: Path, files: Mapping[str, bytes]) -> None:
    """Bring back the files of a version that is there already, if it is the same one."""
    try:
        standing = _read_file(target / MANIFEST_FILE, MANIFEST_BYTES_LIMIT)
    except BundleError:
        standing = files[MANIFEST_FILE]  # a ruin says nothing against it
    if standing != files[MANIFEST_FILE]:
        raise AlreadyExistsError(
            f"{target} is another bundle of version {target.name}: give the new one a new version"
        )
    _write_files(target, files)


def _swing(place: Path, version: str) -> None:
    fresh = place / f".{CURRENT}.{secrets.token_hex(8)}"
    fresh.symlink_to(Path(VERSIONS) / version)
    try:
        fresh.replace(place / CURRENT)
    except OSError as error:
        fresh.unlink()
        raise AlreadyExistsError(
            f"{place / CURRENT} is no link ({error.strerror}): move it away"
        ) from None
    _sync_folder(place)


def _forget_oldest(versions: Path, current: str) -> None:
    """Beyond VERSIONS_KEPT remove those that were written first, never the current one."""
    others = [path for path in versions.iterdir() if path.name[0] != "." and path.name != current]
    others.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in others[: max(0, len(others) + 1 - VERSIONS_KEPT)]:
        shutil.rmtree(path, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
