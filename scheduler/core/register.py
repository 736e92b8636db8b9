"""A peer says hello: what it is, what it wants, and which of the four answers it is due.

Some answers need nobody else: an empty task, a peer that holds everything already ("metadata
only"), a peer that asks for the source itself. Everybody else asks for parents (`waiting.ask`),
once the priority of the download has been looked at: its own, or that of its application
(`application`); it matters only when the task has no source of bytes yet. What the operator has
forbidden is turned away first (`block_list`). There is no artificial delay.

Except for peers that had a scheduler and lost it. The first of them find nobody here, though among
the next may be the seed that serves them all; who was sent to the source then would fetch a second
copy. So for `learning_s` they wait for each other. If hosts return to a scheduler that has only
just begun, it had died, and for as long whoever asks for something new waits as well: the seeds and
the holders are not back yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from odonata.errors import NotFoundError, OdonataError, PreconditionError
from odonata.piece import piece_count
from odonata.wire.message import Download, EmptyTask, MetadataOnly, TaskType
from scheduler.core import seed, seed_team, waiting
from scheduler.core.account import Account
from scheduler.core.decision import tell
from scheduler.core.effect import CloseStream
from scheduler.core.lifecycle import PeerTrigger, TaskState, TaskTrigger
from scheduler.core.story import Outcome

if TYPE_CHECKING:
    from odonata.wire.message import HeldTask, Register
    from scheduler.core.event import PeerSpoke, TasksHeld
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.task import Task
    from scheduler.core.turn import Turn

FORBIDDEN_PRIORITY = 1
"""Such a download may not start what nobody has yet."""
P2P_ONLY_PRIORITY = 2
"""Such a download is served by peers or not at all."""


def register(turn: Turn, event: PeerSpoke, message: Register) -> None:
    """Add the peer and answer it, or close its stream with the reason why not.

    A peer that registers again begins a new life: its stream broke, and this is another one.
    """
    host = turn.state.hosts.get(event.host_id)
    if host is None:
        detail = f"host {event.host_id} not found: announce it before registering its peers"
        _turn_away(turn, event, NotFoundError(detail))
        return
    cluster = turn.state.cluster
    download = message.download
    priority = cluster.priorities.of(download)
    if priority != download.priority:
        download = replace(download, priority=priority)
    refusal = _why_not(turn, event, message) or cluster.refusal(download, host.announced)
    if refusal is not None:
        _turn_away(turn, event, refusal)
        return
    earlier = turn.state.peers.get(event.peer_id)
    if earlier is not None:
        turn.state.remove_peer(earlier, turn.now)
    task = turn.state.open_task(event.task_id, download, turn.now)
    peer = turn.state.add_peer(event.peer_id, task, host, download, turn.now, is_ours=event.is_ours)
    peer.resumes = event.resumes
    peer.digests_told = 0 if event.checks_pieces else None
    peer.shares_far = event.shares_far
    if turn.limits.records and not (event.writes_pieces or download.metadata_only):
        peer.account = Account()
    host.updated_at_s = turn.now
    _answer(turn, peer)


def hold(turn: Turn, event: TasksHeld) -> None:
    """A host tells what it holds whole: each task as if a peer had registered it, and ended.

    Who is known already stays as it is.
    """
    host = turn.state.hosts.get(event.host_id)
    if host is None:
        detail = f"host {event.host_id} not found: announce it before telling what it holds"
        turn.refuse(NotFoundError(detail))
        return
    host.updated_at_s = turn.now
    for held in event.held:
        if held.peer_id not in turn.state.peers:
            _add_holder(turn, host, held)


def _add_holder(turn: Turn, host: KnownHost, held: HeldTask) -> None:
    state, length = turn.state, held.content_length
    download = Download(
        url=held.url,
        metadata_only=True,
        actual_content_length=length,
        actual_piece_length=held.piece_length or None,
        actual_piece_count=piece_count(length, held.piece_length) if length else 0,
    )
    task = state.open_task(held.task_id, download, turn.now)
    peer = state.add_peer(held.peer_id, task, host, download, turn.now, is_ours=True)
    peer.stream_is_open = False
    state.move_peer(peer, PeerTrigger.REGISTER_NORMAL, turn.now)
    start_task(turn, task)
    seed.arrived(task, host)
    _end_holder(turn, peer)


def start_task(turn: Turn, task: Task) -> None:
    """Move the task to Running, unless it is there or has a whole copy already."""
    if task.state not in (TaskState.RUNNING, TaskState.SUCCEEDED):
        task.move(TaskTrigger.DOWNLOAD, turn.now)


def _why_not(turn: Turn, event: PeerSpoke, message: Register) -> OdonataError | None:
    if message.download.type is not TaskType.STANDARD:
        return PreconditionError(
            f"download.type is {message.download.type.name}: this scheduler serves STANDARD tasks"
        )
    earlier = turn.state.peers.get(event.peer_id)
    if earlier is None or _is_of(earlier, event):
        return None
    return PreconditionError(
        f"peer {event.peer_id} is taken by task {earlier.task.id} on host {earlier.host.id}:"
        " register another download under a new peer id"
    )


def _turn_away(turn: Turn, event: PeerSpoke, error: OdonataError) -> None:
    """Close the stream of somebody who was not let in.

    A stranger who uses a peer's id is refused without a word to that peer.
    """
    peer = turn.state.peers.get(event.peer_id)
    if peer is None:
        turn.effects.append(CloseStream(peer_id=event.peer_id, error=error))
    elif _is_of(peer, event):
        peer.stream_is_open = True  # whatever became of an earlier one: it speaks
        turn.fail(peer, error)
    else:
        turn.refuse(error)


def _is_of(peer: Peer, event: PeerSpoke) -> bool:
    return (peer.task.id, peer.host.id) == (event.task_id, event.host_id)


def _answer(turn: Turn, peer: Peer) -> None:
    download = peer.download
    if download.metadata_only:
        _take_holder(turn, peer)
    elif peer.task.content_length == 0:
        turn.state.move_peer(peer, PeerTrigger.REGISTER_EMPTY, turn.now)
        start_task(turn, peer.task)
        turn.answer(peer, EmptyTask())
    elif download.need_back_to_source:
        _obey(turn, peer)
    else:
        _admit(turn, peer)


def _take_holder(turn: Turn, peer: Peer) -> None:
    """The peer holds the whole content: it is a parent from now on."""
    state, task = turn.state, peer.task
    state.move_peer(peer, PeerTrigger.REGISTER_NORMAL, turn.now)
    start_task(turn, task)
    seed.arrived(task, peer.host)
    turn.answer(peer, MetadataOnly())
    _end_holder(turn, peer)


def _end_holder(turn: Turn, peer: Peer) -> None:
    turn.state.move_peer(peer, PeerTrigger.DOWNLOAD_SUCCEEDED, turn.now)
    if peer.task.state is not TaskState.SUCCEEDED:
        peer.task.move(TaskTrigger.DOWNLOAD_SUCCEEDED, turn.now)


def _obey(turn: Turn, peer: Peer) -> None:
    """The peer asks for the source itself, as a triggered seed does."""
    turn.state.move_peer(peer, PeerTrigger.REGISTER_NORMAL, turn.now)
    start_task(turn, peer.task)
    seed.arrived(peer.task, peer.host)
    if waiting.source_is_full(turn, peer):
        limit = turn.limits.back_to_source_limit
        detail = f"task {peer.task.id} has {limit} peers at its source, which is all it may have"
        turn.fail(peer, PreconditionError(detail))
        return
    waiting.send_to_source(turn, peer, "the peer asked for the source")
    seed_team.call_others(turn, peer)
    turn.state.disturb(peer.task)


def _admit(turn: Turn, peer: Peer) -> None:
    turn.state.move_peer(peer, PeerTrigger.REGISTER_NORMAL, turn.now)
    waiting.expire(turn, peer.task)
    _learn_from_the_others(turn, peer)
    refusal = _priority_refusal(peer)
    if refusal is not None:
        tell(turn, peer, Outcome.REFUSED, refusal.detail, None)
        turn.fail(peer, refusal)
        return
    start_task(turn, peer.task)
    waiting.ask(turn, peer)


def _learn_from_the_others(turn: Turn, peer: Peer) -> None:
    if peer.task.useful:
        return
    if peer.resumes:
        peer.task.begin_learning(turn.now + turn.limits.learning_s)
    elif turn.now < turn.state.restarting_until_s:
        peer.task.begin_learning(turn.state.restarting_until_s)


def _priority_refusal(peer: Peer) -> OdonataError | None:
    priority = peer.download.priority
    if priority not in (FORBIDDEN_PRIORITY, P2P_ONLY_PRIORITY) or peer.host.is_seed:
        return None
    if waiting.has_source(peer):
        return None
    if priority == FORBIDDEN_PRIORITY:
        return PreconditionError(f"peer {peer.id} is forbidden to start a task (priority 1)")
    return NotFoundError(
        f"peer {peer.id} found no candidate peers, and may use no other (priority 2)"
    )
