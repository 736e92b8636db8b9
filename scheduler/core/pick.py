"""Taking the best few of a ranking, or now and then any: arrays in, rows out, nothing else.

It knows no peers, so that a decision can be made again from its record: the facts and the seed of
the draw give the same ranking, and the same ranking, the same number of places and the same
`exploration` give the same rows (`generator` says from which chances).

The order is by score; equal scores by how few children their host has, so that a swarm whose hosts
say nothing of their bandwidth spreads all the same; and what is equal even then, by a throw of the
dice. Bad candidates are left out as long as anybody else is left; when all are bad the best of them
still beats the source.

Exploration: with probability `eps` the answer is a uniform sample of the good ones instead. Without
it nothing is ever learned of a candidate that the ranker undervalues. The probability that a
candidate gets one of the m places, among K good ones, is

    eps * m / K  +  (1 - eps) * share

where `share` is 1 for those among the best m, 0 for the others, and for those who are equal at the
border what places are left there over how many they are. The sum over all candidates is m.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

    from models.facts import BoolArray, FloatArray
    from models.ranker import Ranking

    Rows = NDArray[np.intp]


class Chance(IntEnum):
    """What a decision draws lots for; each has a generator of its own.

    So a record, which does not know who was left out of the sample, is enough to pick again.
    """

    SAMPLE = 1
    PICK = 2


def generator(like: Random, draw_seed: int, chance: Chance) -> Random:
    """The generator of one of a decision's chances, of the class of `like`.

    That class must heed its seed, as `random.Random` does. The ranker is given `draw_seed` itself:
    what it draws is none of these.
    """
    return type(like)(draw_seed << 2 | chance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pick:
    """Who was taken. `rows` are the chosen ones, in the order of the answer.

    `order` has all rows, the best first; `left_out` marks who was left out as bad, `propensities`
    is each one's probability to be chosen, both of shape (n,). `exploration` is the probability
    that was at work: 0 where there was nothing to choose.
    """

    rows: tuple[int, ...]
    order: tuple[int, ...]
    left_out: BoolArray
    propensities: FloatArray
    exploration: float
    explored: bool


def pick(
    ranking: Ranking, children: FloatArray, rng: Random, *, places: int, exploration: float
) -> Pick:
    """Take at most `places` of the n ranked; `children` (n,) are those of each one's host now."""
    left_out = ranking.bad if not ranking.bad.all() else np.zeros_like(ranking.bad)
    is_explored = rng.random() < exploration  # drawn always: what follows must not depend on it
    dice = np.array([rng.random() for _ in range(len(children))])
    order = np.lexsort((dice, children, -ranking.scores))
    good = order[~left_out[order]]
    places = min(places, len(good))
    if len(good) == places:
        exploration, is_explored = 0.0, False
    chosen = rng.sample(sorted(good.tolist()), places) if is_explored else good[:places].tolist()
    share = np.zeros(len(children))
    share[good] = _share_of_the_best(ranking, children, good, places)
    uniform = np.where(left_out, 0.0, places / len(good))
    return Pick(
        rows=tuple(chosen),
        order=tuple(order.tolist()),
        left_out=left_out,
        propensities=exploration * uniform + (1.0 - exploration) * share,
        exploration=exploration,
        explored=is_explored,
    )


def _share_of_the_best(
    ranking: Ranking, children: FloatArray, good: Rows, places: int
) -> FloatArray:
    """The probability of each of the `good` rows, best first, to be among the best `places`."""
    if ranking.by_lot:
        return np.full(len(good), places / len(good))
    scores, counts, last = ranking.scores[good], children[good], places - 1
    equals = (scores == scores[last]) & (counts == counts[last])
    before = int(np.argmax(equals))
    share = np.zeros(len(good))
    share[:before] = 1.0
    share[equals] = (places - before) / int(equals.sum())
    return share
