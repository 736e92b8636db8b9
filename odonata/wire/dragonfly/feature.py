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
# ... and, as a gateway, fetches from other data centres the part that it is told (`FarShare`).
SHARES_FAR = "shares-far"
# Said by a scheduler of ours: it takes and tells those digests.
TELLS_DIGESTS = "tells-digests"

# Said by a scheduler of ours: pieces that parents brought may be told together (see `piece_list`).
TAKES_PIECES_TOGETHER = "takes-pieces-together"

# Said by a scheduler of ours: it serves `odonata.wire.contact`.
HOLDS_CONTACT = "holds-contact"
# Said by a peer of ours on its stream: this download had a scheduler and lost it. Once it is
# answered it tells which pieces it holds. And of a host that announces itself: it had found this
# scheduler before, and lost it.
RESUMES = "resumes"
# Said by a seed of ours when it announces itself: it can fetch a part of a content from the source
# and leave the rest to other seeds (SHARE_KEY).
SHARES_SOURCE = "shares-source"

# Said by a daemon of ours when it lists its pieces: its piece port takes greetings, so that a
# connection serves for more than one piece ...
TAKES_GREETINGS = "takes-greetings"
# ... and a request may be exclusive (`vortex.EXCLUSIVE`) ...
GIVES_ONCE = "gives-once"
# ... and passes pieces on that it is still being sent (`vortex.PASSED_ON`) ...
PASSES_ON = "passes-on"
# ... and answers children whose scheduler has not named it yet (`vortex.AHEAD`) ...
ANSWERS_AHEAD = "answers-ahead"
# ... and speaks TLS to who begins with it.
SPEAKS_TLS = "speaks-tls"

# Said by a child of ours when it asks for a list of pieces: see `piece_list`.
TAKES_PIECE_LISTS = "takes-piece-lists"
# Said by the same: it wants to hear, too, of pieces that the parent is still being sent.
TAKES_COMING = "takes-coming"
# Said by a client of DownloadTask on its host's unix socket.
# It takes a first message that does not know the content's length yet (as UNKNOWN_CONTENT_LENGTH);
# others get it once the length is known.
UNSIZED_STARTED = "unsized-started"
# It follows: pieces that landed within a tenth of a second are named together (see `piece_list`).
PIECES_TOGETHER = "pieces-together"
# It reads: pieces are named in the order of the content, not as they land, and one of a range is
# told, and comes, cut to the range.
IN_ORDER = "in-order"
# It takes bytes from the daemon's own file if it may open it: see `extension.ContentFile`.
CONTENT_FILE = "content-file"
# It wants the bytes from this daemon's disk or from the source, and from no peer.
NO_P2P = "no-p2p"

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
