"""What the operator of a cluster decides while it runs: limits, applications, block lists.

The runtime reads it from a file or from a manager and hands it in as `ClusterConfigured`; it
replaces whatever was configured before, as a whole. None of it changes what peers already have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from odonata.block_list import BlockList, Blocks
from odonata.errors import ForbiddenError
from odonata.wire.message import Host, Value
from scheduler.core.application import Application, Priorities
from scheduler.core.candidate import Drop

if TYPE_CHECKING:
    from odonata.wire.message import Download
    from scheduler.core.candidate import Survey
    from scheduler.core.limits import Limits

SEED_LOAD_LIMIT = 2000
"""Children of a seed at a time, over all tasks. Dragonfly's default."""
PEER_LOAD_LIMIT = 200
"""Children of any other host. Dragonfly's default."""


class ClusterConfig(Value, frozen=True, kw_only=True):
    """A configuration as plain values. None: what the scheduler itself was started with."""

    applications: tuple[Application, ...] = ()
    candidate_parent_limit: int | None = None
    filter_parent_limit: int | None = None
    seed_load_limit: int = SEED_LOAD_LIMIT
    peer_load_limit: int = PEER_LOAD_LIMIT
    seed_block_list: BlockList = BlockList()
    peer_block_list: BlockList = BlockList()


class Cluster:
    """A configuration, ready for use. Raises CallerError for a pattern that is none."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.priorities = Priorities(config.applications)
        self._seed_blocks = Blocks(config.seed_block_list)
        self._peer_blocks = Blocks(config.peer_block_list)
        self._lowest_load_limit = min(config.seed_load_limit, config.peer_load_limit)

    def limits(self, own: Limits) -> Limits:
        """Lay the configured limits over those the scheduler was started with."""
        config = self.config
        return replace(
            own,
            candidate_parent_limit=config.candidate_parent_limit or own.candidate_parent_limit,
            candidate_batch_limit=config.filter_parent_limit or own.candidate_batch_limit,
        )

    def load_limit(self, host: Host) -> int:
        """Return how many children `host` shall have at a time."""
        return self.config.seed_load_limit if host.is_seed else self.config.peer_load_limit

    def refusal(self, download: Download, host: Host) -> ForbiddenError | None:
        """Return why `host` may not have `download`, whose priority is the effective one."""
        what = self.why_blocked(download, is_seed=host.is_seed)
        if what is None:
            return None
        return ForbiddenError(
            f"this download is on the block list of {_LISTS[host.is_seed]}: {what}"
        )

    def why_blocked(self, download: Download, *, is_seed: bool) -> str | None:
        """Return what of `download` is forbidden to seeds, or to other hosts; None if nothing."""
        return (self._seed_blocks if is_seed else self._peer_blocks).why(download)

    def spare_loaded(self, seen: Survey) -> None:
        """Take hosts at their load limit out of the eligible, while others can help.

        If nobody else can, they serve all the same: a late parent is better than none.
        """
        for peer in seen.eligible:  # as a rule nobody comes near it: 2 us for 25
            if peer.host.concurrent_upload_count >= self._lowest_load_limit:
                break
        else:
            return
        free = [
            peer
            for peer in seen.eligible
            if peer.host.concurrent_upload_count < self.load_limit(peer.host.announced)
        ]
        if not free or len(free) == len(seen.eligible):
            return
        kept = frozenset(peer.id for peer in free)
        for peer in seen.eligible:
            if peer.id not in kept:
                seen.dropped[peer.id] = Drop.LOADED
        seen.eligible = free


_LISTS = {
    True: "seeds (seedPeerClusterConfig.blockList)",
    False: "peers (schedulerClusterClientConfig.blockList)",
}
