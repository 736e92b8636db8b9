"""How many children a seed bears, so that its uplink is left for what nobody else holds.

A seed has everything and a wide uplink, so every ranker that likes fast hosts sends everybody to
it; then it sends the whole content once per child, and the peers' own uplinks idle (simulated, 60
uneven peers with stock clients: six times the physical bound, all of it the seed's). So a seed that
has as many children as its uplink is wider than those of the others is left out, as long as others
can help. It is a rule of the core, and holds whoever ranks.

Of a short content it bears more: a child of a small file holds a place for two round trips, of
which the bytes are the least part. (16 hosts with 300 files up to 0.9 MiB on full links, emulated:
a seed of ten uplinks sent 2.2 copies of each where it could have sent twelve.)
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from odonata.piece import PIECE_LENGTH_MIN
from scheduler.core.candidate import Drop

if TYPE_CHECKING:
    from scheduler.core.candidate import Survey
    from scheduler.core.limits import Limits

OTHERS_MIN = 2
"""Left out only while so many others are eligible: a child with one parent is one failure away from
having none."""


SHORT_BYTES = PIECE_LENGTH_MIN
"""What is shorter than a piece of Dragonfly's is short..."""
SHORT_FACTOR_MAX = 8.0
"""...and so many times as many children are borne by who sends so much less to each, up to this:
what they all ask for at once is a piece for each that it bears of a long one."""


def spare_seeds(seen: Survey, limits: Limits) -> None:
    """Take seeds with enough children out of the eligible, and note why."""
    if not limits.seed_share or not any(peer.host.is_seed for peer in seen.eligible):
        return
    others = [peer for peer in seen.eligible if not peer.host.is_seed]
    if len(others) < OTHERS_MIN:
        return
    uplinks = [peer.host.announced.max_tx_bandwidth_bits_per_s for peer in others]
    usual = median(uplinks)
    kept = others
    for peer in seen.eligible:
        host = peer.host
        if not host.is_seed:
            continue
        uplink = host.announced.max_tx_bandwidth_bits_per_s
        ratio = uplink / usual if uplink and usual else limits.seed_child_count
        bears = max(limits.seed_child_count_min, limits.seed_share * ratio)
        bears *= _shortness(peer.task.content_length)
        if host.concurrent_upload_count < bears:
            kept.append(peer)
        else:
            seen.dropped[peer.id] = Drop.SEED_FULL
    seen.eligible = kept


def _shortness(content_length: int | None) -> float:
    """How many children of such a content count as one."""
    if not content_length:
        return 1.0
    return min(SHORT_FACTOR_MAX, max(1.0, SHORT_BYTES / content_length))
