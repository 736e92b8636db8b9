"""Which peers a child of a persistent task may download from, best first.

    score = 0.7 same data centre + 0.3 location        (Dragonfly's weights)

Of equals, whoever has the whole content comes first, then luck decides, so that not all children
land on one parent. At least one parent that has everything is among those named, if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.features import location_affinity, same_idc
from scheduler.core.persistent.lifecycle import SERVING, PeerState

if TYPE_CHECKING:
    from scheduler.core.persistent.state import Peer, PeerHost
    from scheduler.core.persistent.turn import Turn

IDC_WEIGHT = 0.7
LOCATION_WEIGHT = 0.3


def parents_of(turn: Turn, child: Peer) -> tuple[Peer, ...]:
    """The best peers that can serve `child`, at most `turn.parent_limit`; empty if nobody can."""
    home = turn.need_host(child.host_id)
    fit = [peer for peer in turn.peers.values() if _can_serve(turn, child, peer)]
    turn.rng.shuffle(fit)
    fit.sort(key=lambda peer: (-score(home, turn.hosts[peer.host_id]), not _is_whole(peer)))
    chosen = fit[: turn.parent_limit]
    if not any(_is_whole(peer) for peer in chosen):
        whole = next((peer for peer in fit if _is_whole(peer)), None)
        if whole is not None:
            chosen[-1] = whole
    return tuple(chosen)


def score(child: PeerHost, parent: PeerHost) -> float:
    """0 (elsewhere, or unknown) to 1 (same data centre and location)."""
    return IDC_WEIGHT * same_idc(child.idc, parent.idc) + LOCATION_WEIGHT * location_affinity(
        child.location, parent.location
    )


def _can_serve(turn: Turn, child: Peer, peer: Peer) -> bool:
    host = turn.hosts.get(peer.host_id)
    return (
        peer.state in SERVING
        and peer.host_id != child.host_id
        and peer.id not in child.block_parents
        and host is not None
        and not host.disable_shared
    )


def _is_whole(peer: Peer) -> bool:
    return peer.state is PeerState.SUCCEEDED
