"""Names of images, as people type them, taken apart: registry.example:5000/lib/image:tag.

Unlike docker's, a name says its registry: nothing is looked for at Docker Hub unless that is named.
"""

from __future__ import annotations

import re
from typing import Final

from odonata.errors import CallerError
from odonata.wire.message import Value

_HUB_NAME: Final = "docker.io"
_HUB_HOST: Final = "registry-1.docker.io"
"""Who serves Docker Hub's registry."""

_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
# The distribution specification's grammar, behind a host with a dot, a port, or "localhost".
_NAME: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>localhost(?::\d+)?|\[[0-9a-fA-F:.]+\](?::\d+)?|[\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w-]+:\d+)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)


class ImageReference(Value, frozen=True, kw_only=True):
    """`registry` is scheme://host[:port]; `reference` a tag or a digest."""

    registry: str
    repository: str
    reference: str


def parse_image_reference(name: str) -> ImageReference:
    """Take a name apart; https unless it says http. Raises CallerError."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise CallerError(
            f"image {name[:200]!r} is no name: write REGISTRY/REPOSITORY:TAG, such as "
            "docker.io/library/alpine:3.20 or http://localhost:5000/lib/image:v1"
        )
    host = _HUB_HOST if found["host"] == _HUB_NAME else found["host"]
    return ImageReference(
        registry=f"{found['scheme'] or 'https'}://{host}",
        repository=found["repository"],
        reference=found["digest"] or found["tag"] or "latest",
    )
