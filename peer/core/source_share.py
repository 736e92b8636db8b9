"""Which pieces one of several seeds takes from the source, so that each leaves it once.

Theory of operation
===================

Seeds that fetch a content together are numbered. The content has as many *parts* as there are
seeds, each a stretch of pieces; a part has up to `BLOCKS_PER_PART` *blocks*. Nobody assigns
anything: each seed follows the same rules, and hears of the others (its *fellows*) only what a
parent tells its children anyway, which pieces it holds.

1. A seed takes its own part, from the first piece to the last. The rest it fetches from its fellows
   as they come to hold it.
2. When nothing of its own part is left to take, it helps: it takes the last block of another part,
   if that is far enough from where its owner is, then the one before, until it meets the owner. So
   a seed behind a thin link does not hold up the others. Two helpers of one part begin a block
   apart.
3. Whoever comes to a block that a fellow has begun leaves it to that fellow, unless it is the
   owner of the part and has begun it as well: then the helper goes away.
4. A part, or a block, of which nothing was heard for a while (`patience_s`) is given up by whoever
   had it: anybody may take it.
5. A seed that has no fellow any more takes everything.

The first seed begins before there is any other; the others are called when it has said how long the
content is, unless that is too little to share. So each leaves the others' parts to them for a while
although nobody was named to it yet, the first one for `fellow_call_s`, the others as by rule 4.

So without failures each piece leaves the source once. What is heard late can cost: two seeds that
come to one block within the time a piece takes both fetch that piece, and notice. When a seed
fails, what it had not passed on is fetched again.

If the source ignores ranges, the first seed alone takes everything, as long as it is heard of.
"""

from __future__ import annotations

from bisect import bisect_right
from math import ceil
from typing import TYPE_CHECKING

from odonata.piece import SHARE_PIECES_MIN
from peer.core.limits import DownloadLimits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from odonata.wire.message import SourceShare

BLOCKS_PER_PART = 8
"""What a helper takes at a time: a request for an eighth of a part costs little, and the last one
keeps the others waiting for an eighth of the time at most."""

FAR_PIECES = 3
"""From the owner's next piece to a block that is taken from it, at least: one that the owner is at,
one that the helper needs to be heard of, and one for the news to be late. And never the owner's
block itself. Behind those that an owner with several requests is at (`reach`)."""
FAR_S = 0.5
"""At least so far in time, where pieces are quick: news take some round trips of up to 100 ms."""

Block = tuple[int, int]
"""Part, and number in it."""


