"""Taking the best few of a ranking, or now and then any: arrays in, rows out, nothing else.

It knows no peers, so that a decision can be made again from its record: the facts and the seed of
the draw give the same ranking, and the same ranking, the same number of places and the same
`exploration` give the same rows (`Lots` says from which chances).

The order is by score; equal scores by how few children their host has, so that a swarm whose hosts
say nothing of their bandwidth spreads all the same; and what is equal even then, by a throw of the
dice, one for each candidate (not thrown where all scores differ). Bad candidates are left out as
long as anybody else is left; when all are bad the best of them still beats the source.

Who is taken. Without a temperature the best m. With one, scores that differ by little are guesses,
and always taking the best would send all children there at once: of the best 2 m each is taken with
the probability

    share = 1 - exp(-t w),   w = exp((score - m-th best score) / temperature)

where t is such that these add up to m: as if each came after a time of its own, at the rate w, and
the first m were taken. The draw is systematic (their probabilities laid end to end in a random
order, and a comb with teeth 1 apart laid over them), so that the probabilities are exact.

Exploration: with probability `eps` the answer is a uniform sample of the good ones instead. Without
it nothing is ever learned of a candidate that the ranker undervalues. The probability that a
candidate gets one of the m places, among K good ones, is

    eps * m / K  +  (1 - eps) * share

where without a temperature `share` is 1 for those among the best m, and 0 for the others. Those who
are equal at a border have equal parts of what is left there. The sum over all candidates is m.
"""

from __future__ import annotations

from math import exp, floor
from typing import TYPE_CHECKING

import numpy as np

from models.facts import BoolArray, FloatArray
from odonata.wire.message import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from models.ranker import Ranking

REACH = 2
"""Times the places: farther behind than that nobody is taken for a guess's sake."""
POWER_LIMIT = 14.0
"""Of e, on each side of the m-th best: a millionth of a chance. Keeps the search for t short."""
SUM_ERROR = 1e-12
SEED_BITS = 63
"""Of a decision's seed: as many as a signed number in a table holds."""
_SEEDS = float(2**SEED_BITS)
STEPS_MAX = 100
"""Of the search for t, by Newton's method from below; it takes about ten."""


class Lots:
    """The chances of one decision, all from its seed, of `SEED_BITS`.

    Whether it explores is read off the seed itself. Everything else is drawn from a generator of
    the class of `like`, made when the first lot is drawn: seldom. (That class must heed its seed,
    as `random.Random` does.) A ranker that draws lots is given the seed itself, and its generator
    is another one.
    """

    __slots__ = ("_like", "_rng", "_seed")

    def __init__(self, like: Random, seed: int) -> None:
        self._like = type(like)
        self._seed = seed
        self._rng: Random | None = None

    def explores(self, exploration: float) -> bool:
        """With this probability."""
        return self._seed < exploration * _SEEDS

    @property
    def rng(self) -> Random:
        """The generator, always the same one."""
        if self._rng is None:
            self._rng = self._like(self._seed << 1 | 1)
        return self._rng


class Pick(Value, frozen=True, kw_only=True, eq=False):
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
    ranking: Ranking, children: Sequence[float], lots: Lots, *, places: int, exploration: float
) -> Pick:
    """Take at most `places` of the n ranked; `children` are those of each one's host now."""
    count = len(children)
    left_out, bad = ranking.bad, ranking.bad.tolist()
    if True in bad and False not in bad:
        left_out, bad = np.zeros_like(left_out), [False] * count
    scores: list[float] = ranking.scores.tolist()
    order = _in_order(scores, children, lots)
    good = [row for row in order if not bad[row]] if True in bad else order
    places = min(places, len(good))
    is_explored = lots.explores(exploration)
    if len(good) == places:
        exploration, is_explored = 0.0, False
    reach = _within_reach(ranking, good, places)
    if is_explored:
        chosen = lots.rng.sample(sorted(good), places)
    elif len(reach) > places and not ranking.by_lot:
        chosen = _draw(good, reach, places, lots.rng)
    else:
        chosen = good[:places]
    chances = reach if len(reach) == len(good) else _beyond(scores, children, good, reach)
    uniform = exploration * places / len(good)
    propensities = [0.0] * count
    for row, chance in zip(good, chances, strict=True):
        propensities[row] = uniform + (1.0 - exploration) * chance
    return Pick(
        rows=tuple(chosen),
        order=tuple(order),
        left_out=left_out,
        propensities=np.array(propensities),
        exploration=exploration,
        explored=is_explored,
    )


def _in_order(scores: list[float], children: Sequence[float], lots: Lots) -> list[int]:
    """All rows, the best first."""
    if len(set(scores)) == len(scores):
        return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    rng = lots.rng
    keys = [(-score, load, rng.random()) for score, load in zip(scores, children, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _beyond(
    scores: list[float], children: Sequence[float], good: list[int], reach: list[float]
) -> list[float]:
    """The chances of all: who is equal to the last one within reach has an equal part in it.

    That he stood before the border and they behind it was a throw of the dice.
    """
    count, last = len(good), len(reach) - 1
    chances = reach + [0.0] * (count - len(reach))
    score, load = scores[good[last]], children[good[last]]

    def is_equal(place: int) -> bool:
        return scores[good[place]] == score and children[good[place]] == load

    first = end = last
    while end + 1 < count and is_equal(end + 1):
        end += 1
    while end > last and first > 0 and is_equal(first - 1):
        first -= 1
    equal = end + 1 - first
    chances[first : end + 1] = [sum(chances[first : end + 1]) / equal] * equal
    return chances


def _within_reach(ranking: Ranking, good: list[int], places: int) -> list[float]:
    """The `share` of the first rows of the `good` ones, as many as may be taken at all."""
    if len(good) == places:
        return [1.0] * places
    if ranking.by_lot:
        return [places / len(good)] * len(good)
    if not ranking.temperature > 0:
        return [1.0] * places
    scores: list[float] = ranking.scores[good[: REACH * places]].tolist()
    last, heat = scores[places - 1], ranking.temperature
    powers = [min(max((score - last) / heat, -POWER_LIMIT), POWER_LIMIT) for score in scores]
    weights = [exp(power) for power in powers]
    t = places / sum(weights)  # too small: nobody's probability is more than t w
    for _ in range(STEPS_MAX):
        rests = [exp(-t * weight) for weight in weights]
        missing = places - (len(rests) - sum(rests))
        if missing < SUM_ERROR:
            break
        t += missing / sum(weight * rest for weight, rest in zip(weights, rests, strict=True))
    return [1.0 - exp(-t * weight) for weight in weights]


def _draw(rows: list[int], chances: list[float], places: int, rng: Random) -> list[int]:
    """Take `places` of the first rows, each with its chance, and leave them in their order."""
    offset = rng.random()
    lots = [rng.random() for _ in chances]
    numbers = sorted(range(len(chances)), key=lots.__getitem__)
    taken: list[int] = []
    end, teeth = 0.0, 0
    for number in numbers:
        end += chances[number]
        below = floor(end - offset) + 1  # teeth at offset, offset + 1, ...
        if below > teeth:
            taken.append(number)
            teeth = below
    if len(taken) < places:  # a tooth stood where a rounding error keeps the sum from reaching
        taken.append(next(number for number in reversed(numbers) if number not in taken))
    return [rows[number] for number in sorted(taken)]
