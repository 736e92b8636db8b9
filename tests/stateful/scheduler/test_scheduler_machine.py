"""Any sequence of events, against a naive model of what clients and seeds may expect.

The machine plays hosts, peers, seeds and the clock. The model knows only the conversation: who has
asked and not been answered, whom each child has complained about, which triggers run. After every
event the core's own invariants hold, a twin core fed the same events has done the same things, a
ledger that works out edges, counters and hopes by itself agrees (`support.scheduler_ledger`), and
every effect was due. In the end events stop, time goes on, and everybody who asked gets an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as replace_limits
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from msgspec.structs import replace
from support.decision_record import bad, chosen_rows, doubles, slots
from support.scheduler_ledger import Ledger
from support.scheduler_world import PIECE_LENGTH, World, download, host

from models.dragonfly import DragonflyRanker
from odonata.block_list import BlockList
from odonata.telemetry.record import DecisionRecord
from odonata.wire.message import (
    ByteRange,
    Download,
    FarShare,
    HeldTask,
    Host,
    NeedBackToSource,
    NormalTask,
    SchedulerAnswer,
)
from scheduler.core.cluster import ClusterConfig
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import Answer, CloseStream, SchedulerEffect, TriggerSeed, WakeAt
from scheduler.core.event import ClusterConfigured, SchedulerEvent
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits

LIMITS = Limits(
    candidate_parent_limit=2,
    mesh_parent_limit=3,
    idle_edge_s=0.5,
    candidate_batch_limit=4,
    descendant_search_limit=3,
    back_to_source_limit=2,
    blocked_parent_limit=50,
    exploration=0.3,
    seed_share_pieces_min=1,
)
"""Small, so that short runs meet every bound."""

SEED_HOSTS = ("s1", "s2")
NORMAL_HOSTS = ("h1", "h2", "h3")
HOSTS = (*NORMAL_HOSTS, *SEED_HOSTS)
DOWNLOADS = (
    download(),
    download(),
    download(),
    download(priority=6),
    download(priority=3),
    download(priority=2),
    download(priority=1),
    download(size=12_582_912),
    download(source=True),
    download(metadata=True),
    download(part=ByteRange(start=0, length=10)),
    download(may_use_source=False),
)
ENDINGS = ("ok", "source", "failed", "refused", "crash")
DRAIN_ROUNDS = 500
"""Alarms after which everybody must have been answered; each answers or gives up somebody."""


@dataclass
class Client:
    """What one peer knows of its own conversation."""

    host_id: str
    task_id: str
    is_ours: bool = False
    has_asked: bool = True
    is_open: bool = True
    told: SchedulerAnswer | None = None
    parent_ids: tuple[str, ...] = ()
    complained_about: set[str] = field(default_factory=set[str])


class TwinWorld(World):
    """A world whose core has a twin that must do the same, and a ledger that must agree."""

    def __init__(self, graph: GraphKind) -> None:
        limits = replace_limits(LIMITS, graph=graph)
        super().__init__(limits)
        self.twin = SchedulerCore(limits, DragonflyRanker(), Random(1))
        self.ledger = Ledger(self.core, limits)
        self.is_broken = False

    def handle(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        self.is_broken = True  # unless it gets to the end
        effects = super().handle(event)
        self.ledger.hear(event, effects, self.now)
        for record in self.records:
            if isinstance(record, DecisionRecord) and record.peer_ids:
                check_decision(record)
        self.records.clear()
        self.is_broken = False
        return effects

    def feed(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        effects = super().feed(event)
        assert repr(self.twin.handle(event, self.now)) == repr(effects)
        return effects


def check_decision(record: DecisionRecord) -> None:
    """Slots count up, whoever has one could have got it, and the chances add up to the places."""
    rows = chosen_rows(record)
    chances = doubles(record.propensities, 1)[:, 0]
    assert sorted(slots(record)) == [-1] * (len(chances) - len(rows)) + list(range(len(rows)))
    assert all(chances[row] > 0 and not bad(record)[row] for row in rows)
    assert abs(chances.sum() - len(rows)) < 1e-9
    assert len(set(record.peer_ids)) == len(record.host_ids) == len(chances)


class SchedulerMachine(RuleBasedStateMachine):
    """The world around one scheduler."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.world = TwinWorld(GraphKind.MESH)
        self.clients: dict[str, Client] = {}
        self.triggers: dict[tuple[str, str], int] = {}
        self.born = 0
        self.idcs = ("", "")

    # --- hosts ---

    @initialize(seeds=st.integers(0, 2), graph=st.sampled_from(GraphKind), labelled=st.booleans())
    def begin(self, seeds: int, graph: GraphKind, labelled: bool) -> None:
        self.world = TwinWorld(graph)
        self.idcs = ("a", "b") if labelled else ("", "")
        for host_id in (*NORMAL_HOSTS, *SEED_HOSTS[:seeds]):
            one = self.host(host_id, seed=host_id in SEED_HOSTS)
            self.heed(self.world.announce(one, shares_source=True))

    def host(self, host_id: str, *, seed: bool, shared: bool = True) -> Host:
        """A host in one of two data centres, if they have names."""
        return host(host_id, seed=seed, shared=shared, idc=self.idcs[int(host_id[1:]) % 2])

    @rule(
        host_id=st.sampled_from(HOSTS),
        shared=st.sampled_from((True, True, False)),
        moves=st.sampled_from((False, False, True)),
        changes=st.sampled_from((False, False, True)),
        interval_s=st.sampled_from((60, 60, 0)),
        sharing=st.booleans(),
        returns=st.sampled_from((False, False, True)),
    )
    def announce(
        self,
        host_id: str,
        shared: bool,
        moves: bool,
        changes: bool,
        interval_s: float,
        sharing: bool,
        returns: bool,
    ) -> None:
        """A host says hello again: as before, from another address, or as the other type."""
        one = self.host(host_id, seed=(host_id in SEED_HOSTS) != changes, shared=shared)
        if moves:
            one = replace(one, ip="10.1.1.1", port=one.port + 1)
        self.heed(
            self.world.announce(one, interval_s=interval_s, shares_source=sharing, returns=returns)
        )

    @rule(
        parents=st.sampled_from((None, 1, 2)),
        load=st.sampled_from((1, 200)),
        blocked=st.sampled_from(((), (0,), (3, 5))),
        of_seeds=st.booleans(),
    )
    def configure(
        self, parents: int | None, load: int, blocked: tuple[int, ...], of_seeds: bool
    ) -> None:
        """The operator changes his mind."""
        config = ClusterConfig(
            candidate_parent_limit=parents,
            peer_load_limit=load,
            seed_load_limit=load,
            peer_block_list=BlockList(priorities=() if of_seeds else blocked),
            seed_block_list=BlockList(priorities=blocked if of_seeds else ()),
        )
        self.heed(self.world.handle(ClusterConfigured(config=config)))

    @rule(host_id=st.sampled_from(HOSTS), again=st.booleans())
    def contact(self, host_id: str, again: bool) -> None:
        self.heed(self.world.contacted(host_id))
        if again:
            self.heed(self.world.lost(host_id))
            self.heed(self.world.contacted(host_id))

    @rule(host_id=st.sampled_from(HOSTS))
    def lose_contact(self, host_id: str) -> None:
        self.heed(self.world.lost(host_id))

    @rule(host_id=st.sampled_from(HOSTS))
    def nobody_answers(self, host_id: str) -> None:
        self.heed(self.world.unreachable(host_id))

    @rule(target=peers, host_id=st.sampled_from(HOSTS), task_id=st.sampled_from(("t", "t", "u")))
    def hold(self, host_id: str, task_id: str) -> str:
        """A host says what it has had for long; no stream belongs to it."""
        self.born += 1
        peer_id = f"p{self.born}"
        self.world.ours.add(peer_id)
        self.world.homes[peer_id] = (host_id, task_id)
        self.clients[peer_id] = Client(
            host_id, task_id, is_ours=True, has_asked=False, is_open=False
        )
        held = HeldTask(
            task_id=task_id,
            peer_id=peer_id,
            url="http://origin/blob",
            content_length=3 * PIECE_LENGTH,
            piece_length=PIECE_LENGTH,
        )
        for _ in range(2):  # the second time that is no news
            self.heed(self.world.tells(host_id, held))
        return peer_id

    # --- asking ---

    @rule(target=peers, host_id=st.sampled_from(HOSTS), what=st.sampled_from(DOWNLOADS))
    def register(self, host_id: str, what: Download) -> str:
        return self.join(host_id, "t", what)

    @rule(target=peers, what=st.sampled_from((download(), download(size=0))))
    def register_elsewhere(self, what: Download) -> str:
        return self.join("h1", "u", what)

    @rule(target=peers)
    def burst(self) -> MultipleResults[str]:
        """A peer of every normal host asks at once."""
        return multiple(*(self.join(host_id, "t", download()) for host_id in NORMAL_HOSTS))

    def join(self, host_id: str, task_id: str, what: Download) -> str:
        self.born += 1
        peer_id = f"p{self.born}"
        is_ours = self.born % 2 == 0
        if is_ours:
            self.world.ours.add(peer_id)
        self.clients[peer_id] = Client(host_id, task_id, is_ours)
        self.heed(self.world.register(peer_id, host_id, what, task_id))
        return peer_id

    @rule(target=peers, peer_id=consumes(peers), resumes=st.booleans())
    def register_again(self, peer_id: str, resumes: bool) -> str:
        """The peer's stream broke and it comes back on another one: old complaints are void."""
        client = self.clients[peer_id]
        if resumes:
            self.world.resuming.add(peer_id)
        for other in self.clients.values():
            other.complained_about.discard(peer_id)
        self.clients[peer_id] = Client(client.host_id, client.task_id, client.is_ours)
        self.heed(self.world.register(peer_id, client.host_id, download(), client.task_id))
        return peer_id

    @rule(peer_id=peers, data=st.data())
    def reschedule(self, peer_id: str, data: st.DataObject) -> None:
        client = self.clients[peer_id]
        if not client.is_open or client.has_asked:
            return
        self.complain(
            peer_id, data.draw(st.lists(st.sampled_from(sorted(self.clients)), max_size=3))
        )

    def complain(self, peer_id: str, blamed: list[str]) -> None:
        client = self.clients[peer_id]
        client.told = None
        client.has_asked = True
        client.complained_about |= self.known(client.task_id, blamed) - {peer_id}
        self.heed(self.world.reschedule(peer_id, *blamed))

    # --- reporting ---

    @rule()
    def everybody_obeys(self) -> None:
        """Everybody does what the scheduler told them."""
        for peer_id, client in tuple(self.clients.items()):
            if client.is_open and client.told is not None:
                self.obey(peer_id, client.told)

    @rule(peer_id=peers)
    def one_obeys(self, peer_id: str) -> None:
        client = self.clients[peer_id]
        if client.is_open and client.told is not None:
            self.obey(peer_id, client.told)

    def obey(self, peer_id: str, told: SchedulerAnswer) -> None:
        self.clients[peer_id].told = None
        if isinstance(told, NeedBackToSource):
            self.heed(self.world.at_source(peer_id))
        else:
            self.heed(self.world.started(peer_id))

    @rule(peer_id=peers)
    def start_unasked(self, peer_id: str) -> None:
        if not self.clients[peer_id].has_asked:
            self.heed(self.world.started(peer_id))

    @rule(peer_id=peers)
    def reschedule_from_all(self, peer_id: str) -> None:
        """What stock clients do: blame whoever they were given."""
        client = self.clients[peer_id]
        if client.is_open and client.parent_ids and not client.has_asked:
            self.complain(peer_id, list(client.parent_ids))

    @rule(
        peer_id=peers,
        parent_id=peers,
        number=st.integers(0, 3),
        cost_s=st.floats(0, 9),
        digest=st.sampled_from(("crc32:1", "crc32:1", "crc32:2", "")),
        from_source=st.booleans(),
    )
    def finish_piece(
        self,
        peer_id: str,
        parent_id: str,
        number: int,
        cost_s: float,
        digest: str,
        from_source: bool,
    ) -> None:
        parent_id = "" if from_source else parent_id
        self.heed(self.world.piece(peer_id, number, parent_id, cost_s=cost_s, digest=digest))

    @rule(peer_id=peers, parent_id=peers, count=st.integers(1, 4))
    def finish_pieces(self, peer_id: str, parent_id: str, count: int) -> None:
        """Several reports arrive together, some of them from the source."""
        self.heed(self.world.pieces(peer_id, {n: (parent_id, "")[n % 2] for n in range(count)}))

    @rule(peer_id=peers, parent_id=peers, wrong_digest=st.booleans())
    def fail_piece(self, peer_id: str, parent_id: str, wrong_digest: bool = False) -> None:
        client = self.clients[peer_id]
        if client.is_open:
            client.complained_about |= self.known(client.task_id, [parent_id]) - {peer_id}
        self.heed(self.world.piece_failed(peer_id, parent_id, wrong_digest=wrong_digest))

    @rule(parent_id=peers, wrong_digest=st.booleans())
    def everybody_complains(self, parent_id: str, wrong_digest: bool) -> None:
        """One peer fails all others of its task, twice: its host is bad."""
        parent = self.clients[parent_id]
        for peer_id, client in tuple(self.clients.items()):
            if client.is_open and client.task_id == parent.task_id and peer_id != parent_id:
                self.fail_piece(peer_id, parent_id, wrong_digest)
                if client.is_open:
                    self.fail_piece(peer_id, parent_id, wrong_digest)

    @rule(parent_id=peers, peer_id=peers)
    def serve_well(self, parent_id: str, peer_id: str) -> None:
        """One peer gives another one some pieces, fast."""
        for number in range(4):
            self.world.now += 0.1
            self.heed(self.world.piece(peer_id, number, parent_id, cost_s=0.05))

    @rule(peer_id=peers, status_code=st.sampled_from((None, 404)))
    def hear_from_source(self, peer_id: str, status_code: int | None) -> None:
        self.heed(self.world.source_refused(peer_id, status_code))

    @rule(peer_id=peers, ending=st.sampled_from(ENDINGS))
    def end(self, peer_id: str, ending: str) -> None:
        end = {
            "ok": self.world.finished,
            "source": self.world.finished_from_source,
            "failed": self.world.failed,
            "refused": self.world.failed_from_source,
            "crash": self.world.closed,
        }[ending]
        effects = end(peer_id)
        self.clients[peer_id].is_open = False
        self.clients[peer_id].has_asked = False
        self.heed(effects)

    @rule(
        peer_id=peers,
        host_id=st.sampled_from(HOSTS),
        what=st.sampled_from(("host", "host comes back", "task", "peer")),
    )
    def forget(self, peer_id: str, host_id: str, what: str) -> None:
        if what == "task":
            self.heed(self.world.delete_task(host_id))
        elif what == "peer":
            self.heed(self.world.delete_peer(peer_id))
        else:
            self.heed(self.world.leave(host_id))
        if what == "host comes back":
            self.heed(self.world.announce(host(host_id, seed=host_id in SEED_HOSTS)))

    # --- seeds ---

    @precondition(lambda self: self.triggers)
    @rule(
        target=peers,
        data=st.data(),
        what=st.sampled_from(
            ("arrives", "arrives", "holds", "ends", "fails", "is refused", "is dead")
        ),
    )
    def seed_acts(self, data: st.DataObject, what: str) -> str | MultipleResults[str]:
        host_id, task_id = data.draw(st.sampled_from(sorted(self.triggers)))
        if what in ("arrives", "holds"):
            # Three pieces long, as a seed that opened the source can say; or it does not say.
            size = data.draw(st.sampled_from((12_582_912, None)))
            wanted = download(source=what == "arrives", metadata=what == "holds", size=size)
            return self.join(host_id, task_id, wanted)
        del self.triggers[host_id, task_id]
        if what == "ends":
            self.heed(self.world.seed_finished(host_id, task_id))
        else:
            dead = what == "is dead"
            status_code = 404 if what == "is refused" else None
            self.heed(
                self.world.seed_failed(host_id, task_id, unreachable=dead, status_code=status_code)
            )
        return multiple()

    # --- time ---

    @rule(pause_s=st.sampled_from((0.1, 0.5, 1.0, 2.0, 5.0, 11.0, 11.0, 130.0, 4000.0)))
    def pass_time(self, pause_s: float) -> None:
        self.heed(self.world.advance(self.world.now + pause_s))

    # --- what must hold ---

    def known(self, task_id: str, peer_ids: list[str]) -> set[str]:
        """Those of `peer_ids` that are peers of the task just now: only they can be blamed."""
        task = self.world.core.state.tasks.get(task_id)
        return {one for one in peer_ids if task is not None and one in task.peers}

    def heed(self, effects: list[SchedulerEffect]) -> None:
        """Take in what the scheduler did; everything must have been due."""
        self.world.is_broken = True  # unless it gets to the end
        for effect in effects:
            match effect:
                case Answer(peer_id=peer_id, answer=FarShare(index=index, count=count)):
                    assert self.clients[peer_id].is_ours
                    assert self.clients[peer_id].is_open
                    assert 0 <= index < count <= self.world.core.state.limits.gateway_count
                case Answer(peer_id=peer_id, answer=answer):
                    client = self.clients[peer_id]
                    is_due = client.has_asked or (client.is_ours and client.is_open)
                    assert is_due, f"{peer_id} was answered and had not asked"
                    client.has_asked = False
                    client.told = answer
                    if isinstance(answer, NormalTask):
                        self.check_parents(peer_id, client, answer)
                case CloseStream(peer_id=peer_id):
                    self.clients[peer_id].is_open = False
                    self.clients[peer_id].has_asked = False
                case TriggerSeed(host=seed, task_id=task_id, download=wanted):
                    assert wanted.need_back_to_source
                    assert wanted.range is None
                    assert seed.is_seed
                    self.triggers[seed.id, task_id] = 1
                case WakeAt(at_s=at_s):
                    assert at_s >= 0
                case _:
                    pass
        self.world.is_broken = False

    def check_parents(self, peer_id: str, client: Client, answer: NormalTask) -> None:
        """At least one, not too many, nobody twice, nobody of the child's host or blamed by it."""
        names = [parent.peer_id for parent in answer.parents]
        client.parent_ids = tuple(names)
        assert 1 <= len(names) <= self.places(client)
        assert len(set(names)) == len(names)
        for parent in answer.parents:
            assert parent.peer_id != peer_id
            assert parent.host.id != client.host_id
            assert not parent.host.disable_shared
            assert parent.peer_id not in client.complained_about
            assert parent.state in ("Running", "BackToSource", "Succeeded")
            assert parent.task.id == client.task_id

    def places(self, client: Client) -> int:
        """The parents a client may have; one more of ours may try out a host on probation."""
        limits = self.world.core.state.limits
        if client.is_ours and limits.graph is GraphKind.MESH:
            return limits.mesh_parent_limit + 1
        return limits.candidate_parent_limit + int(client.is_ours)

    @invariant()
    def who_asked_waits(self) -> None:
        """Whoever has asked and got nothing is on the scheduler's waiting list.

        Nobody else is, but peers of ours whose parents are gone.
        """
        waiting = {
            peer_id for task in self.world.core.state.tasks.values() for peer_id in task.waiting
        }
        asked = {peer_id for peer_id, client in self.clients.items() if client.has_asked}
        assert asked <= waiting
        for peer_id in waiting - asked:
            assert self.clients[peer_id].is_ours
            assert not self.world.peer(peer_id).is_asking

    def teardown(self) -> None:
        """Events stop; time goes on; nobody is left waiting."""
        if self.world.is_broken:
            return  # the breach itself is what to report
        for _ in range(DRAIN_ROUNDS):
            alarm_s = self.world.core.wake_at_s
            if alarm_s is None or not any(client.has_asked for client in self.clients.values()):
                break
            self.heed(self.world.advance(max(alarm_s, self.world.now)))
        left = [peer_id for peer_id, client in self.clients.items() if client.has_asked]
        assert not left, f"{left} wait for ever"


SchedulerMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None
)
TestScheduler = SchedulerMachine.TestCase