class Grid:
    """Parts and blocks of a content of `piece_count` pieces."""

    def __init__(self, piece_count: int, part_count: int) -> None:
        self._starts = [part * piece_count // part_count for part in range(part_count + 1)]

    def part(self, number: int) -> int:
        """The part of a piece."""
        return bisect_right(self._starts, number) - 1

    def span(self, part: int) -> range:
        """The pieces of a part."""
        return range(self._starts[part], self._starts[part + 1])

    def block(self, number: int) -> Block:
        """The block of a piece."""
        part = self.part(number)
        first, following = self._starts[part], self._starts[part + 1]
        length = max(1, -(-(following - first) // BLOCKS_PER_PART))
        return part, (number - first) // length


class SharedSource:
    """One seed's view of who takes what from the source. Nothing here asks for anything."""

    def __init__(self, share: SourceShare, limits: DownloadLimits) -> None:
        self._index = share.index
        self._count = share.count
        self._limits = limits
        self._grid: Grid | None = None
        self._begun_at = 0.0
        self._had_fellow = False
        self._part_news: dict[int, float] = {}  # a fellow got a piece of it
        self._block_news: dict[Block, float] = {}  # the same
        self._begun: set[Block] = set()  # a piece of it came to us from the source
        self._helping: Block | None = None
        self._piece_s = 0.0  # what a piece takes us, smoothed
        self._at_once = 1
        self._stored_at: float | None = None
        self._wake_at: float | None = None

    @property
    def index(self) -> int:
        return self._index

    @property
    def count(self) -> int:
        return self._count

    # --- what happens ---------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The source may be asked from now on."""
        self._begun_at = now

    def named(self, now: float) -> None:
        """A fellow was named: from now on it is waited for."""
        if not self._had_fellow:
            self._had_fellow = True
            self._begun_at = now

    def measure(self, piece_count: int) -> None:
        """The content has so many pieces; if they are too few, nothing is shared."""
        if self._grid is None and piece_count >= SHARE_PIECES_MIN * self._count:
            self._grid = Grid(piece_count, self._count)

    def heard(self, numbers: Iterable[int], now: float) -> None:
        """A fellow holds these, which we do not."""
        if self._grid is None:
            return
        for number in numbers:
            block = self._grid.block(number)
            self._block_news[block] = self._part_news[block[0]] = now

    def stored(self, number: int, now: float) -> None:
        """A piece came from the source."""
        if self._stored_at is not None:
            took_s = now - self._stored_at
            memory = self._limits.goodput_memory if self._piece_s else 1.0
            self._piece_s += memory * (took_s - self._piece_s)
        self._stored_at = now
        if self._grid is not None:
            self._begun.add(self._grid.block(number))

    def paused(self) -> None:
        """No request goes on: the time until the next piece says nothing of how long one takes."""
        self._stored_at = None

    # --- what follows ---------------------------------------------------------------------------

    def choose(
        self,
        left: list[int],
        *,
        ranges: bool | None,
        has_fellow: bool,
        now: float,
        at_once: int = 1,
        reach: int = 0,
    ) -> list[int]:
        """Which pieces to take from the source now, of those `left`: neither held nor offered.

        Both ascending. `ranges`: the source honours them, None if it has not said. `at_once`: how
        many requests pay here, for a fellow, too; then each is somewhere in the first `reach`
        pieces that are missing of its part.
        """
        self._at_once = at_once
        self._wake_at = None
        grid = self._grid
        if grid is None or not left:
            return left
        own = [n for n in left if grid.part(n) == self._index]
        if self._is_alone(has_fellow=has_fellow, now=now):
            return own if own and self._index else left
        if ranges is False:
            return left if not self._index or self._is_all_silent(now) else []
        own = [n for n in own if not self._is_taken(grid.block(n), now)]
        return own or self._help(grid, left, reach, now)

    def next_wake(self) -> float | None:
        """When the latest choice may come out differently although nothing happens."""
        return self._wake_at

    @property
    def patience_s(self) -> float:
        """How long a fellow may be silent."""
        # Pieces come one by one to us, and in bursts to the others, of as many as are on their way.
        pieces = self._limits.fellow_patience_pieces * self._at_once
        return max(self._limits.fellow_patience_s, pieces * self._piece_s)

    @property
    def _far_pieces(self) -> int:
        """How far from its owner a block must be to be taken, in pieces."""
        return max(FAR_PIECES, ceil(FAR_S / self._piece_s) if self._piece_s > 0 else 0)

    # --- inside ---------------------------------------------------------------------------------

    def _is_alone(self, *, has_fellow: bool, now: float) -> bool:
        if has_fellow:
            return False
        if self._had_fellow:
            return True
        # Others may be on their way to the first seed; the others were called, so there is one.
        until = self._begun_at + (self.patience_s if self._index else self._limits.fellow_call_s)
        return self._is_past(until, now)

    def _is_over(self, since: float, now: float) -> bool:
        """The patience with what was heard of at `since` last."""
        return self._is_past(since + self.patience_s, now)

    def _is_past(self, until: float, now: float) -> bool:
        """If not, mind when it will be."""
        if until <= now:
            return True
        self._wake_at = until if self._wake_at is None else min(self._wake_at, until)
        return False

    def _is_all_silent(self, now: float) -> bool:
        return self._is_over(max(self._part_news.values(), default=self._begun_at), now)

    def _is_taken(self, block: Block, now: float) -> bool:
        """A fellow is at this block of our own part."""
        news_at = self._block_news.get(block)
        return news_at is not None and block not in self._begun and not self._is_over(news_at, now)

    def _help(self, grid: Grid, left: list[int], reach: int, now: float) -> list[int]:
        """What to take of the others' parts."""
        blocks: dict[Block, list[int]] = {}
        for number in left:
            blocks.setdefault(grid.block(number), []).append(number)
        block = self._helping
        if block is None or block not in blocks or self._is_contested(block, now):
            block = self._helping = self._find_block(blocks, reach, now)
        return [] if block is None else blocks[block]

    def _is_contested(self, block: Block, now: float) -> bool:
        news_at = self._block_news.get(block)
        return news_at is not None and not self._is_over(news_at, now)

    def _find_block(self, blocks: dict[Block, list[int]], reach: int, now: float) -> Block | None:
        """A block to help with, of the parts after our own, around the ring."""
        for step in range(1, self._count):
            part = (self._index + step) % self._count
            there = [block for block in blocks if block[0] == part]
            free = [block for block in there if not self._is_contested(block, now)]
            # Helpers of one part are different steps away from it: each begins at another block.
            others = self._count - 1 - step
            if self._is_over(self._part_news.get(part, self._begun_at), now):
                if free:
                    return free[-1 - min(others, len(free) - 1)]
                continue
            if len(free) <= others or free[-1 - others] == there[0]:
                continue
            block = free[-1 - others]
            between = sum(len(blocks[one]) for one in there[: there.index(block)])
            if between >= reach + self._far_pieces:
                return block
        return None
