"""Reads manifests of container images: which blobs an image is made of. Bytes in, values out.

OCI image manifests and indexes, Docker's schema 2 manifests and lists, and its old schema 1. An
index names one manifest for each platform; those that match are taken. Layers that a registry does
not hold ("foreign", "non-distributable": clients fetch them elsewhere) are left out. Nothing is
fetched here.
"""

from __future__ import annotations

import hashlib
import platform
import re
from typing import Any, Final

import msgspec

from odonata.errors import CallerError, NotFoundError, SourceError
from odonata.wire.message import Value

MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
OLD_TYPES: Final = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
ACCEPT: Final = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES, *OLD_TYPES))

BLOBS_MAX: Final = 4096
"""Of one manifest. Container runtimes stop at about 127 layers; model images have some hundreds."""

_FOREIGN: Final = ("foreign", "nondistributable")
_PLATFORM: Final = re.compile(r"[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?", re.IGNORECASE)
_DIGEST: Final = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
# Python's names of machines -> Go's, which images use.
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Platform(Value, frozen=True, kw_only=True):
    """What an image runs on. `variant` "": any."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Manifest(Value, frozen=True, kw_only=True):
    """What a manifest says: blobs (configuration first), or manifests of the platform."""

    blobs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct):
    digest: str
    mediaType: str = ""  # noqa: N815  # the specification's word
    platform: _Platform | None = None


class _OldLayer(msgspec.Struct):
    blobSum: str  # noqa: N815  # the specification's word


class _Document(msgspec.Struct):
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    fsLayers: list[_OldLayer] | None = None  # noqa: N815  # the specification's word


def own_platform() -> Platform:
    """That of this machine: what a request means that names none."""
    machine = platform.machine().lower()
    return Platform(os=platform.system().lower(), architecture=_ARCHITECTURES.get(machine, machine))


def parse_platform(text: str) -> Platform:
    """Read "os/architecture[/variant]". Raises CallerError."""
    if _PLATFORM.fullmatch(text) is None:
        raise CallerError(
            f"platform {text[:80]!r} is none: write it as linux/amd64 or linux/arm/v7"
        )
    os, architecture, *variant = text.lower().split("/")
    return Platform(os=os, architecture=architecture, variant="".join(variant))


def check_digest(data: bytes, digest: str, what: str) -> None:
    """Raise SourceError if `data`, which `what` names, is not what `digest` says."""
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(algorithm, data).hexdigest() != expected:
        raise SourceError(f"{what} does not match its digest {digest}: the registry is at fault")


def is_digest(reference: str) -> bool:
    """Whether `reference` is a digest rather than a tag."""
    return _DIGEST.fullmatch(reference) is not None


def read_manifest(data: bytes, wanted: Platform, what: str) -> Manifest:
    """Read a manifest; `what` names it in errors.

    Raises SourceError if it is none, NotFoundError if an index has nothing for the platform.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SourceError(f"{what} is no manifest of an image: {error}") from None
    if document.manifests is not None:
        return Manifest(manifests=_of_platform(document.manifests, wanted, what))
    if document.layers is not None:
        held = [one for one in document.layers if not _is_foreign(one)]
        config = [] if document.config is None else [document.config]
        return Manifest(blobs=_digests([one.digest for one in (*config, *held)], what))
    if document.fsLayers is not None:
        return Manifest(blobs=_digests([one.blobSum for one in document.fsLayers], what))
    raise SourceError(f"{what} names neither layers nor manifests: it is no image")


def _of_platform(entries: list[_Descriptor], wanted: Platform, what: str) -> tuple[str, ...]:
    found = [one.digest for one in entries if _matches(one.platform, wanted)]
    if found:
        return _digests(found, what)
    offered = sorted({str(_known(one.platform)) for one in entries if one.platform})
    raise NotFoundError(
        f"{what} has nothing for platform {wanted}: it offers {', '.join(offered) or 'none'}"
    )


def _known(platform_: _Platform) -> Platform:
    return Platform(os=platform_.os, architecture=platform_.architecture, variant=platform_.variant)


def _matches(offered: _Platform | None, wanted: Platform) -> bool:
    if offered is None:  # an index of one platform need not say it
        return True
    same = (offered.os, offered.architecture) == (wanted.os, wanted.architecture)
    return same and wanted.variant in ("", offered.variant)


def _is_foreign(layer: _Descriptor) -> bool:
    return any(word in layer.mediaType for word in _FOREIGN)


def _digests(found: list[Any], what: str) -> tuple[str, ...]:
    """Each once, in order."""
    if len(found) > BLOBS_MAX:
        raise SourceError(f"{what} names {len(found)} blobs: at most {BLOBS_MAX} are read")
    for digest in found:
        if not is_digest(digest):
            raise SourceError(f"{what} names a blob by {digest[:80]!r}, which is no sha digest")
    return tuple(dict.fromkeys(found))
