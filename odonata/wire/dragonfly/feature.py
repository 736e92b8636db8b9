"""What our programs can do beyond Dragonfly's API, told in metadata that others ignore."""

from __future__ import annotations

import re
from collections.abc import Iterable

from odonata.wire.message import SourceShare

FEATURES_KEY = "odonata-features"

# A peer may register before it knows the content's length: it need not ask the source first.
# Dragonfly's scheduler would take an unset length for an empty file.
UNSIZED_REGISTER = "unsized-register"

# Said by a peer of ours on its AnnouncePeer stream: it takes answers that it did not ask for ...
TAKES_NEWS = "takes-news"
# ... and writes a piece record for each piece itself, so that the scheduler need not.
WRITES_PIECES = "writes-pieces"

# ... and takes the digests that others had from the source, to check pieces against.
CHECKS_PIECES = "checks-pieces"
# Said by a scheduler of ours: it takes and tells those digests.
TELLS_DIGESTS = "tells-digests"

# Said by a scheduler of ours: it serves `odonata.wire.contact`.
HOLDS_CONTACT = "holds-contact"
# Said by a peer of ours on its stream: this download had a scheduler and lost it. Once it is
# answered it tells which pieces it holds. And of a host that announces itself: it had found this
# scheduler before, and lost it.
RESUMES = "resumes"
# Said by a seed of ours when it announces itself: it can fetch a part of a content from the source
# and leave the rest to other seeds (SHARE_KEY).
SHARES_SOURCE = "shares-source"

SHARE_KEY = "odonata-source-share"
"""On a DownloadTask call to such a seed: `<index>/<count>`, which of how many seeds it is."""

MAX_SHARE_COUNT = 16
"""Seeds for one content. More would each begin with a part so small that asking for it takes as
long as fetching it; and a number that anybody may send must have a bound."""


def features_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> frozenset[str]:
    """What the other end says it can: the names in its metadata, with commas between them."""
    told = (str(value) for key, value in metadata or () if key == FEATURES_KEY)
    return frozenset(name.strip() for text in told for name in text.split(","))


def share_to_metadata(share: SourceShare | None) -> tuple[tuple[str, str], ...]:
    """Metadata of a DownloadTask call."""
    return () if share is None else ((SHARE_KEY, f"{share.index}/{share.count}"),)


def share_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> SourceShare | None:
    """Which of how many seeds the caller wants this one to be; None if it does not say so.

    What can't be such a number is not believed: then the seed fetches everything, which is never
    wrong.
    """
    for key, value in metadata or ():
        told = _SHARE.fullmatch(str(value)) if key == SHARE_KEY else None
        if told is None:
            continue
        index, count = int(told[1]), int(told[2])
        if index < count <= MAX_SHARE_COUNT and count > 1:
            return SourceShare(index=index, count=count)
    return None


_SHARE = re.compile(r"(\d{1,3})/(\d{1,3})", re.ASCII)
