"""A naive second opinion on a scheduler: what follows from its conversations, worked out slowly.

The ledger hears every event and every effect, in their order, and keeps by itself who was given
whom as a parent, who is on the way to the source, whom each child has blamed, who crosses between
data centres, and which seeds were triggered. It never looks into the core's state. What no
conversation tells, because it is the scheduler's own choice (whom it forgot, whom it evicted, which
accusation it believed, how far a peer's life has got), it asks for as anybody may: StatPeer,
StatTask and ListHosts. Who is out of contact (`ledger_contact`) and which tasks wait for those who
come from another scheduler (`ledger_learning`) it knows from the events. All is computed anew each
time, by loops over all peers; above all, by whom bytes can reach a peer.

After each event it must agree with what the scheduler says of its edges, its counters and its
waiting children, and must find every single answer allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from support.ledger_contact import Contacts
from support.ledger_learning import Learning

from odonata.errors import NotFoundError
from odonata.wire.message import (
    ByteRange,
    Download,
    Host,
    NeedBackToSource,
    NormalTask,
    Parent,
    PieceBackToSourceFailed,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
)
from scheduler.core.cluster import ClusterConfig
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import Answer, CloseStream, ProbeHost, SchedulerEffect, TriggerSeed
from scheduler.core.event import (
    ClusterConfigured,
    HostAnnounced,
    PeerSpoke,
    PiecesFinished,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
    TasksHeld,
)
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits
from scheduler.core.query import HostStatus, PeerStatus
from scheduler.core.standing import HostState

NOBODY_HELPS = "no parent and no seed can help"
"""Why a child is sent to the source if nobody else is to bring the bytes."""


@dataclass
class Entry:
    """One peer, as its conversation tells it.

    `told_source_s`, `told_parents_s`: when, if so; `told_again_s`: when it got parents last.
    """

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
    told_again_s: float | None = None
    blamed: dict[str, int] = field(default_factory=dict[str, int])  # peer id -> its life
    parents: dict[str, int] = field(default_factory=dict[str, int])  # peer id -> pieces booked

    @property
    def range(self) -> ByteRange | None:
        return None if self.download.metadata_only else self.download.range


@dataclass
class Flight:
    """A seed that was triggered at `at_s`; `number`: which one of several, if so."""

    at_s: float
    number: int | None
    has_arrived: bool = False


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
        self._flights: dict[tuple[str, str], Flight] = {}  # by task id and host id of the seed
        self._liars: set[tuple[str, str]] = set()  # task id, host id
        self._suspects: set[tuple[str, str]] = set()  # they may be liars
        self._convicts: set[str] = set()  # host ids
        self._config = ClusterConfig()
        self._contacts = Contacts()
        self._learning = Learning(limits)
        self._new_waiters: set[str] = set()  # with this event

    def hear(self, event: SchedulerEvent, effects: list[SchedulerEffect], now: float) -> None:
        """Take an event in, judge its effects, and compare."""
        statuses = {status.host.id: status for status in self._core.list_hosts()}
        self._take_contact(event, statuses, now)
        self._learning.hear(event, now)
        self._take_event(event, now)
        self._take_evictions(statuses)
        self._take_ban(event, effects)
        self._take_states()
        self._forget_tasks()
        self._check_blocked(event, effects)
        for effect in effects:
            if isinstance(effect, ProbeHost):
                self._check_probe(event, effect.host.id, now)
            self._take_effect(effect, now)
        self._compare(statuses)
        self._check_order()
        self._check_waiters(now)

    # --- events ---------------------------------------------------------------------------------

    def _take_contact(
        self, event: SchedulerEvent, statuses: dict[str, HostStatus], now: float
    ) -> None:
        """A seed that is lost is on the way no more; children are told a moment later."""
        lost, orphaned = self._contacts.hear(event, self._heard(event), statuses, now)
        for key in [key for key in self._flights if key[1] in lost]:
            if self._hosts[key[1]].is_seed:
                del self._flights[key]
        for entry in self.peers.values():
            for parent_id in list(entry.parents):
                if self.peers[parent_id].host_id in orphaned:
                    del entry.parents[parent_id]

    def _heard(self, event: SchedulerEvent) -> list[str]:
        """The hosts that must be there: of who speaks, and of who gave it a piece."""
        if not isinstance(event, PeerSpoke | PiecesFinished):
            return []
        messages = (event.message,) if isinstance(event, PeerSpoke) else event.messages
        entry = self.peers.get(event.peer_id)
        if entry is None or any(isinstance(one, Register) for one in messages):
            return []
        named = [one.piece.parent_id for one in messages if isinstance(one, PieceFinished)]
        parents = [self._of_task(entry, peer_id) for peer_id in named if entry.is_open]
        return [entry.host_id, *(parent.host_id for parent in parents if parent is not None)]

    def _check_probe(self, event: SchedulerEvent, host_id: str, now: float) -> None:
        assert isinstance(event, PeerSpoke), f"{host_id} is probed, and nobody has said a word"
        assert isinstance(event.message, PieceFailed), f"{host_id} is probed, and failed at nothing"
        parent = self.peers[event.message.parent_id]
        assert parent.host_id == host_id, f"{host_id} is probed in the place of {parent.host_id}"
        self._contacts.check_probe(host_id, event.host_id, now)

    def _take_event(self, event: SchedulerEvent, now: float) -> None:
        match event:
            case HostAnnounced(host=host):
                self._hosts[host.id] = host
            case PeerSpoke():
                self._take_words(event, now)
            case TasksHeld(host_id=host_id) if host_id in self._hosts:
                self._take_holdings(event)
            case StreamClosed(peer_id=peer_id):
                if peer_id in self.peers:
                    self.peers[peer_id].is_open = False
            case SeedFinished() | SeedFailed():
                self._flights.pop((event.task_id, event.host_id), None)
            case ClusterConfigured(config=config):
                self._config = config
            case _:
                pass

    def _take_holdings(self, event: TasksHeld) -> None:
        """Whole copies are peers that nobody needs to have a stream for."""
        for held in event.held:
            if held.peer_id in self.peers:
                continue
            self._lives += 1
            self.peers[held.peer_id] = Entry(
                event.host_id,
                held.task_id,
                Download(url=held.url, metadata_only=True),
                is_ours=True,
                life=self._lives,
                is_open=False,
            )
            flight = self._flights.get((held.task_id, event.host_id))
            if flight is not None:
                flight.has_arrived = True

    def _take_words(self, event: PeerSpoke, now: float) -> None:
        entry = self.peers.get(event.peer_id)
        match event.message:
            case Register(download=download):
                self._register(event, download, now)
            case Reschedule(parent_ids=parent_ids) if entry is not None and entry.is_open:
                if entry.state in ("ReceivedNormal", "Running"):
                    entry.parents.clear()
                    entry.told_source_s = entry.told_parents_s = None  # it asks for others
                    entry.told_again_s = None
                    self._blame(event.peer_id, entry, *parent_ids)
            case PieceFailed(parent_id=parent_id, temporary=True) if entry and entry.is_open:
                self._blame(event.peer_id, entry, parent_id)
                parent = self._of_task(entry, parent_id)
                if parent is not None and parent is not entry:
                    count = self._failures.get(parent.host_id, 0)
                    self._failures[parent.host_id] = count + 1
                    self._contacts.complain(parent.host_id, entry.host_id, now)
                    if entry.is_ours:
                        entry.parents.pop(parent_id, None)
            case PieceBackToSourceFailed(answer=answer) if entry is not None and entry.is_open:
                if answer is not None:
                    entry.is_refused = True
                    entry.told_source_s = None
            case _:
                pass

    def _register(self, event: PeerSpoke, download: Download, now: float) -> None:
        """A new life, also of a peer that was there before.

        Strangers' hosts are turned away, and what the operator has forbidden.
        """
        if event.host_id not in self._hosts or self._is_forbidden(event):
            return
        self._drop_all(event.peer_id)
        self._lives += 1
        self.peers[event.peer_id] = Entry(
            event.host_id, event.task_id, download, event.is_ours, self._lives
        )
        is_sent = download.need_back_to_source or download.metadata_only
        flight = self._flights.get((event.task_id, event.host_id))
        if is_sent and flight is not None:
            flight.has_arrived = True
        is_empty = self._core.stat_task(event.task_id).content_length == 0
        members = [p for p, entry in self.peers.items() if entry.task_id == event.task_id]
        if not (is_sent or is_empty or any(map(self.is_useful, members))):
            self._learning.ask(event.task_id, resumes=event.resumes, now=now)

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
            for key in [key for key in self._flights if key[1] == host_id]:
                del self._flights[key]
        self._convicts = {
            host_id
            for host_id, one in statuses.items()
            if one.is_liar and one.standing is HostState.EVICTED
        }

    def _take_ban(self, event: SchedulerEvent, effects: list[SchedulerEffect]) -> None:
        """Who was accused of wrong bytes has lost all children in the task, or none.

        Whether it was believed is told by a child that lost it and was given nobody else. If there
        is none, nobody can tell.
        """
        if not isinstance(event, PeerSpoke) or not isinstance(event.message, PieceFailed):
            return
        child, accused = self.peers.get(event.peer_id), event.message
        parent = None if child is None else self._of_task(child, accused.parent_id)
        if child is None or parent is None or not child.is_open:
            return
        if not (accused.temporary and accused.wrong_digest):
            return
        key = (parent.task_id, parent.host_id)
        self._suspects.add(key)
        answered = {
            one.peer_id
            for one in effects
            if isinstance(one, Answer) and isinstance(one.answer, NormalTask)
        }
        edges = [
            (peer_id, parent_id)
            for peer_id, entry in self.peers.items()
            for parent_id in entry.parents
            if (self.peers[parent_id].task_id, self.peers[parent_id].host_id) == key
        ]
        plain = [edge for edge in edges if edge[0] not in answered]
        lost = [edge for edge in plain if edge[1] not in self._parents_told(edge[0])]
        if not lost:
            return
        assert lost == plain, f"{key} lies, and keeps some of its children"
        self._liars.add(key)
        for peer_id, parent_id in edges:
            del self.peers[peer_id].parents[parent_id]

    def _parents_told(self, peer_id: str) -> tuple[str, ...]:
        status = self._status(peer_id)
        return () if status is None else status.parent_ids

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
            if status.is_waiting and not entry.is_waiting:
                self._new_waiters.add(peer_id)
            entry.state, entry.is_waiting = status.state, status.is_waiting
            if entry.state in ("BackToSource", "Succeeded", "Failed", "Leave"):
                entry.parents.clear()
                entry.told_source_s = entry.told_parents_s = entry.told_again_s = None
            if entry.state in ("Failed", "Leave"):
                self._drop_children(peer_id)
            if entry.state == "Running":
                entry.told_parents_s = entry.told_again_s = None
            if entry.is_waiting:
                entry.told_source_s = entry.told_parents_s = entry.told_again_s = None

    def _miss_seed(self, entry: Entry) -> None:
        """A peer failed: if it was the triggered seed's, the trigger has come to nothing."""
        key = (entry.task_id, entry.host_id)
        flight = self._flights.get(key)
        if flight is not None and flight.has_arrived:
            del self._flights[key]

    def _forget_tasks(self) -> None:
        """What is known of tasks that the scheduler has forgotten counts no more."""
        named = {task_id for task_id, _ in (*self._flights, *self._suspects)}
        for task_id in named | self._learning.task_ids:
            try:
                self._core.stat_task(task_id)
            except NotFoundError:
                self._flights = {k: v for k, v in self._flights.items() if k[0] != task_id}
                self._suspects = {key for key in self._suspects if key[0] != task_id}
                self._liars = {key for key in self._liars if key[0] != task_id}
                self._learning.forget(task_id)

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
                if self.peers[peer_id].state == "BackToSource":
                    self._check_introduction(peer_id, answer.parents)
                else:
                    self._take_parents(peer_id, [one.peer_id for one in answer.parents], now)
            case Answer(peer_id=peer_id, answer=NeedBackToSource() as answer):
                self._check_source(peer_id, answer.description, now)
                self.peers[peer_id].told_source_s = now
            case TriggerSeed():
                self._take_trigger(effect, now)
            case CloseStream(peer_id=peer_id):
                if peer_id in self.peers:
                    self.peers[peer_id].is_open = False
            case _:
                pass

    def _take_parents(self, child_id: str, named: list[str], now: float) -> None:
        """Parents of a peer of ours are those that were named; a stock peer has them in addition.

        What was on the way from others is none of the ledger's business.
        """
        child = self.peers[child_id]
        assert child.is_open, f"{child_id} was answered, and is gone"
        added = [p for p in named if not (child.is_ours and p in child.parents)]
        if child.is_ours:
            child.parents = {p: pieces for p, pieces in child.parents.items() if p in named}
            for parent_id in child.parents:
                self._check_kept(child_id, parent_id)
        assert added, f"{child_id} was answered, and got nobody new"
        for parent_id in added:
            self._check_parent(child_id, parent_id)
        pieces = (
            child.download.concurrent_piece_count or self._limits.default_concurrent_piece_count
        )
        child.parents.update((parent_id, pieces) for parent_id in added)
        if child.state == "ReceivedNormal":
            child.told_again_s = now
            if child.told_parents_s is None:
                child.told_parents_s = now

    def _take_trigger(self, trigger: TriggerSeed, now: float) -> None:
        """One seed for a task; others only to share it with the first, once that has come."""
        bound_s = self._limits.seed_flight_timeout_s
        self._flights = {k: v for k, v in self._flights.items() if now < v.at_s + bound_s}
        task_id, share = trigger.task_id, trigger.download.source_share
        under_way = [one for (other_id, _), one in self._flights.items() if other_id == task_id]
        if share is None or share.index == 0:
            assert not under_way, f"task {task_id} has two seeds under way"
            what = trigger.download.priority
            assert what not in self._config.seed_block_list.priorities, f"seeds may not: {what}"
            assert not self._learning.is_on(task_id, now), f"holders of {task_id} are to come"
        else:
            firsts = [one for one in under_way if one.number == 0]
            assert firsts, f"task {task_id} has seed {share.index}, and no first one"
            assert firsts[0].has_arrived, f"task {task_id} has others before the first has come"
            assert share.index not in {one.number for one in under_way}
            assert len(under_way) < share.count, f"task {task_id} has too many seeds"
        assert trigger.host.id not in self._contacts.lost, f"{trigger.host.id} is lost"
        key = (task_id, trigger.host.id)
        assert key not in self._flights, f"{key} is under way already"
        self._flights[key] = Flight(now, None if share is None else share.index)

    def _check_blocked(self, event: SchedulerEvent, effects: list[SchedulerEffect]) -> None:
        """What the operator has forbidden is answered by closing the stream."""
        if isinstance(event, PeerSpoke) and self._is_forbidden(event):
            answered = {one.peer_id for one in effects if isinstance(one, Answer)}
            assert event.peer_id not in answered, f"{event.peer_id} got what is forbidden"

    def _is_forbidden(self, event: PeerSpoke) -> bool:
        """It registers for what is on the block list of its kind of host."""
        host = self._hosts.get(event.host_id)
        if host is None or not isinstance(event.message, Register):
            return False
        lists = (self._config.peer_block_list, self._config.seed_block_list)
        return event.message.download.priority in lists[host.is_seed].priorities

    def _check_introduction(self, child_id: str, parents: tuple[Parent, ...]) -> None:
        """A seed at the source is named other seeds, if they fetch the task together. No edges."""
        child = self.peers[child_id]
        flight = self._flights.get((child.task_id, child.host_id))
        assert flight is not None, f"{child_id} is at the source, and was given {parents}"
        assert flight.number is not None, f"{child_id} fetches alone, and was given {parents}"
        assert child.is_ours
        assert child.is_open
        for parent in parents:
            assert self._hosts[parent.host.id].is_seed, f"{child_id} was given {parent.peer_id}"
            assert self.is_useful(parent.peer_id), f"{child_id} was given useless {parent.peer_id}"
            assert self.suits(child_id, parent.peer_id), f"{child_id} was given {parent.peer_id}"

    def _check_kept(self, child_id: str, parent_id: str) -> None:
        """It may be named once more."""
        assert self.is_useful(parent_id), f"{child_id} was told to keep useless {parent_id}"
        child, parent = self.peers[child_id], self.peers[parent_id]
        assert child.blamed.get(parent_id) != parent.life, f"{child_id} was to keep {parent_id}"
        assert not self._lies(parent), f"{child_id} was told to keep the liar {parent_id}"

    def _check_parent(self, child_id: str, parent_id: str) -> None:
        """It may be one: useful, suited, new to the child, and in order."""
        assert self.is_useful(parent_id), f"{child_id} was given {parent_id}, who is useless"
        assert self.suits(child_id, parent_id), f"{child_id} was given {parent_id}"
        assert parent_id not in self.peers[child_id].parents, f"{child_id} has {parent_id} already"
        assert self.is_in_order(child_id, parent_id), f"{child_id} must not be below {parent_id}"
        assert self.peers[parent_id].host_id not in self._convicts, f"{parent_id} is convicted"

    def _is_far(self, child_id: str, parent_id: str) -> bool:
        ours, theirs = (self._hosts[self.peers[p].host_id].idc for p in (child_id, parent_id))
        return bool(ours and theirs) and ours != theirs

    def _check_source(self, child_id: str, why: str, now: float) -> None:
        """There is room at the source, and nobody else is about to bring the bytes."""
        child = self.peers[child_id]
        if not self._hosts[child.host_id].is_seed:
            others = [p for p in self._at_source(child.task_id, now) if p != child_id]
            assert len(others) < self._limits.back_to_source_limit, f"{others} are at the source"
        if why == NOBODY_HELPS:
            hopes = [p for p in self._hopes(child_id, now, certain=True) if self._is_good(p)]
            assert not hopes, f"{child_id} was sent to the source, though {hopes} are on their way"
            is_early = self._learning.is_on(child.task_id, now)
            assert not is_early, f"{child_id} was sent to the source, and holders are to come"

    # --- the rules, said anew -------------------------------------------------------------------

    @property
    def _is_mesh(self) -> bool:
        return self._limits.graph is GraphKind.MESH

    def reached(self) -> set[str]:
        """Whom bytes can reach: sources, and everybody below them, whatever circles there are."""
        found = {peer_id for peer_id in self.peers if self._is_source(peer_id)}
        while True:
            more = {p for p, entry in self.peers.items() if found & entry.parents.keys()} - found
            if not more:
                return found
            found |= more

    def _is_source(self, peer_id: str) -> bool:
        """Bytes come from it without anybody else."""
        entry = self.peers[peer_id]
        match entry.state:
            case "Succeeded":
                return True
            case "BackToSource":
                return not entry.is_refused
            case "Running":
                # While answers are looked at it may not have begun to wait.
                waits = entry.is_waiting and peer_id not in self._new_waiters
                return self._hosts[entry.host_id].is_seed and not waits
            case _:
                return False

    def is_useful(self, peer_id: str, reached: set[str] | None = None) -> bool:
        """Somebody could get bytes from it now."""
        entry = self.peers[peer_id]
        if entry.state not in ("Running", "BackToSource", "Succeeded"):
            return False
        if self._hosts[entry.host_id].disable_shared or entry.host_id in self._contacts.lost:
            return False
        return peer_id in (self.reached() if reached is None else reached)

    def suits(self, child_id: str, parent_id: str) -> bool:
        """It could serve this child, if it were useful. Standing is not looked at."""
        child, parent = self.peers[child_id], self.peers[parent_id]
        if child.task_id != parent.task_id or child.host_id == parent.host_id:
            return False
        if self._hosts[parent.host_id].disable_shared or self._lies(parent):
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

    def _lies(self, parent: Entry) -> bool:
        """It sends wrong bytes of this task, for all that can be told."""
        return (parent.task_id, parent.host_id) in self._liars

    def _may_lie(self, parent: Entry) -> bool:
        return (parent.task_id, parent.host_id) in self._suspects

    def is_in_order(self, child_id: str, parent_id: str) -> bool:
        """An edge between them would close no circle that may not be.

        In a mesh none may lead through a stock peer, and one that still fetches serves stock peers.
        """
        child, parent = self.peers[child_id], self.peers[parent_id]
        if not self._is_mesh or not child.is_ours:
            return parent_id not in self.below(child_id)
        ends = parent.state in ("BackToSource", "Succeeded")
        return parent_id != child_id and (parent.is_ours or ends)

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

    def _hopes(self, child_id: str, now: float, *, certain: bool) -> list[str]:
        """Who was told to go to the source, or given parents, may yet start, and suits the child.

        `certain`: those that the scheduler must count on, too; else those that it may.
        """
        limits, reached = self._limits, self.reached()
        hopes: list[str] = []
        for peer_id, entry in self.peers.items():
            if not self.suits(child_id, peer_id) or (certain and self._may_lie(entry)):
                continue
            told_s = entry.told_parents_s if certain else entry.told_again_s
            is_starting = _is_young(told_s, now, limits.start_timeout_s) and peer_id in reached
            # Whoever counts as below the child is on its way to nothing.
            is_out = certain and bool(entry.parents) and self._is_search_cut(child_id)
            if _is_young(entry.told_source_s, now, limits.source_start_timeout_s):
                is_free = self._is_mesh and self.peers[child_id].is_ours
                if not is_out and (is_free or peer_id not in self.below(child_id)):
                    hopes.append(peer_id)
            elif is_starting and not is_out and self.is_in_order(child_id, peer_id):
                hopes.append(peer_id)
        return hopes

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
        self._new_waiters.clear()
        reached = self.reached()
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
            is_there = any(self.is_useful(member, reached) for member in members)
            assert task.has_available_peer == is_there, task_id

    def _check_order(self) -> None:
        """Nobody is its own ancestor; in a mesh no stock peer is, nor feeds it ours on the way."""
        for peer_id, entry in self.peers.items():
            if not self._is_mesh or not entry.is_ours:
                for parent_id in entry.parents:
                    assert parent_id not in self.below(peer_id), f"{peer_id} is its own ancestor"
                continue
            for parent_id in entry.parents:
                parent = self.peers[parent_id]
                ends = parent.state in ("BackToSource", "Succeeded")
                assert parent.is_ours or ends, f"{peer_id} of ours hangs on {parent_id}"

    def _check_waiters(self, now: float) -> None:
        """Who waits gets no bytes, has no parent to be had, a hope, and an alarm that bounds it."""
        alarm_s = self._core.wake_at_s
        longest_s = max(self._limits.seed_start_timeout_s, self._limits.source_start_timeout_s)
        reached = self.reached()
        for peer_id, entry in self.peers.items():
            if not entry.is_waiting:
                continue
            assert peer_id not in reached, f"{peer_id} waits, and bytes reach it"
            assert alarm_s is not None, f"{peer_id} waits without an alarm"
            assert alarm_s <= now + longest_s, f"{peer_id} waits until {alarm_s}"
            if alarm_s > now:  # else the alarm is about to ring, and all is decided anew
                self._check_waiter(peer_id, entry, now)

    def _check_waiter(self, peer_id: str, entry: Entry, now: float) -> None:
        evicted = HostState.EVICTED
        hopes = self._hopes(peer_id, now, certain=False)
        hopes = [p for p in hopes if self._standing[self.peers[p].host_id] is not evicted]
        timeout_s = self._limits.seed_start_timeout_s
        seeds = [
            host_id
            for (task_id, host_id), flight in self._flights.items()
            if task_id == entry.task_id and host_id != entry.host_id
            if not flight.has_arrived and now < flight.at_s + timeout_s
        ]
        is_early = self._learning.is_on(entry.task_id, now)
        assert hopes or seeds or is_early, f"{peer_id} waits for nobody"
        if entry.state == "ReceivedNormal" and hopes:
            return  # a newcomer may be held until those before it have started
        reached = self.reached()
        able = [p for p in self.peers if self._could_serve(peer_id, p, reached)]
        assert not able, f"{peer_id} waits while {able} could serve it"

    def _could_serve(self, child_id: str, parent_id: str, reached: set[str]) -> bool:
        """It must have been offered, whatever the ranker thinks of it."""
        if not self.is_useful(parent_id, reached) or not self.suits(child_id, parent_id):
            return False
        if not self._is_good(parent_id) or self._may_lie(self.peers[parent_id]):
            return False
        if self._is_far(child_id, parent_id) and self._is_mesh and self.peers[child_id].is_ours:
            return False  # there may be gateways
        if self._is_search_cut(child_id) and self.peers[parent_id].parents:
            return False
        return self.is_in_order(child_id, parent_id)

    def _is_search_cut(self, child_id: str) -> bool:
        """So many are below the child that whoever has parents counts as one of them."""
        if self._is_mesh and self.peers[child_id].is_ours:
            return False
        return len(self.below(child_id)) > self._limits.descendant_search_limit


def _is_young(told_s: float | None, now: float, timeout_s: float) -> bool:
    return told_s is not None and now < told_s + timeout_s
