"""A child says that its parents did not bring everything: it is given others.

The parents it names failed it and are never named to it again; its edges go, and it asks anew. A
child that is at the source is not rescheduled: its life cycle has no such step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.errors import PreconditionError
from scheduler.core import waiting
from scheduler.core.lifecycle import PeerState

if TYPE_CHECKING:
    from odonata.wire.message import Reschedule
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

RESCHEDULABLE = (PeerState.RECEIVED_NORMAL, PeerState.RUNNING)


def reschedule(turn: Turn, child: Peer, message: Reschedule) -> None:
    """Block the named parents, drop the edges, and ask for others."""
    if child.state not in RESCHEDULABLE:
        detail = f"a peer in state {child.state} can't be rescheduled; {child.story()}"
        turn.fail(child, PreconditionError(detail))
        return
    child.updated_at_s = turn.now
    for parent_id in message.parent_ids:
        block(turn, child, parent_id)
    turn.state.unlink_parents(child)
    waiting.ask(turn, child)


def block(turn: Turn, child: Peer, parent_id: str) -> Peer | None:
    """Never name `parent_id` to this child again; return it if it is a peer of the same task."""
    parent = child.task.peers.get(parent_id)
    if parent is not None and parent is not child:
        child.block(parent, turn.limits.blocked_parent_limit)
    return parent
