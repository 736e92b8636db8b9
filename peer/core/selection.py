"""The second stage: which piece from which parent next. Pure choice, nothing is changed here.

The scheduler has named the parents; this module decides, piece by piece, among them. It follows
what a simulated and measured swarm asks for (order is worth more than the choice of parents):

1. The parent first, drawn by what it can probably spare; then the piece: the rarest that it holds,
   counted among the parents, ties at random. Ascending order would make every peer ask the seed for
   the same.
2. A piece that a reader waits for goes out of turn, one at a time: from a peer, or if none holds it
   for `reader_patience_s`, from a seed, as 3 says, until `reader_given_patience_s`. Where a source
   is what everybody waits for, all readers wait for its latest piece. (Eight readers of three
   contents, a source of half a link: with a copy for each it took three times as long.)
3. A seed's uplink may be the scarcest thing: it is asked for what no other parent holds. For the
   rest it is asked only by a download that has nothing else in flight, or to which it gives faster
   than its other parents on average: then it is not scarce. (Simulated with a seed of ten uplinks,
   8 and 16 peers: the median falls from 1.3 and 1.6 times the bound to 1.05; with a seed of one
   uplink nothing changes.) A scarce one is asked exclusively: not for what it is giving, or has
   just given, to another of its children, as far as it has said so (`giving`). Who has nothing on
   its way waits for that to spread, for `given_patience_s` at most.
4. So may the link to another data centre. A parent there is asked for what no near one holds, and
   for the rest only when nothing has been on its way for `far_patience_s`, or to bring a piece that
   is late where no near one can: the near ones may be busy for a moment, but a content shall cross
   such a link once.
5. Where several of us ask there, gateways, they do not know what is on its way to the others. So
   each has a part of the content, as the scheduler tells, and asks far parents for that first: the
   pieces whose number leaves its index when divided by their count. It helps the others when its
   own part has been done for a while (`far_part`), and more than `help_above` of theirs are held by
   nobody near. When nothing has been on its way for `far_patience_s`, the others are given up
   (`fetching`). Near parents are asked as ever, and so is who may bring what a reader waits for.

Each rule has a switch in `limits`, so that a simulation can tell what it is worth; the table is in
docs/second-stage.md. Three (`order`, `first`, `weight`) turn all this into the rules of Dragonfly's
own client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from odonata.wire.message import FarShare
from peer.core.content import Content
from peer.core.limits import DownloadLimits
from peer.core.parents import Parents, ParentState

if TYPE_CHECKING:
    from random import Random

DRAWS = 4
"""Of the rarest pieces of a parent, before each is looked at. Up to four or eight are on their way
already; when these are all that is left, the look is short."""


WIDE = 2.0
"""A seed is wide if it has, or gives, this many times as much as the other parents on average."""


class Choice(NamedTuple):
    """Ask `parent` for piece `number`; `is_exclusive`: unless it gives it to somebody else."""

    parent: ParentState
    number: int
    is_exclusive: bool = False


class Reader(NamedTuple):
    """A reader stands at piece `number` since `since` (seconds)."""

    number: int
    since: float


class Situation(NamedTuple):
    """What a choice looks at. `taken`: this piece is on its way already, whoever brings it."""

    content: Content
    parents: Parents
    limits: DownloadLimits
    taken: Callable[[int], bool]
    reader: Reader | None
    flights: int
    dry_since: float
    """Since when nothing has been on its way (as of now, if something is)."""
    far_share: FarShare | None = None
    """Which part of the content we fetch from far parents; None: all of it..."""
    may_help: bool = False
    """...and whether the others, too, by now (`far_part`)."""


def has_room(state: ParentState, limits: DownloadLimits, now: float) -> bool:
    """One more piece may be asked from this parent now."""
    if state.avoid_until > now or state.leaving:
        return False
    quick = state.piece_s is not None and state.piece_s < limits.quick_piece_s
    bound = limits.quick_pieces_per_parent if quick else limits.pieces_per_parent
    return len(state.in_flight) - state.passes_on < bound


def choose(situation: Situation, rng: Random, now: float) -> Choice | None:
    """The next piece to ask for, None if nothing can be asked now."""
    limits = situation.limits
    free = [p for p in situation.parents if has_room(p, limits, now) and _is_of_use(situation, p)]
    if not free:
        return None
    for_reader = _for_reader(situation, free, rng, now)
    if for_reader is not None:
        return for_reader
    if limits.first == "piece":
        return _piece_first(situation, free, rng)
    return _parent_first(situation, _shuffle(situation, free, rng), rng, now)


def _is_of_use(situation: Situation, state: ParentState) -> bool:
    """It offers something that is missing and on its way from nobody.

    Mostly the first that it offers, or nothing: then what it offers are the few pieces in flight,
    and to draw among those is in vain.
    """
    lacks, taken = situation.content.lacks, situation.taken
    return any(lacks(number) and not taken(number) for number in state.offers)


def _parent_first(
    situation: Situation, shuffled: list[ParentState], rng: Random, now: float
) -> Choice | None:
    for state in shuffled:
        if _is_saved(situation, state) and not situation.parents.dear_only:
            continue
        choice = _ask(situation, state, rng, now, _asked_first(situation, state))
        if choice is not None:
            return choice
    if situation.far_share is not None:
        choice = _help_gateway(situation, shuffled, rng, now)
        if choice is not None:
            return choice
    for state in shuffled:
        choice = None if _is_spared(situation, state, now) else _ask(situation, state, rng, now)
        if choice is not None:
            return choice
    return None


def choose_helper(
    situation: Situation,
    number: int,
    slow: ParentState,
    rng: Random,
    now: float,
    in_earnest_s: float | None = None,
) -> ParentState | None:
    """Who else could bring piece `number`, which is late from `slow`.

    A near peer; if none can, a near seed; and only then whoever is far away. They are asked, too,
    though the link there and the uplink of a seed may be the scarcest things: a late piece that
    nobody else holds would otherwise wait for ever. Those far away not before the piece is late
    in earnest, unless `slow` is far itself: at the end of a content pieces count as late so soon
    that a gateway, whose uplink all near ones wait for, is late more often than not.
    """
    able = [
        p
        for p in situation.parents
        if p is not slow and number in p.offers and has_room(p, situation.limits, now)
    ]
    near = [p for p in able if not p.is_far]
    if not situation.limits.far_in_earnest:
        in_earnest_s = None
    if not near and not slow.is_far and in_earnest_s is not None:
        able = able if now >= slow.in_flight[number].asked_at + in_earnest_s else []
    # A late piece is no reason to ask a seed for what a peer can bring.
    peers = [p for p in near if not p.is_seed] if situation.limits.seed_once else near
    return _first(_shuffle(situation, peers or near or able, rng))


def by_spare_rate(
    states: Iterable[ParentState], rng: Random, *, told_only: bool = False
) -> list[ParentState]:
    """The parents in an order drawn by their spare rates, without putting any back.

    Weighted, not sorted, lest all children of a fast parent ask it at once. Who is not measured yet
    counts like the best, so that everybody gets a fair try. `told_only`: by their own word alone.
    """
    candidates = list(states)
    rates = [p.spare if told_only else p.rate for p in candidates]
    best = max((r for r in rates if r is not None), default=1.0)
    # Efraimidis and Spirakis: the largest u^(1/w) is a draw with probability in proportion to w.
    keys = [rng.random() ** (best / max(r or best, best * 1e-6)) for r in rates]
    order = sorted(range(len(candidates)), key=lambda i: (-keys[i], i))
    return [candidates[i] for i in order]


def _asked_first(situation: Situation, state: ParentState) -> Callable[[int], bool] | None:
    """What this parent is asked for before anything else; None: whatever it holds."""
    if not _is_saved(situation, state):
        return None
    dear_only, share = situation.parents.dear_only, situation.far_share
    if share is None or not state.is_far:
        return dear_only.__contains__
    index, count = share.index, share.count
    return lambda n: n % count == index and n in dear_only


def _is_saved(situation: Situation, state: ParentState) -> bool:
    """Whether it is a rule that its way to us be used once for each piece (3 and 4)."""
    return state.is_far or (state.is_seed and situation.limits.seed_once)


def _help_gateway(
    situation: Situation, states: list[ParentState], rng: Random, now: float
) -> Choice | None:
    """Something of the other gateways' parts, if our own is done and much of theirs is not."""
    if not _may_help(situation):
        return None
    may = situation.parents.dear_only.__contains__
    for state in states:
        choice = _ask(situation, state, rng, now, may)
        if choice is not None:
            return choice
    return None


