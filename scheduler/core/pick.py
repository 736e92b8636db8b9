"""Taking the best few of a ranking, or now and then any: arrays in, rows out, nothing else.

It knows no peers, so that a decision can be made again from its record: the facts and the seed of
the draw give the same ranking, and the same ranking, the same number of places and the same
`exploration` give the same rows (`generator` says from which chances).

The order is by score; equal scores by how few children their host has, so that a swarm whose hosts
say nothing of their bandwidth spreads all the same; and what is equal even then, by a throw of the
dice. Bad candidates are left out as long as anybody else is left; when all are bad the best of them
still beats the source.

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

from dataclasses import dataclass
from enum import IntEnum
from math import exp, floor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from random import Random

    from models.facts import BoolArray, FloatArray
    from models.ranker import Ranking

REACH = 2
"""Times the places: farther behind than that nobody is taken for a guess's sake."""
POWER_LIMIT = 14.0
"""Of e, on each side of the m-th best: a millionth of a chance. Keeps the search for t short."""
SUM_ERROR = 1e-12
STEPS_MAX = 100
"""Of the search for t, by Newton's method from below; it takes about ten."""


class Chance(IntEnum):
    """What a decision draws lots for; each has a generator of its own (1 was who is looked at)."""

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
    count = len(children)
    left_out, bad_count = ranking.bad, int(np.count_nonzero(ranking.bad))
    if bad_count == count:
        left_out, bad_count = np.zeros_like(left_out), 0
    is_explored = rng.random() < exploration  # drawn always: what follows must not depend on it
    dice = [rng.random() for _ in range(count)]
    order: list[int] = np.lexsort((np.array(dice), children, -ranking.scores)).tolist()
    good = order
    if bad_count:
        bad = left_out.tolist()
        good = [row for row in order if not bad[row]]
    places = min(places, len(good))
    if len(good) == places:
        exploration, is_explored = 0.0, False
    reach = _within_reach(ranking, good, places)
    if is_explored:
        chosen = rng.sample(sorted(good), places)
    elif len(reach) > places and not ranking.by_lot:
        chosen = _draw(good, reach, places, rng)
    else:
        chosen = good[:places]
    chances = reach if len(reach) == len(good) else _beyond(ranking, children, good, reach)
    uniform = exploration * places / len(good)
    propensities = np.zeros(count)
    propensities[good] = [uniform + (1.0 - exploration) * chance for chance in chances]
    return Pick(
        rows=tuple(chosen),
        order=tuple(order),
        left_out=left_out,
        propensities=propensities,
        exploration=exploration,
        explored=is_explored,
    )


def _beyond(
    ranking: Ranking, children: FloatArray, good: list[int], reach: list[float]
) -> list[float]:
    """The chances of all: who is equal to the last one within reach has an equal part in it.

    That he stood before the border and they behind it was a throw of the dice.
    """
    count, last = len(good), len(reach) - 1
    chances = reach + [0.0] * (count - len(reach))
    scores, loads = ranking.scores, children

    def is_equal(place: int) -> bool:
        row, border = good[place], good[last]
        return bool(scores[row] == scores[border] and loads[row] == loads[border])

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
