"""Names of images taken apart: as people type them, and as URLs of manifests.

    registry.example:5000/lib/image:tag          https://registry.example:5000/v2/lib/image/manifests/tag

Unlike docker's, a name says its registry: nothing is looked for at Docker Hub unless that is named.
"""

from __future__ import annotations

import re
from typing import Final

from odonata.errors import CallerError
from odonata.wire.message import Value

HUB_NAME: Final = "docker.io"
HUB_HOST: Final = "registry-1.docker.io"
"""Docker Hub's name, and the host that serves its registry; containerd makes the same exception."""

# The distribution specification's grammar of a repository's name.
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
# Behind a host with a dot, a port, or "localhost".
_NAME: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>localhost(?::\d+)?|\[[0-9a-fA-F:.]+\](?::\d+)?|[\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w-]+:\d+)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)
_URL: Final = re.compile(
    r"(?P<registry>https?://[^/?#\s@]+)"
    rf"/v2/(?P<repository>{_PART}(?:/{_PART})*)/manifests/(?P<reference>[^/?#\s]+)"
)


class ImageReference(Value, frozen=True, kw_only=True):
    """`registry` is scheme://host[:port]; `reference` a tag or a digest."""

    registry: str
    repository: str
    reference: str

    def manifest(self, reference: str) -> str:
        """URL of a manifest of the same repository."""
        return f"{self.registry}/v2/{self.repository}/manifests/{reference}"

    def blob(self, digest: str) -> str:
        """URL of a blob."""
        return f"{self.registry}/v2/{self.repository}/blobs/{digest}"


def parse_image_reference(name: str) -> ImageReference:
    """Take a name apart; https unless it says http. Raises CallerError."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise CallerError(
            f"image {name[:200]!r} is no name: write REGISTRY/REPOSITORY:TAG, such as "
            "docker.io/library/alpine:3.20 or http://localhost:5000/lib/image:v1"
        )
    host = HUB_HOST if found["host"] == HUB_NAME else found["host"]
    return ImageReference(
        registry=f"{found['scheme'] or 'https'}://{host}",
        repository=found["repository"],
        reference=found["digest"] or found["tag"] or "latest",
    )


def parse_image_url(url: str) -> ImageReference:
    """Take the URL of a manifest apart. Raises CallerError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise CallerError(
            "url is not that of an image's manifest: write "
            "https://REGISTRY/v2/REPOSITORY/manifests/TAG (or a digest for the tag), without user "
            "and query"
        )
    return ImageReference(
        registry=found["registry"], repository=found["repository"], reference=found["reference"]
    )
