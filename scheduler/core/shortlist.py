"""The useful peers of a task in an order in which the few worth ranking are found at once.

Theory of operation
===================

A ranker looks at every candidate it is shown, and in a task of ten thousand peers that is too many.
A blind sample would mostly show it what is no good. So the useful peers lie in *levels*: a level is
a coarse guess, half a doubling wide, at what one more child would get from a peer. It is made of
what the rankers know best (the host's measured rate, or its claim; its children; how much of the
content is there), by plain arithmetic.

A draw takes from the best levels first: a quarter from the child's own data centre, then from
everywhere, within a level by lot. An eighth is drawn by lot from all, whatever their level, so that
those the guess is wrong about are met again. It costs as much among a hundred as among ten
thousand, but for the levels, of which there are at most `2 * LEVEL_LIMIT + 1`.

A guess is made anew when the peer or its host changes by an event of this task. A host serves many
tasks, and its children elsewhere change what it is worth here; each peer's listing says from which
state of peer, host, task and swarm its level was guessed, and one that is outdated is put right
when it is drawn, or when its host announces itself again. So a host that filled up elsewhere is
drawn once too often, and one that became free is met again by lot; the ranker scores what is true
now either way.

Nothing here decides who is a candidate (`candidate`) or who is chosen (`choice`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from models.prior import PRIOR_PIECES
from models.rule import CLAIM_TRUST, FINISHED_WEIGHT
from scheduler.core.lifecycle import PeerState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer

LEVEL_WIDTH = log(2) / 2
"""Half a doubling of the rate: one child more moves a host by one or two levels while it has few,
and two hosts on one level are so near that only a ranker can tell them apart."""
LEVEL_LIMIT = 30
"""Levels on each side of `MIDDLE`: from 4 KB/s to 4 TB/s. Farther off is as good as infinitely."""
MIDDLE = log(125e6)
"""A gigabit per second. It is also what a stranger is thought to give in a swarm that nothing is
known of: rather too much, for whoever is listed too high is drawn and put right."""
USUAL_CLAIM = log(1e9)
"""The same as uplinks are announced, in bits."""
FOLLOWED_FROM = 0.75
"""Doublings away from it at which the standard follows; more than a half, lest it go to and fro."""
_LOG_PLACES = [log(children + 1) for children in range(64)]
NEAR_PART = 4
BY_LOT_PART = 8
"""Of a draw, one in so many."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What is thought of strangers: logarithms of the swarm's rate and of the usual claim.

    It follows them in steps of a doubling, so that it seldom changes, and with it the guesses at
    whoever is not known well.
    """

    log_rate: float = MIDDLE
    log_claim: float = USUAL_CLAIM

    def following(self, log_rate: float, log_claim: float) -> Standard:
        """The standard by these, NaN of what is unknown; itself if they are near enough."""
        rate, claim = _followed(self.log_rate, log_rate), _followed(self.log_claim, log_claim)
        if rate == self.log_rate and claim == self.log_claim:
            return self
        return Standard(rate, claim)


@dataclass(slots=True, eq=False)
class Listing:
    """Where a peer is listed, and from which state of peer, host, task and swarm."""

    level: int
    idc: str
    standard: Standard
    peer_changes: int
    host_changes: int
    piece_count: int  # of the task
    position: int = -1
    near_position: int = -1


class Shortlist:
    """The useful peers of one task by level: all of them, and those of each data centre."""

    def __init__(self) -> None:
        self._all: dict[int, list[Peer]] = {}
        self._near: dict[str, dict[int, list[Peer]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Peer]:
        return (peer for level in self._all.values() for peer in level)

    def put(self, peer: Peer, standard: Standard) -> None:
        """List a peer, or list it anew where it belongs now."""
        host, listing = peer.host, peer.listing
        level, idc = level_of(peer, standard), host.region
        if listing is None:
            listing = peer.listing = Listing(
                level, idc, standard, peer.changes, host.changes, peer.task.piece_count
            )
            self._insert(peer, listing)
            return
        listing.standard = standard
        listing.peer_changes, listing.host_changes = peer.changes, host.changes
        listing.piece_count = peer.task.piece_count
        if listing.level != level or listing.idc != idc:
            self._take_out(peer, listing)
            listing.level, listing.idc = level, idc
            self._insert(peer, listing)

    def discard(self, peer: Peer) -> None:
        """Take a peer off the list, if it is on it."""
        if peer.listing is not None:
            self._take_out(peer, peer.listing)
            peer.listing = None

    def draw(self, idc: str, count: int, standard: Standard, dice: Random) -> list[Peer]:
        """At most `count` peers, all different: the best, the near among them, and some others.

        `idc` is the child's data centre. Whoever is drawn is listed where it belongs now.
        """
        drawn: dict[Peer, None] = {}
        near = self._near.get(idc.casefold()) if idc else None
        if near:
            _take_best(near, count // NEAR_PART, drawn, dice)
        _take_best(self._all, count - count // BY_LOT_PART, drawn, dice)
        self._take_by_lot(count, drawn, dice)
        peers = list(drawn)
        for peer in peers:
            listing = peer.listing
            if (  # `is_outdated`, without the call: this is done for all, at every decision
                listing is None
                or listing.host_changes != peer.host.changes
                or listing.peer_changes != peer.changes
                or listing.standard is not standard
                or listing.piece_count != peer.task.piece_count
            ):
                self.put(peer, standard)
        return peers

    def _take_by_lot(self, count: int, drawn: dict[Peer, None], dice: Random) -> None:
        levels = list(self._all.values())
        for _ in range(4 * (count - len(drawn) + 1)):  # some of them have been drawn already
            if len(drawn) >= count:
                return
            number = int(dice.random() * self._count)
            for level in levels:
                if number < len(level):
                    drawn[level[number]] = None
                    break
                number -= len(level)

    def _insert(self, peer: Peer, listing: Listing) -> None:
        level = self._all.setdefault(listing.level, [])
        listing.position = len(level)
        level.append(peer)
        self._count += 1
        if listing.idc:
            near = self._near.setdefault(listing.idc, {}).setdefault(listing.level, [])
            listing.near_position = len(near)
            near.append(peer)

    def _take_out(self, peer: Peer, listing: Listing) -> None:
        """The last one of its level takes its place."""
        level = self._all[listing.level]
        last = level.pop()
        if last is not peer:
            level[listing.position] = last
            _listing(last).position = listing.position
        if not level:
            del self._all[listing.level]
        self._count -= 1
        if listing.idc:
            self._take_out_near(peer, listing)

    def _take_out_near(self, peer: Peer, listing: Listing) -> None:
        levels = self._near[listing.idc]
        level = levels[listing.level]
        last = level.pop()
        if last is not peer:
            level[listing.near_position] = last
            _listing(last).near_position = listing.near_position
        if not level:
            del levels[listing.level]
            if not levels:
                del self._near[listing.idc]

    def complaint(self) -> str:
        """What is wrong with the list, "" if nothing is; for tests: it looks at everybody."""
        near_count = 0
        for levels, is_near in ((self._all, False), *((one, True) for one in self._near.values())):
            for level, peers in levels.items():
                near_count += len(peers) * is_near
                for position, peer in enumerate(peers):
                    found = _misplaced(peer, level, position, is_near=is_near)
                    if found:
                        return found
        listed = [_listing(peer) for peer in self]
        if len(listed) != self._count:
            return f"{len(listed)} peers are listed, not {self._count}"
        if near_count != sum(1 for listing in listed if listing.idc):
            return "data centres and the whole list disagree"
        return ""


def level_of(peer: Peer, standard: Standard) -> int:
    """What one more child would get from a peer, in half doublings."""
    host = peer.host
    if host.guessed_by is not standard:
        host.log_rate_guess, host.guessed_by = _log_rate(host, standard), standard
    children = host.concurrent_upload_count
    places = _LOG_PLACES[children] if children < len(_LOG_PLACES) else log(children + 1)
    worth = host.log_rate_guess - MIDDLE - places
    if peer.state is PeerState.SUCCEEDED:
        worth += FINISHED_WEIGHT
    elif peer.task.piece_count:
        worth += FINISHED_WEIGHT * min(len(peer.pieces) / peer.task.piece_count, 1.0)
    level = round(worth / LEVEL_WIDTH)
    if -LEVEL_LIMIT <= level <= LEVEL_LIMIT:
        return level
    return LEVEL_LIMIT if level > 0 else -LEVEL_LIMIT


def is_outdated(peer: Peer, standard: Standard) -> bool:
    """Whether the peer's level was guessed from something that has changed since."""
    listing = _listing(peer)
    return (
        listing.peer_changes != peer.changes
        or listing.host_changes != peer.host.changes
        or listing.standard is not standard
        or listing.piece_count != peer.task.piece_count
    )