def _may_help(situation: Situation) -> bool:
    """Whether it is time to, and enough of the others' parts is not near."""
    missing, share = situation.content.each_missing(), situation.far_share
    if share is None or not situation.may_help or len(missing) <= situation.limits.help_above:
        return False
    near_holders = situation.parents.near_holders
    theirs = sum(n % share.count != share.index and not near_holders(n) for n in missing)
    return theirs > situation.limits.help_above


def _for_reader(
    situation: Situation, free: list[ParentState], rng: Random, now: float
) -> Choice | None:
    reader = situation.reader
    if reader is None or not situation.limits.reader_order:
        return None
    number = situation.content.first_missing_from(reader.number)
    if number is None or situation.taken(number):
        return None
    able = [p for p in free if number in p.offers]
    peer = _first(_shuffle(situation, [p for p in able if not p.is_dear], rng))
    if peer is not None:
        return Choice(peer, number)
    patience_s = situation.limits.reader_patience_s if situation.parents.has_peers else 0.0
    if now - reader.since < patience_s:
        return None
    # Else all readers who wait for the latest piece of a source take it from the seed, one by one.
    is_patient = now - reader.since < situation.limits.reader_given_patience_s
    for seed in _shuffle(situation, able, rng):
        is_exclusive = is_patient and gives_once(situation, seed)
        if not (is_exclusive and seed.is_given(number, now)):
            return Choice(seed, number, is_exclusive=is_exclusive)
    return None


