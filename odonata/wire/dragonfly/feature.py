"""What our programs can do beyond Dragonfly's API, told in metadata that others ignore."""

from __future__ import annotations

from collections.abc import Iterable

FEATURES_KEY = "odonata-features"

# A peer may register before it knows the content's length: it need not ask the source first.
# Dragonfly's scheduler would take an unset length for an empty file.
UNSIZED_REGISTER = "unsized-register"

# Said by a peer of ours on its AnnouncePeer stream: it takes answers that it did not ask for ...
TAKES_NEWS = "takes-news"
# ... and writes a piece record for each piece itself, so that the scheduler need not.
WRITES_PIECES = "writes-pieces"

# Said by a scheduler of ours: it serves `odonata.wire.contact`.
HOLDS_CONTACT = "holds-contact"
# Said by a peer of ours on its stream: this download had a scheduler and lost it. Once it is
# answered it tells which pieces it holds. And of a host that announces itself: it had found this
# scheduler before, and lost it.
RESUMES = "resumes"


def features_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> frozenset[str]:
    """What the other end says it can: the names in its metadata, with commas between them."""
    told = (str(value) for key, value in metadata or () if key == FEATURES_KEY)
    return frozenset(name.strip() for text in told for name in text.split(","))