def _followed(followed: float, log_value: float) -> float:
    """Whole doublings on, if it is more than three quarters of one away; NaN is nowhere."""
    doublings = (log_value - followed) / log(2)
    return followed + round(doublings) * log(2) if abs(doublings) > FOLLOWED_FROM else followed


def _log_rate(host: KnownHost, standard: Standard) -> float:
    """As our rule guesses it: history as far as there is one, else the claim."""
    uplink, history = host.announced.max_tx_bandwidth_bits_per_s, host.history
    rate, pieces = history.rate_bytes_per_s, history.pieces.value
    guess = standard.log_rate
    if uplink > 0:
        guess += CLAIM_TRUST * (log(uplink) - standard.log_claim)
    if not rate > 0:  # NaN is not
        return guess
    weight = pieces / (pieces + PRIOR_PIECES)
    return weight * log(rate) + (1.0 - weight) * guess


def _take_best(
    levels: dict[int, list[Peer]], count: int, drawn: dict[Peer, None], dice: Random
) -> None:
    """Draw until there are `count`: the best levels whole, of the last one some by lot."""
    for number in sorted(levels, reverse=True):
        room = count - len(drawn)
        if room <= 0:
            return
        level = levels[number]
        size = len(level)
        if size > 2 * room:
            # Evenly apart, from anywhere on: everybody is as likely as anybody.
            apart, start = size // room, int(dice.random() * size)
            some = level[start::apart][:room]
            drawn.update(dict.fromkeys(some + level[start % apart :: apart][: room - len(some)]))
            for _ in range(2 * (count - len(drawn))):  # some of them had been drawn already
                drawn[level[int(dice.random() * size)]] = None
                if len(drawn) >= count:
                    return
        else:
            start = int(dice.random() * size)
            drawn.update(dict.fromkeys((*level[start:], *level[:start])[:room]))


def _listing(peer: Peer) -> Listing:
    assert peer.listing is not None, f"peer {peer.id} is not listed"
    return peer.listing


def _misplaced(peer: Peer, level: int, position: int, *, is_near: bool) -> str:
    listing = peer.listing
    if listing is None:
        return f"peer {peer.id} is on the list and knows nothing of it"
    at = listing.near_position if is_near else listing.position
    if (listing.level, at) != (level, position):
        return f"peer {peer.id} is at {level}/{position}, its listing says {listing.level}/{at}"
    if not is_outdated(peer, listing.standard) and level_of(peer, listing.standard) != level:
        return f"peer {peer.id} is on level {level} and belongs to another one"
    return ""
