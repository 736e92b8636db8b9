"""A naive second opinion on a scheduler: what follows from its conversations, worked out slowly.

The ledger hears every event and every effect, in their order, and keeps by itself who was given
whom as a parent, who is on the way to the source, whom each child has blamed, and which seeds were
triggered. It never looks into the core's state. What no conversation tells, because it is the
scheduler's own choice (whom it forgot, whom it evicted, how far a peer's life has got), it asks for
as anybody may: StatPeer and ListHosts. All is computed anew each time, by loops over all peers.

After each event it must agree with what the scheduler says of its edges, its counters and its
waiting children, and must find every single answer allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from odonata.errors import NotFoundError
from odonata.wire.message import (
    ByteRange,
    Download,
    Host,
    NeedBackToSource,
    NormalTask,
    PieceBackToSourceFailed,
    PieceFailed,
    Register,
    Reschedule,
)
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import Answer, CloseStream, SchedulerEffect, TriggerSeed
from scheduler.core.event import (
    HostAnnounced,
    PeerSpoke,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
)
from scheduler.core.limits import Limits
from scheduler.core.query import HostStatus, PeerStatus
from scheduler.core.standing import HostState

NOBODY_HELPS = "no parent and no seed can help"
"""Why a child is sent to the source if nobody else is to bring the bytes."""


@dataclass
class Entry:
    """One peer, as its conversation tells it. `told_source_s`, `told_parents_s`: when, if so."""

    host_id: str
    task_id: str
    download: Download
    is_ours: bool
    life: int
    is_open: bool = True
    is_refused: bool = False  # by the source
    state: str = "Pending"
    is_waiting: bool = False
    told_source_s: float | None = None
    told_parents_s: float | None = None
    blamed: dict[str, int] = field(default_factory=dict[str, int])  # peer id -> its life
    parents: dict[str, int] = field(default_factory=dict[str, int])  # peer id -> pieces booked

    @property
    def range(self) -> ByteRange | None:
        return None if self.download.metadata_only else self.download.range


class Ledger:
    """Call `hear` with each event and its effects; it asserts that they make sense."""

    def __init__(self, core: SchedulerCore, limits: Limits) -> None:
        self._core = core
        self._limits = limits
        self._lives = 0
        self._hosts: dict[str, Host] = {}
        self._standing: dict[str, HostState] = {}
        self._failures: dict[str, int] = {}
        self.peers: dict[str, Entry] = {}
        self._triggered: dict[str, str] = {}  # task id -> host id of its seed
        self._arrived: set[str] = set()  # tasks whose seed has come

    def hear(self, event: SchedulerEvent, effects: list[SchedulerEffect], now: float) -> None:
        """Take an event in, judge its effects, and compare."""
        statuses = {status.host.id: status for status in self._core.list_hosts()}
        self._take_event(event)
        self._take_evictions(statuses)
        self._take_states()
        for effect in effects:
            self._take_effect(effect, now)
        self._compare(statuses)
        self._check_acyclic()
        self._check_waiters(now)

    # --- events ---------------------------------------------------------------------------------

    def _take_event(self, event: SchedulerEvent) -> None:
        match event:
            case HostAnnounced(host=host):
                self._hosts[host.id] = host
            case PeerSpoke():
                self._take_words(event)
            case StreamClosed(peer_id=peer_id):
                if peer_id in self.peers:
                    self.peers[peer_id].is_open = False
            case SeedFinished() | SeedFailed():
                if self._triggered.get(event.task_id) == event.host_id:
                    self._land(event.task_id)
            case _:
                pass

    def _take_words(self, event: PeerSpoke) -> None:
        entry = self.peers.get(event.peer_id)
        match event.message:
            case Register(download=download):
                self._register(event, download)
            case Reschedule(parent_ids=parent_ids) if entry is not None and entry.is_open:
                if entry.state in ("ReceivedNormal", "Running"):
                    entry.parents.clear()
                    entry.told_source_s = entry.told_parents_s = None  # it asks for others
                    self._blame(event.peer_id, entry, *parent_ids)
            case PieceFailed(parent_id=parent_id, temporary=True) if entry and entry.is_open:
                self._blame(event.peer_id, entry, parent_id)
                parent = self._of_task(entry, parent_id)
                if parent is not None and parent is not entry:
                    count = self._failures.get(parent.host_id, 0)
                    self._failures[parent.host_id] = count + 1
                    if entry.is_ours:
                        entry.parents.pop(parent_id, None)
            case PieceBackToSourceFailed(answer=answer) if entry is not None and entry.is_open:
                if answer is not None:
                    entry.is_refused = True
                    entry.told_source_s = None
            case _:
                pass

    def _register(self, event: PeerSpoke, download: Download) -> None:
        """A new life, also of a peer that was there before; strangers' hosts are turned away."""
        if event.host_id not in self._hosts:
            return
        self._drop_all(event.peer_id)
        self._lives += 1
        self.peers[event.peer_id] = Entry(
            event.host_id, event.task_id, download, event.is_ours, self._lives
        )
        is_sent = download.need_back_to_source or download.metadata_only
        if is_sent and self._triggered.get(event.task_id) == event.host_id:
            self._arrived.add(event.task_id)

    def _of_task(self, entry: Entry, peer_id: str) -> Entry | None:
        other = self.peers.get(peer_id)
        return other if other is not None and other.task_id == entry.task_id else None

    def _blame(self, peer_id: str, entry: Entry, *parent_ids: str) -> None:
        for parent_id in parent_ids:
            parent = self._of_task(entry, parent_id)
            if parent is not None and parent_id != peer_id:
                entry.blamed[parent_id] = parent.life

    # --- what the scheduler decided by itself ---------------------------------------------------

    def _take_evictions(self, statuses: dict[str, HostStatus]) -> None:
        """Whoever is newly evicted lost its children; who is gone is forgotten with its count."""
        for host_id, status in statuses.items():
            is_news = self._standing.get(host_id) != HostState.EVICTED
            if status.standing is HostState.EVICTED and is_news:
                for entry in self.peers.values():
                    for parent_id in list(entry.parents):
                        if self.peers[parent_id].host_id == host_id:
                            del entry.parents[parent_id]
        self._standing = {host_id: one.standing for host_id, one in statuses.items()}
        for host_id in self._hosts.keys() - statuses.keys():
            del self._hosts[host_id]
            self._failures.pop(host_id, None)
            for task_id in [t for t, h in self._triggered.items() if h == host_id]:
                self._land(task_id)

    def _take_states(self) -> None:
        """How far everybody's life has got, and what that does to edges."""
        for peer_id, entry in list(self.peers.items()):
            status = self._status(peer_id)
            has_failed = status is not None and status.state == "Failed"
            is_lost = status is None and entry.state != "Succeeded"
            if (has_failed or is_lost) and entry.state not in ("Failed", "Leave"):
                self._miss_seed(entry)
            if status is None:
                self._drop_all(peer_id)
                del self.peers[peer_id]
                continue
            entry.state, entry.is_waiting = status.state, status.is_waiting
            if entry.state in ("BackToSource", "Succeeded", "Failed", "Leave"):
                entry.parents.clear()
                entry.told_source_s = entry.told_parents_s = None
            if entry.state in ("Failed", "Leave"):
                self._drop_children(peer_id)
            if entry.state == "Running":
                entry.told_parents_s = None
            if entry.is_waiting:
                entry.told_source_s = entry.told_parents_s = None

    def _miss_seed(self, entry: Entry) -> None:
        """A peer failed: if it was the triggered seed's, the trigger has come to nothing."""
        is_seed = self._triggered.get(entry.task_id) == entry.host_id
        if is_seed and entry.task_id in self._arrived:
            self._land(entry.task_id)

    def _land(self, task_id: str) -> None:
        del self._triggered[task_id]
        self._arrived.discard(task_id)

    def _status(self, peer_id: str) -> PeerStatus | None:
        try:
            return self._core.stat_peer(peer_id)
        except NotFoundError:
            return None

    def _drop_all(self, peer_id: str) -> None:
        if peer_id in self.peers:
            self.peers[peer_id].parents.clear()
        self._drop_children(peer_id)

    def _drop_children(self, peer_id: str) -> None:
        for entry in self.peers.values():
            entry.parents.pop(peer_id, None)

    # --- effects --------------------------------------------------------------------------------

    def _take_effect(self, effect: SchedulerEffect, now: float) -> None:
        match effect:
            case Answer(peer_id=peer_id, answer=NormalTask() as answer):
                for parent in answer.parents:
                    self._check_parent(peer_id, parent.peer_id)
                entry = self.peers[peer_id]
                booked = entry.download.concurrent_piece_count
                pieces = booked or self._limits.default_concurrent_piece_count
                if entry.state == "ReceivedNormal" and not entry.parents:
                    entry.told_parents_s = now  # else it was given some more
                entry.parents.update((parent.peer_id, pieces) for parent in answer.parents)
            case Answer(peer_id=peer_id, answer=NeedBackToSource() as answer):
                self._check_source(peer_id, answer.description, now)
                self.peers[peer_id].told_source_s = now
            case TriggerSeed(task_id=task_id, host=seed):
                assert task_id not in self._triggered, f"task {task_id} has two seeds under way"
                self._triggered[task_id] = seed.id
            case CloseStream(peer_id=peer_id):
                if peer_id in self.peers:
                    self.peers[peer_id].is_open = False
            case _:
                pass

    def _check_parent(self, child_id: str, parent_id: str) -> None:
        """It may be one: useful, suited, new to the child, and not below it."""
        assert self.is_useful(parent_id), f"{child_id} was given {parent_id}, who is useless"
        assert self.suits(child_id, parent_id), f"{child_id} was given {parent_id}"
        assert parent_id not in self.peers[child_id].parents, f"{child_id} has {parent_id} already"
        assert parent_id not in self.below(child_id), f"{child_id} is above {parent_id}"

    def _check_source(self, child_id: str, why: str, now: float) -> None:
        """There is room at the source, and nobody else is about to bring the bytes."""
        child = self.peers[child_id]
        if not self._hosts[child.host_id].is_seed:
            others = [p for p in self._at_source(child.task_id, now) if p != child_id]
            assert len(others) < self._limits.back_to_source_limit, f"{others} are at the source"
        if why == NOBODY_HELPS:
            hopes = [p for p in self._on_way(child.task_id, now) if self.suits(child_id, p)]
            hopes = [p for p in hopes if p not in self.below(child_id) and self._is_good(p)]
            # Who was given parents and lost them all again is on its way to nothing.
            hopes = [
                p
                for p in hopes
                if self.peers[p].told_source_s is not None
                or (self.peers[p].parents and not self._is_search_cut(child_id))
            ]
            assert not hopes, f"{child_id} was sent to the source, though {hopes} are on their way"

    # --- the rules, said anew -------------------------------------------------------------------

    def is_useful(self, peer_id: str) -> bool:
        """Somebody could get bytes from it now."""
        entry = self.peers[peer_id]
        host = self._hosts[entry.host_id]
        if host.disable_shared or not self._is_host_known(entry):
            return False
        match entry.state:
            case "Succeeded":
                return True
            case "BackToSource":
                return not entry.is_refused
            case "Running":
                return bool(entry.parents) or (host.is_seed and not entry.is_waiting)
            case _:
                return False

    def suits(self, child_id: str, parent_id: str) -> bool:
        """It could serve this child, if it were useful. Standing is not looked at."""
        child, parent = self.peers[child_id], self.peers[parent_id]
        if child.task_id != parent.task_id or child.host_id == parent.host_id:
            return False
        if self._hosts[parent.host_id].disable_shared:
            return False
        if child.blamed.get(parent_id) == parent.life:
            return False
        if parent.range is None:
            return True
        wanted = child.range
        if wanted is None or not parent.range.length or not wanted.length:
            return False
        ends = (wanted.start + wanted.length, parent.range.start + parent.range.length)
        return parent.range.start <= wanted.start and ends[0] <= ends[1]

    def below(self, peer_id: str) -> set[str]:
        """The peer, its children, their children, ..."""
        found = {peer_id}
        while True:
            more = {p for p, entry in self.peers.items() if found & entry.parents.keys()} - found
            if not more:
                return found
            found |= more

    def _is_good(self, peer_id: str) -> bool:
        return self._standing[self.peers[peer_id].host_id] is HostState.GOOD

    def _is_host_known(self, entry: Entry) -> bool:
        return entry.host_id in self._hosts

    def _on_way(self, task_id: str, now: float) -> list[str]:
        """Who was told to go to the source, or given parents, and may yet say that it began."""
        return [
            peer_id
            for peer_id, entry in self.peers.items()
            if entry.task_id == task_id
            and (
                _is_young(entry.told_source_s, now, self._limits.source_start_timeout_s)
                or _is_young(entry.told_parents_s, now, self._limits.start_timeout_s)
            )
        ]

    def _at_source(self, task_id: str, now: float) -> list[str]:
        timeout_s = self._limits.source_start_timeout_s
        return [
            peer_id
            for peer_id, entry in self.peers.items()
            if entry.task_id == task_id
            and (entry.state == "BackToSource" or _is_young(entry.told_source_s, now, timeout_s))
        ]

    # --- comparisons ----------------------------------------------------------------------------

    def _compare(self, statuses: dict[str, HostStatus]) -> None:
        """Edges and counters are those of the conversations."""
        for peer_id, entry in self.peers.items():
            said = self._core.stat_peer(peer_id).parent_ids
            assert set(said) == entry.parents.keys(), f"parents of {peer_id}"
            assert entry.parents.keys() <= self.peers.keys(), f"{peer_id} has an orphan edge"
        for host_id, status in statuses.items():
            edges = [
                pieces
                for entry in self.peers.values()
                for parent_id, pieces in entry.parents.items()
                if self.peers[parent_id].host_id == host_id
            ]
            assert status.concurrent_upload_count == len(edges), f"children of {host_id}"
            assert status.concurrent_upload_piece_count == sum(edges), f"pieces of {host_id}"
            assert status.upload_failed_count == self._failures.get(host_id, 0), host_id
            peers = [one for one in self.peers.values() if one.host_id == host_id]
            assert status.peer_count == len(peers), f"peers of {host_id}"
        for task_id in {entry.task_id for entry in self.peers.values()}:
            members = [p for p, entry in self.peers.items() if entry.task_id == task_id]
            task = self._core.stat_task(task_id)
            assert task.peer_count == len(members), f"peers of {task_id}"
            assert task.has_available_peer == any(map(self.is_useful, members)), task_id

    def _check_acyclic(self) -> None:
        for peer_id, entry in self.peers.items():
            for parent_id in entry.parents:
                assert parent_id not in self.below(peer_id), f"{peer_id} is its own ancestor"

    def _check_waiters(self, now: float) -> None:
        """Who waits has no parent to be had, a hope, and an alarm that bounds it."""
        alarm_s = self._core.wake_at_s
        longest_s = max(self._limits.seed_start_timeout_s, self._limits.source_start_timeout_s)
        for peer_id, entry in self.peers.items():
            if not entry.is_waiting:
                continue
            assert not entry.parents, f"{peer_id} waits, and has parents"
            assert alarm_s is not None, f"{peer_id} waits without an alarm"
            assert alarm_s <= now + longest_s, f"{peer_id} waits until {alarm_s}"
            if alarm_s > now:  # else the alarm is about to ring, and all is decided anew
                self._check_waiter(peer_id, entry, now)

    def _check_waiter(self, peer_id: str, entry: Entry, now: float) -> None:
        hopes = [p for p in self._on_way(entry.task_id, now) if self.suits(peer_id, p)]
        evicted = HostState.EVICTED
        hopes = [p for p in hopes if self._standing[self.peers[p].host_id] is not evicted]
        seed = self._triggered.get(entry.task_id)
        is_hopeful = bool(hopes) or (seed is not None and seed != entry.host_id)
        assert is_hopeful, f"{peer_id} waits for nobody"
        if entry.state == "ReceivedNormal" and hopes:
            return  # a newcomer may be held until those before it have started
        able = [p for p in self.peers if self._could_serve(peer_id, p)]
        assert not able, f"{peer_id} waits while {able} could serve it"

    def _could_serve(self, child_id: str, parent_id: str) -> bool:
        """It must have been offered, whatever the ranker thinks of it."""
        if not self.is_useful(parent_id) or not self.suits(child_id, parent_id):
            return False
        if not self._is_good(parent_id):
            return False
        if self._is_search_cut(child_id) and self.peers[parent_id].parents:
            return False
        return parent_id not in self.below(child_id)

    def _is_search_cut(self, child_id: str) -> bool:
        """So many are below the child that whoever has parents counts as one of them."""
        return len(self.below(child_id)) > self._limits.descendant_search_limit


def _is_young(told_s: float | None, now: float, timeout_s: float) -> bool:
    return told_s is not None and now < told_s + timeout_s
