"""The time that no swarm can beat on given links: the physical bound of every stretch.

For one content of F bytes, N peers that fetch it, seeds with uplinks u_s, peers with uplinks u and
downlinks d, and an origin with uplink u_o (the swarm study's T*):

    max{ F / sum u_s,  F / u_o,  F / min d,  N F / (sum u_s + sum u) }

Without a seed the origin takes its place in the last term and the first one falls away. With a thin
link between data centres one copy must cross it: F / link.
"""

from __future__ import annotations

from collections.abc import Sequence


def bound_s(
    size: int,
    *,
    source_up: float,
    seed_ups: Sequence[float],
    peer_ups: Sequence[float],
    peer_downs: Sequence[float],
    takers: int | None = None,
    between_idcs: float | None = None,
) -> float:
    """Seconds; rates in bytes per second, as they are and not as they are announced.

    `takers`: how many peers get a whole copy, if not all whose uplinks count (a peer may vanish).
    """
    copies = (len(peer_ups) if takers is None else takers) * size
    terms = [size / source_up, size / min(peer_downs)]
    if between_idcs is not None:
        terms.append(size / between_idcs)
    if seed_ups:
        terms.append(size / sum(seed_ups))
        terms.append(copies / (sum(seed_ups) + sum(peer_ups)))
    else:
        terms.append(copies / (source_up + sum(peer_ups)))
    return max(terms)
