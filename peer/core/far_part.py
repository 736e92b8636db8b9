"""Our part of a content as one of several gateways, and from when on we help the others.

The scheduler tells each gateway of a data centre a part, which it fetches from far parents first
(`selection`). The others may be much slower, or gone without a word: so who has its own part helps.
But not at once. What another one has brought we hear of only from whoever is our parent, so a piece
that nobody near seems to hold may have crossed the link long ago. (Measured on real links, two
gateways alike: two to seven pieces of 64 came twice, up to twenty seconds after the first time.) So
an equal is given half as long again as our own part took (`far_help_after`): with uneven uplinks
(simulated, nine worlds) the last host is as late as without any wait, 1.37 times the bound in the
mean; with as long again as it took it is later, 1.48.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from odonata.wire.message import FarShare


class FarPart:
    """The part that was told last; `share` None: we fetch what we like."""

    def __init__(self, help_after: float) -> None:
        """`help_after`: of the time that our own part took."""
        self._help_after = help_after
        self.share: FarShare | None = None
        self.helps_at = inf
        """From then on (seconds) the others are helped; inf while something of our own is left."""
        self._told_at = 0.0

    def tell(self, share: FarShare, now: float) -> None:
        """Our part from now on; one of one is no part."""
        self.share = share if share.count > 1 else None
        self.helps_at, self._told_at = inf, now

    def give_up(self) -> None:
        """We fetch what we like."""
        self.share, self.helps_at = None, inf

    def look(self, missing: Iterable[int], taken: Callable[[int], bool], now: float) -> None:
        """Note whether anything of it is left to ask for."""
        share = self.share
        if share is None:
            return
        if any(n % share.count == share.index and not taken(n) for n in missing):
            self.helps_at = inf
        elif self.helps_at == inf:
            self.helps_at = now + self._help_after * (now - self._told_at)
