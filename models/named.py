"""Rankers by the names they have in settings, records and on command lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, assert_never, get_args

from models.bundle import load_bundle
from models.dragonfly import DragonflyRanker
from models.guard import Clock, GuardedRanker, GuardLimits, ModelHolder, stopped_clock
from models.learned import Scorer
from models.random import RandomRanker
from models.ranker import Ranker
from models.round_robin import RoundRobinRanker
from models.rule_ranker import RuleRanker
from odonata.errors import CallerError

RankerName = Literal["dragonfly", "rule", "random", "round_robin", "learned"]
RANKER_NAMES: Final[tuple[RankerName, ...]] = get_args(RankerName)


def make_ranker(
    name: str,
    *,
    model: Scorer | None = None,
    bundle: Path | None = None,
    holder: ModelHolder | None = None,
    clock: Clock = stopped_clock,
    limits: GuardLimits | None = None,
) -> Ranker:
    """The ranker of that name, as it serves; "learned" is guarded, with the rule behind it.

    Its model comes from `holder` (which may be exchanged later), or is `model`, or is loaded from
    `bundle`; none of them: the rule ranks for "no_model". Without a `clock` nothing is too slow, as
    in simulations. Raises CallerError for another name, BundleError for a bad bundle.
    """
    known = ranker_name(name)
    match known:
        case "dragonfly":
            return DragonflyRanker()
        case "rule":
            return RuleRanker()
        case "random":
            return RandomRanker()
        case "round_robin":
            return RoundRobinRanker()
        case "learned":
            if bundle is not None:
                model = load_bundle(bundle)
            return GuardedRanker(holder or ModelHolder(model), clock, limits)
        case _:
            assert_never(known)


def ranker_name(name: str) -> RankerName:
    """Return `name` if a ranker is called so; else CallerError."""
    for known in RANKER_NAMES:
        if name == known:
            return known
    raise CallerError(f"there is no ranker {name!r}: choose one of {', '.join(RANKER_NAMES)}")
