"""Scheduling policies of a study: a ranker, and the numbers of the scheduler around it.

- `dragonfly`: Dragonfly's default formula among 15 candidates drawn, 3 parents, peers in a DAG, as
  its scheduler 2.5.1 does it. What ours does better apart from that (an index of useful parents
  instead of a blind sample, waking instead of polling, eviction of hosts that all but stopped) it
  has here, too: a study compares what is chosen.
- `rule`, `random`, `learned`: our rankers among all candidates our scheduler looks at.

Nothing explores unless it is told to: chance would blur a comparison. To gather telemetry, explore.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.named import RANKER_NAMES, make_ranker
from odonata.errors import CallerError
from odonata.settings.place import state_dir
from odonata.wire.message import Value
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits

if TYPE_CHECKING:
    from models.ranker import Ranker

DRAGONFLY_SAMPLE: Final = 15
DRAGONFLY_PARENTS: Final = 3

MODEL_PLACE: Final = "models/parent-ranker"
"""Under the state directory; `current` in it is what a scheduler serves with."""
SAMPLE_BUNDLE: Final = Path(__file__).parent.parent / "datasets" / "samples" / "parent-ranker"
"""The one that comes with a checkout."""
_MANIFEST: Final = "manifest.json"


class Policy(Value, frozen=True, kw_only=True):
    """Who ranks, with which model, and how often a decision explores."""

    name: str
    model: Path | None = None
    """Bundle of `learned`."""
    exploration: float = 0.0

    def ranker(self) -> Ranker:
        """A ranker of its own, for one world. BundleError if the model can not be used."""
        return make_ranker(self.name, bundle=self.model)

    def limits(self, *, records: bool) -> Limits:
        """The scheduler's numbers; `records`: somebody takes its records."""
        limits = Limits(exploration=self.exploration, records=records)
        if self.name == "dragonfly":
            return replace(
                limits,
                graph=GraphKind.DAG,
                candidate_batch_limit=DRAGONFLY_SAMPLE,
                blind_sample=True,
                candidate_parent_limit=DRAGONFLY_PARENTS,
                seed_share=0.0,
            )
        return limits


def policy_named(
    name: str,
    *,
    model: Path | None = None,
    exploration: float = 0.0,
) -> Policy:
    """The policy of that name; `model` is for `learned`, None: `find_model`.

    CallerError for another name, and for `learned` without a model.
    """
    if name not in RANKER_NAMES:
        raise CallerError(f"there is no policy {name!r}: choose one of {', '.join(RANKER_NAMES)}")
    if not 0 <= exploration <= 1:
        raise CallerError(f"exploration is {exploration}: it is a probability, from 0 to 1")
    if name != "learned":
        return Policy(name=name, exploration=exploration)
    bundle = find_model(os.environ, os.getuid()) if model is None else model
    return Policy(name=name, model=_bundle_in(bundle), exploration=exploration)


def find_model(environ: Mapping[str, str], uid: int, sample: Path = SAMPLE_BUNDLE) -> Path:
    """The bundle that is published on this machine, else the `sample` of the checkout."""
    published = state_dir(environ, uid) / MODEL_PLACE / "current"
    for bundle in (published, sample):
        if (bundle / _MANIFEST).is_file():
            return bundle
    raise CallerError(
        f"there is no model to rank with, neither at {published} nor at {sample}: train one"
        " (`odonata dataset build`, then `odonata train`) or name one with --model DIR"
    )


def _bundle_in(folder: Path) -> Path:
    """A bundle, or the place where bundles are published."""
    for bundle in (folder, folder / "current"):
        if (bundle / _MANIFEST).is_file():
            return bundle.resolve()
    raise CallerError(
        f"there is no model in {folder}: it must hold a {_MANIFEST}, as `odonata train` writes it"
    )
