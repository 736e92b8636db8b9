"""What our programs can do beyond Dragonfly's API, told in metadata that others ignore."""

from __future__ import annotations

FEATURES_KEY = "odonata-features"

# A peer may register before it knows the content's length: it need not ask the source first.
# Dragonfly's scheduler would take an unset length for an empty file.
UNSIZED_REGISTER = "unsized-register"

# Said by a peer of ours on its AnnouncePeer stream: it takes answers that it did not ask for ...
TAKES_NEWS = "takes-news"
# ... and writes a piece record for each piece itself, so that the scheduler need not.
WRITES_PIECES = "writes-pieces"
