"""The states of one download, and every legal step between them.

Theory of operation
===================

A download begins NEW. What is wanted may be on the disk already: then it is COMPLETE at once,
except that a triggered seed first tells the scheduler what it holds (REPORTING), so that a
scheduler which lost its memory learns it again.

Whoever needs the length before it may register (a seed that was triggered, or any peer under a
scheduler that must be told) asks the source first and reads nothing but the head: SIZING. The
request stays open, for it may be the one that brings the content.

REGISTERING is the wait for the scheduler's first word. It names parents (SWARMING), or sends the
download to the source (SOURCING), or says that there is nothing to fetch (COMPLETE).

SWARMING: pieces come from parents. When they can't bring what is missing, others are asked for
(RESCHEDULING); whoever is still connected goes on bringing meanwhile, and the answer leads back to
SWARMING. In both, the source may be asked as well, for as long as parents bring nothing or little
(`beside`): that is no state of its own, and the scheduler goes on to name parents.

If the scheduler is lost, the download is ALONE: it goes on with the parents it has, if any, and
looks for a scheduler (`search`): the same one after its restart, or the next on the ring. When one
is found it registers anew, is REGISTERING again, and goes on with its parents while it waits (and
with the source, if that is asked beside them); once it was answered it tells which pieces it holds.
If its parents bring nothing and its patience is at an end, it goes to the source. A download that
begins while the scheduler is away begins ALONE. A scheduler that does not want the download is not
looked for again.

SOURCING: the source brings what no parent brings. There is no way back from it, since a download
that has asked the source knows that the swarm could not help; pieces that connected parents offer
are still taken from them. If the scheduler is lost, another is looked for here as well, and told
that this download is at the source: it may be the one that all others feed on.

The scheduler may answer at any time, asked or not: it replaces a parent that fails its children,
and adds parents as peers join. What an answer does depends on where the download stands:

| state         | parents                     | source      | empty       | metadata only |
|---------------|-----------------------------|-------------|-------------|---------------|
| registering   | SWARMING                    | SOURCING    | COMPLETE    | nothing       |
| rescheduling  | SWARMING, with what is left | SOURCING    | COMPLETE    | nothing       |
| swarming      | more of them                | SOURCING    | COMPLETE    | nothing       |
| sourcing      | more of them, and stays     | nothing     | nothing     | nothing       |
| reporting     | COMPLETE                    | COMPLETE    | COMPLETE    | COMPLETE      |
| alone, ended  | nothing                     | nothing     | nothing     | nothing       |

At the source, parents help with what no request to the source covers yet, and when it fails. "More"
never means "instead": parents that are left out go on until they fail. Answers with parents are
counted, whatever became of them, because the scheduler counts them too: the count names the
decision in the records.

COMPLETE and FAILED are the end: no event has any effect there. Everything may fail, at any time.

Rule: whatever moves a download from state to state stands in TRANSITIONS. A pair that is missing is
a bug in the core, never a fault of the world, and raises IllegalStepError with the story.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from odonata.errors import InternalError


class State(StrEnum):
    """Where a download stands."""

    NEW = "new"
    REPORTING = "reporting"
    SIZING = "sizing"
    REGISTERING = "registering"
    SWARMING = "swarming"
    RESCHEDULING = "rescheduling"
    ALONE = "alone"
    SOURCING = "sourcing"
    COMPLETE = "complete"
    FAILED = "failed"


class Step(StrEnum):
    """What moves it."""

    REPORT = "report"  # all is held: tell the scheduler
    SIZE = "size"  # ask the source how much there is
    REGISTER = "register"  # ask the scheduler
    SWARM = "swarm"  # parents were named
    ASK_AGAIN = "ask_again"  # these parents do not suffice
    GO_ALONE = "go_alone"  # the scheduler is lost, and another is looked for
    GO_TO_SOURCE = "go_to_source"
    FINISH = "finish"
    GIVE_UP = "give_up"


_END: dict[Step, State] = {Step.FINISH: State.COMPLETE, Step.GIVE_UP: State.FAILED}
_SOURCE: dict[Step, State] = {Step.GO_TO_SOURCE: State.SOURCING}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.NEW: {
        Step.REPORT: State.REPORTING,
        Step.SIZE: State.SIZING,
        Step.REGISTER: State.REGISTERING,
        Step.GO_ALONE: State.ALONE,
        **_SOURCE,
        **_END,
    },
    State.REPORTING: {**_END},
    State.SIZING: {Step.REGISTER: State.REGISTERING, **_SOURCE, **_END},
    State.REGISTERING: {
        Step.SWARM: State.SWARMING,
        Step.GO_ALONE: State.ALONE,
        **_SOURCE,
        **_END,
    },
    State.SWARMING: {
        Step.SWARM: State.SWARMING,
        Step.ASK_AGAIN: State.RESCHEDULING,
        Step.GO_ALONE: State.ALONE,
        **_SOURCE,
        **_END,
    },
    State.RESCHEDULING: {
        Step.SWARM: State.SWARMING,
        Step.GO_ALONE: State.ALONE,
        **_SOURCE,
        **_END,
    },
    State.ALONE: {Step.REGISTER: State.REGISTERING, **_SOURCE, **_END},
    State.SOURCING: {**_END},
    State.COMPLETE: {},
    State.FAILED: {},
}

ENDED = frozenset({State.COMPLETE, State.FAILED})

STORY_LINES = 40
"""How much of its past a download remembers: enough to see how it got here, at most a few KiB."""


class IllegalStepError(InternalError):
    """A step that the table does not know. The message holds the story: a bug report in itself."""

    code = "illegal_step"


class Lifecycle:
    """The current state, and how it came about."""

    def __init__(self) -> None:
        self.state = State.NEW
        self._story: deque[str] = deque(maxlen=STORY_LINES)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def note(self, now: float, what: str) -> None:
        """Remember `what` happened."""
        self._story.append(f"{now:.3f} [{self.state}] {what}")

    def story(self) -> tuple[str, ...]:
        """The last events and steps, oldest first."""
        return tuple(self._story)

    def take(self, step: Step, now: float) -> None:
        """Move along `step`. Raises IllegalStepError if there is no such way from here."""
        target = TRANSITIONS[self.state].get(step)
        if target is None:
            raise self.illegal(f"step {step!r}")
        self.note(now, f"{step} -> {target}")
        self.state = target

    def illegal(self, what: str) -> IllegalStepError:
        """The error for `what` must not happen in this state."""
        story = "\n  ".join(self._story) or "(nothing happened yet)"
        return IllegalStepError(f"{what} is not allowed in state {self.state!r}. Story:\n  {story}")
