"""What /explain answers: the latest decisions about a peer or a task, found by id or its beginning.

Queries in, values for JSON out; HTTP is `status_page`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from odonata.errors import CallerError, NotFoundError
from scheduler.core.core import SchedulerCore
from scheduler.core.story import Decision
from scheduler.runtime.status import WallClock

DECISION_LIMIT: Final = 50
"""Decisions in one answer: about 0.3 MB of JSON, 10 ms of the event loop. Each has 32 candidates.
"""
ID_LENGTH_MAX: Final = 256  # longer than any id
SHOWN_MATCHES: Final = 5
"""Ids that are named when several begin alike."""

_KINDS: Final = {"peer": "peer", "task": "task", "id": "a peer or task"}


def explained(core: SchedulerCore, query: Mapping[str, str], clock: WallClock) -> dict[str, Any]:
    """The answer to `peer=`, `task=` or `id=`, an id or its beginning.

    Raises CallerError (nothing to look for, or several ids begin so) or NotFoundError.
    """
    found = core.explain(**_whose(core, *_asked(query)), latest=DECISION_LIMIT + 1)
    decisions = [_told(decision, clock) for decision in found[-DECISION_LIMIT:]]
    return {"decisions": decisions, "more": len(found) > DECISION_LIMIT}


def _asked(query: Mapping[str, str]) -> tuple[str, str]:
    """What is asked about: the kind and the id."""
    named = [(kind, id_) for kind, id_ in query.items() if kind in _KINDS]
    if len(named) != 1 or len(query) != 1 or not 0 < len(named[0][1]) <= ID_LENGTH_MAX:
        raise CallerError(
            "say which: /explain?peer=ID, /explain?task=ID, or /explain?id=ID of either"
        )
    return named[0]


def _whose(core: SchedulerCore, kind: str, id_: str) -> dict[str, str]:
    """The arguments of `core.explain` that find it."""
    children, tasks = core.named_in_story(id_)
    matches = [("child_id", one) for one in children if kind != "task"]
    matches += [("task_id", one) for one in tasks if kind != "peer"]
    exact = [match for match in matches if match[1] == id_]
    matches = exact or matches
    if not matches:
        raise NotFoundError(
            f"no decision about {_KINDS[kind]} {id_} is remembered: it never asked here, or others "
            "came since"
        )
    if len(matches) > 1 and not exact:
        shown = ", ".join(one for _, one in matches[:SHOWN_MATCHES])
        rest = f" and {len(matches) - SHOWN_MATCHES} more" if len(matches) > SHOWN_MATCHES else ""
        raise CallerError(f"{id_} is the beginning of {shown}{rest}: say more of the id")
    return dict(matches[:1])


def _told(decision: Decision, clock: WallClock) -> dict[str, Any]:
    """A decision as JSON has it; its time in seconds since 1970."""
    told: dict[str, Any] = msgspec.to_builtins(decision)
    return told | {"at_s": clock.at(decision.at_s)}
