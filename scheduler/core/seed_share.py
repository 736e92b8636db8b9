"""How many children a seed bears, so that its uplink is left for what nobody else holds.

A seed has everything and a wide uplink, so every ranker that likes fast hosts sends everybody to
it; then it sends the whole content once per child, and the peers' own uplinks idle (simulated, 60
uneven peers with stock clients: six times the physical bound, all of it the seed's). So a seed that
has as many children as its uplink is wider than those of the others is left out, as long as others
can help. It is a rule of the core, and holds whoever ranks.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from scheduler.core.candidate import Drop

if TYPE_CHECKING:
    from scheduler.core.candidate import Survey
    from scheduler.core.limits import Limits

OTHERS_MIN = 2
"""Left out only while so many others are eligible: a child with one parent is one failure away from
having none."""


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
        if host.concurrent_upload_count < bears:
            kept.append(peer)
        else:
            seen.dropped[peer.id] = Drop.SEED_FULL
    seen.eligible = kept