def _shuffle(situation: Situation, states: list[ParentState], rng: Random) -> list[ParentState]:
    return by_spare_rate(states, rng, told_only=situation.limits.weight == "told")


def _piece_first(situation: Situation, free: list[ParentState], rng: Random) -> Choice | None:
    """A piece that somebody with room holds, and one of its holders."""
    lacks, taken, parents = situation.content.lacks, situation.taken, situation.parents
    able = {n: None for p in free for n in p.offers if lacks(n) and not taken(n)}
    if not able:
        return None
    number = min(able)
    if situation.limits.order == "rarest":
        fewest = min(parents.holders(n) for n in able)
        number = rng.choice([n for n in able if parents.holders(n) == fewest])
    holder = _first(_shuffle(situation, [p for p in free if number in p.offers], rng))
    return None if holder is None else Choice(holder, number)


def _ask(
    situation: Situation,
    state: ParentState,
    rng: Random,
    now: float,
    may: Callable[[int], bool] | None = None,
) -> Choice | None:
    """The next piece to ask this parent for, and how; `may` None: any that it holds."""
    if not gives_once(situation, state):
        number = _next_of(situation, state, rng, may)
        return None if number is None else Choice(state, number)

    def may_now(number: int) -> bool:
        return (may is None or may(number)) and not state.is_given(number, now)

    number = _next_of(situation, state, rng, may_now)
    if number is None:
        return None
    patience_s = situation.limits.given_patience_s
    has_waited = not situation.flights and state.given_for_s(number, now) >= patience_s
    return Choice(state, number, is_exclusive=not has_waited)


def _next_of(
    situation: Situation, state: ParentState, rng: Random, may: Callable[[int], bool] | None
) -> int | None:
    """The piece to ask this parent for, None if it holds nothing; `may` None: any that it holds."""
    is_rarest = situation.limits.order == "rarest"
    if is_rarest and may is None:
        drawn = _drawn(situation, state, rng)
        if drawn is not None:
            return drawn
    lacks, taken = situation.content.lacks, situation.taken
    able = [n for n in state.offers if (may is None or may(n)) and lacks(n) and not taken(n)]
    if not is_rarest or not able:
        return min(able, default=None)
    holders = situation.parents.holders
    fewest = min(map(holders, able))
    return rng.choice([number for number in able if holders(number) == fewest])


def _drawn(situation: Situation, state: ParentState, rng: Random) -> int | None:
    """One of its rarest pieces, by lot; None if all that were drawn are held or on their way.

    Most of what a parent offers may be asked for, so a few draws find a piece in a sixth of the
    time that looking at each would take (256 pieces: 15 us instead of 100).
    """
    counts = situation.parents.holder_counts
    fewest = min(map(counts.__getitem__, state.offers), default=0)
    rarest = [number for number in state.offers if counts[number] == fewest]
    for _ in range(DRAWS if rarest else 0):
        number = rng.choice(rarest)
        if situation.content.lacks(number) and not situation.taken(number):
            return number
    return None


def _is_spared(situation: Situation, state: ParentState, now: float) -> bool:
    """Whether this parent is not to be asked for what others hold, too."""
    if state.is_far:
        return now - situation.dry_since < situation.limits.far_patience_s
    return bool(situation.flights) and state.is_seed and _is_scarce(state, situation.parents)


def gives_once(situation: Situation, state: ParentState) -> bool:
    """Whether it is asked exclusively."""
    spares = situation.limits.seed_once and situation.limits.exclusive and state.is_seed
    return spares and _is_narrow(state, situation.parents)


def _is_narrow(seed: ParentState, parents: Parents) -> bool:
    """What it sends twice costs others a new piece.

    It and the others are believed what they say of their uplinks; but a wide one may turn out to be
    scarce.
    """
    is_wide = is_told_wide(seed, parents)
    if is_wide is None:
        return _is_scarce(seed, parents, WIDE)
    return not is_wide or (seed.goodput is not None and _is_scarce(seed, parents))


def is_told_wide(seed: ParentState, parents: Parents) -> bool | None:
    """By its own word and that of the peers among the parents; None: not both have said."""
    told = [p.told_up for p in parents if not p.is_dear and p.told_up is not None]
    if seed.told_up is None or not told:
        return None
    return seed.told_up >= WIDE * sum(told) / len(told)


def _is_scarce(seed: ParentState, parents: Parents, factor: float = 1.0) -> bool:
    """It gives us less than `factor` times what the others do on average, or nobody can say yet."""
    rates = [p.goodput for p in parents if not p.is_dear and p.goodput is not None]
    if seed.goodput is None or not rates:
        return parents.has_peers
    return seed.goodput < factor * sum(rates) / len(rates)


def _first(states: list[ParentState]) -> ParentState | None:
    return states[0] if states else None
