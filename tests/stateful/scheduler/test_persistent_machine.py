"""Any sequence of events of a persistent task, against a naive model of what may be so.

The machine plays hosts, uploaders, readers, users and the clock. The model is a table of who said
what, in words of its own; after every event the scheduler's record agrees with it, parents are such
as the model would allow, counts are recounted, and whoever is asked to become a replica can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.persistent_world import SIZE, PersistentWorld

from odonata.errors import OdonataError
from odonata.wire.message import EmptyTask, NeedBackToSource
from scheduler.core.persistent.effect import (
    Answer,
    CloseStream,
    CountReplicas,
    DownloadReplica,
    Parents,
    PersistentEffect,
    Promote,
    Refuse,
)
from scheduler.core.persistent.state import Kind

HOSTS = ("h1", "h2", "h3", "h4", "h5")
PEERS = ("p1", "p2", "p3", "p4", "p5", "p6")
UNSHARED = "h5"
SMALL = "h4"
PARENT_LIMIT = 2

a_host = st.sampled_from(HOSTS)
a_peer = st.sampled_from(PEERS)


@dataclass
class Copy:
    """What the model knows of a peer: `phase` is uploading, received, running, whole or failed."""

    host: str
    phase: str
    replica: bool = False
    blocked: set[str] = field(default_factory=set[str])
    told_empty: bool = False


class PersistentMachine(RuleBasedStateMachine):
    """One task of one kind, two parents in an answer."""

    @initialize(kind=st.sampled_from(list(Kind)), seed=st.integers(0, 3))
    def begin(self, kind: Kind, seed: int) -> None:
        self.world = PersistentWorld(kind, parent_limit=PARENT_LIMIT, seed=seed)
        self.kind = kind
        self.task = ""  # its state; empty: there is none
        self.wanted = 0
        self.size = 0
        self.ends_s = 0.0
        self.copies: dict[str, Copy] = {}
        self.hosts: set[str] = set()
        for name in HOSTS:
            self.announce(name)

    # --- hosts and time ---------------------------------------------------------------------------

    @rule(name=a_host)
    def announce(self, name: str) -> None:
        room = {"disk_free_bytes": 1} if name == SMALL else {}
        self.world.announce(name, disable_shared=name == UNSHARED, idc=name[-1], **room)
        self.hosts.add(name)

    @rule(name=a_host)
    def leave(self, name: str) -> None:
        effects = self.world.leave(name)
        self.hosts.discard(name)
        self._forget([peer for peer, copy in self.copies.items() if copy.host == name], effects)

    @rule(step_s=st.sampled_from([1.0, 10.0, 40.0]))
    def pass_time(self, step_s: float) -> None:
        self.world.advance(self.world.now + step_s)
        if self.task and self.world.now >= self.ends_s:
            self.task, self.copies = "", {}

    # --- uploads ----------------------------------------------------------------------------------

    @rule(peer=a_peer, host=a_host, replicas=st.integers(1, 4), size=st.sampled_from([0, SIZE]))
    def start_upload(self, peer: str, host: str, replicas: int, size: int) -> None:
        effects = self.world.upload_started(peer, host, replicas=replicas, size=size, ttl_s=100.0)
        if host not in self.hosts:
            assert code(effects) == "not_found"
        elif self.task in ("Uploading", "Succeeded") or peer in self.copies:
            assert code(effects) == "already_exists"
        else:
            assert effects == []
            self.task, self.wanted, self.size = "Uploading", replicas, size
            self.ends_s = self.world.now + 100.0
            self.copies = {peer: Copy(host=host, phase="uploading", replica=True)}

    @rule(peer=a_peer)
    def finish_upload(self, peer: str) -> None:
        effects = self.world.upload_finished(peer)
        copy = self.copies.get(peer)
        if copy is None or copy.host != self.world.home(peer):
            assert code(effects) in {"not_found", "failed_precondition"}
        elif copy.phase == "uploading":
            self.task, copy.phase = "Succeeded", "whole"
            self.copies = {peer: copy}
            assert effects[-1] == CountReplicas()
        elif not (copy.phase == "whole" and self.task == "Succeeded"):
            assert code(effects) == "illegal_transition"

    @rule(peer=a_peer)
    def fail_upload(self, peer: str) -> None:
        effects = self.world.upload_failed(peer)
        copy = self.copies.get(peer)
        if copy is None or copy.host != self.world.home(peer):
            assert code(effects) in {"not_found", "failed_precondition"}
        elif copy.phase == "uploading":
            assert effects == []
            self.task, copy.phase = "Failed", "failed"
        elif not (copy.phase == "failed" and self.task == "Failed"):
            assert code(effects) == "illegal_transition"

    @rule(peer=a_peer, host=a_host, replicas=st.integers(1, 4))
    def upload(self, peer: str, host: str, replicas: int) -> None:
        """A whole upload, so that what comes after one is reached often."""
        self.start_upload(peer, host, replicas, SIZE)
        self.finish_upload(peer)

    # --- downloads --------------------------------------------------------------------------------

    @rule(peer=a_peer, host=a_host, replica=st.booleans(), source=st.booleans())
    def register(self, peer: str, host: str, replica: bool, source: bool) -> None:
        before = self.copies.get(peer)
        effects = self.world.register(peer, host, persistent=replica, need_back_to_source=source)
        if host not in self.hosts or not self.task:
            assert code(effects) == "not_found"
            return
        if before is not None and (before.host != host or before.phase in ("whole", "uploading")):
            assert code(effects) == "failed_precondition"
            self.world.homes[peer] = before.host
            return
        self.copies[peer] = Copy(host=host, phase="failed", replica=replica)
        if self._check_answer(peer, effects, source=source):
            self.copies[peer].phase = "received"
        elif before is None:
            del self.copies[peer]

    def _check_answer(self, peer: str, effects: list[PersistentEffect], *, source: bool) -> bool:
        """Whether the peer got an answer, which is as the model has it."""
        answer = effects[0].answer if isinstance(effects[0], Answer) else None
        may_source = self.kind is Kind.PERSISTENT
        if may_source and (source or self.task == "Failed"):
            assert isinstance(answer, NeedBackToSource)
        elif self.size == 0:
            assert answer == EmptyTask()
            self.copies[peer].told_empty = True
        elif self.task == "Succeeded" and self._able(peer):
            assert isinstance(answer, Parents)
            self._check_parents(peer, [parent.id for parent in answer.peers])
        elif self.task == "Succeeded" and may_source:
            assert isinstance(answer, NeedBackToSource)
        else:
            assert answer is None
            assert code(effects) == "failed_precondition"
        return answer is not None

    def _able(self, child: str) -> set[str]:
        """Who can serve `child`, in any order."""
        own = self.copies[child]
        return {
            peer
            for peer, copy in self.copies.items()
            if copy.phase in ("running", "whole")
            and copy.host not in (own.host, UNSHARED)
            and peer not in own.blocked
        }

    def _check_parents(self, child: str, parents: list[str]) -> None:
        able = self._able(child)
        assert set(parents) <= able
        assert len(parents) == len(set(parents)) == min(PARENT_LIMIT, len(able))
        whole = {peer for peer in able if self.copies[peer].phase == "whole"}
        assert not whole or whole & set(parents), "somebody who has everything is among them"

    @rule(peer=a_peer, parents=st.sets(a_peer, min_size=1, max_size=2))
    def reschedule(self, peer: str, parents: set[str]) -> None:
        effects = self.world.reschedule(peer, *parents)
        copy = self.copies.get(peer)
        if copy is None or copy.host != self.world.home(peer):
            assert isinstance(effects[0], CloseStream)
        elif copy.phase not in ("received", "running") or (
            copy.phase == "received" and copy.told_empty
        ):
            assert code(effects) == "illegal_transition"
            self._break_off(copy)
        else:
            copy.blocked |= parents
            # What the size says counts at the register only: here it is parents or nothing.
            if isinstance(effects[0], Answer):
                assert self.task == "Succeeded"
                if isinstance(effects[0].answer, Parents):
                    self._check_parents(peer, [one.id for one in effects[0].answer.peers])
                else:
                    assert self.kind is Kind.PERSISTENT
                    assert not self._able(peer)
            else:
                assert code(effects) == "failed_precondition"
                copy.phase = "failed"

    @rule(peer=a_peer)
    def start(self, peer: str) -> None:
        self._step(peer, self.world.started(peer), {"received": "running", "running": "running"})

    @rule(peer=a_peer)
    def finish(self, peer: str) -> None:
        effects = self.world.finished(peer)
        self._step(peer, effects, {"running": "whole"}, closes=True)

    @rule(peer=a_peer)
    def fail(self, peer: str) -> None:
        ends = {"received": "failed", "running": "failed"}
        self._step(peer, self.world.failed(peer), ends, closes=True)

    def _step(
        self,
        peer: str,
        effects: list[PersistentEffect],
        steps: dict[str, str],
        *,
        closes: bool = False,
    ) -> None:
        copy = self.copies.get(peer)
        if copy is None or copy.host != self.world.home(peer):
            assert isinstance(effects[0], CloseStream)
            assert effects[0].error is not None
        elif copy.phase in steps:
            assert effects == ([CloseStream()] if closes else [])
            copy.phase = steps[copy.phase]
        else:
            assert code(effects) == "illegal_transition"
            self._break_off(copy)

    def _break_off(self, copy: Copy) -> None:
        if copy.phase in ("received", "running"):
            copy.phase = "failed"

    @rule(peer=a_peer, host=a_host, replica=st.booleans(), ends=st.booleans())
    def download(self, peer: str, host: str, replica: bool, ends: bool) -> None:
        """A whole download, or one that goes on."""
        self.register(peer, host, replica, source=False)
        self.start(peer)
        if ends:
            self.finish(peer)

    @rule(peer=a_peer, numbers=st.lists(st.integers(0, 1 << 40), max_size=3))
    def tell_pieces(self, peer: str, numbers: list[int]) -> None:
        self.world.pieces(peer, *numbers)

    @rule(peer=a_peer)
    def break_stream(self, peer: str) -> None:
        assert self.world.closed(peer) == []
        copy = self.copies.get(peer)
        if copy is not None and copy.host == self.world.home(peer):
            self._break_off(copy)

    # --- replicas and ends ------------------------------------------------------------------------

    @rule(avoid=st.sets(a_host, max_size=2), keep=st.booleans())
    def count(self, avoid: set[str], keep: bool) -> None:
        effects = self.world.count(*avoid)
        promoted = [effect for effect in effects if isinstance(effect, Promote)]
        fetching = [effect.host.id for effect in effects if isinstance(effect, DownloadReplica)]
        asked = [effect.host.id for effect in promoted] + fetching
        assert len(asked) == len(set(asked)) == len(effects)
        assert not set(asked) & (avoid | {UNSHARED})
        whole = [copy for copy in self.copies.values() if copy.phase == "whole"]
        held = {copy.host for copy in whole}
        kept = {copy.host for copy in whole if copy.replica}
        assert len(asked) <= max(0, self.wanted - len(kept)) * (self.task == "Succeeded")
        assert {effect.host.id for effect in promoted} <= held - kept
        assert not set(fetching) & held
        assert self.size == 0 or SMALL not in fetching
        if keep:
            for effect in promoted:
                assert self.world.kept(effect.peer_id) == []
                self.copies[effect.peer_id].replica = True

    @rule(peer=a_peer)
    def delete_peer(self, peer: str) -> None:
        effects = self.world.delete_peer(peer)
        copy = self.copies.get(peer)
        gone = [peer] if copy is not None and copy.host == self.world.home(peer) else []
        self._forget(gone, effects)

    @rule()
    def delete_task(self) -> None:
        self.world.delete_task()
        self.task, self.copies = "", {}

    def _forget(self, gone: list[str], effects: list[PersistentEffect]) -> None:
        lost = [self.copies.pop(peer) for peer in gone]
        held = any(copy.phase == "whole" for copy in self.copies.values())
        is_lost = self.kind is Kind.PERSISTENT_CACHE and not held
        was_there = self.task == "Succeeded" and bool(lost)
        if any(copy.phase == "uploading" for copy in lost) or (was_there and is_lost):
            self.task = "Failed"
            assert effects == []
        elif was_there and any(copy.replica for copy in lost):
            assert effects == [CountReplicas()]
        else:
            assert effects == []

    # --- always -----------------------------------------------------------------------------------

    @invariant()
    def the_record_agrees(self) -> None:
        if not hasattr(self, "world"):
            return
        phases = {
            "Uploading": "uploading",
            "Running": "running",
            "Succeeded": "whole",
            "ReceivedEmpty": "received",
            "ReceivedNormal": "received",
            "Failed": "failed",
        }
        kept = {
            name: (peer.host_id, phases[peer.state], peer.persistent)
            for name, peer in self.world.peers.items()
        }
        assert kept == {
            name: (copy.host, copy.phase, copy.replica) for name, copy in self.copies.items()
        }
        assert (self.world.task.state if self.world.task else "") == self.task

    @invariant()
    def counts_are_recounted(self) -> None:
        if not hasattr(self, "world") or not self.task:
            return
        counts = self.world.core.stat_task(self.world.snapshot, self.world.now).counts
        whole = [copy for copy in self.copies.values() if copy.phase == "whole"]
        assert counts.every == len({copy.host for copy in whole})
        assert counts.persistent == len({copy.host for copy in whole if copy.replica})


def code(effects: list[PersistentEffect]) -> str:
    """The error that the only effect carries."""
    (effect,) = effects
    assert isinstance(effect, Refuse | CloseStream), effect
    error: OdonataError | None = effect.error
    assert error is not None
    return error.code


TestPersistentMachine = PersistentMachine.TestCase
TestPersistentMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
