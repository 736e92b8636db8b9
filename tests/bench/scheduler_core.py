"""What the scheduler's core costs: CPU per decision, memory per peer, delay of a waiting child.

    python tests/bench/scheduler_core.py [--json OUT] [--registered-and-gone 1000000]

- `decisions_per_core_s`: choices of parents by the rule: 25 candidates are found among 2,000 useful
  peers, their facts read, scored, and the best taken. Each after an event that changed what is
  known of some of them. CPU time of the thread, garbage collection included.
- `register_events_per_core_s`: the whole events around such decisions: Register, decision, edges,
  answer, with its record and its line in the story as a scheduler keeps them by default; no rpc.
- `decision_p99_ms`: these whole events one by one, CPU time of the thread.
- `decision_us_by_peers`: mean CPU time of one with 100, 1,000 and 10,000 useful peers.
- `bytes_per_peer`: growth of the resident memory of a process of its own, over its peers, with
  100,000 of them in 1,000 tasks on 1,000 hosts; the larger of while they download (with what was
  read of them by 100,000 decisions) and after they finished.
- `registered_and_gone_growth_bytes`: growth of the resident memory of a process between the first
  and the last tenth of so many peers that registered, downloaded and left. 30,000 unless told.
- `wake_p99_ms`: wall time from a first peer's "I started" until its waiting children have their
  answers, over real gRPC from a scheduler in a process of its own, 2 children to a task. The only
  one of these that other work on the machine disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import msgspec  # noqa: E402  # after the path
import uvloop  # noqa: E402
from support.scheduler_client import connected, settings  # noqa: E402
from support.scheduler_client import host as wire_host  # noqa: E402
from support.scheduler_world import PIECE_LENGTH, World, download, host, parents  # noqa: E402

from models.rule_ranker import RuleRanker  # noqa: E402
from odonata import collector, logs  # noqa: E402
from odonata.wire.dragonfly.download import download_from_wire, download_to_wire  # noqa: E402
from odonata.wire.message import (  # noqa: E402
    BackToSourceStarted,
    Download,
    NeedBackToSource,
    NormalTask,
    Register,
    Started,
)
from scheduler.core.choice import choose, look_around  # noqa: E402
from scheduler.core.effect import SchedulerEffect  # noqa: E402
from scheduler.core.event import PeerDeleted, PeerSpoke, SchedulerEvent  # noqa: E402
from scheduler.core.limits import Limits  # noqa: E402
from scheduler.core.story import Story  # noqa: E402
from scheduler.core.turn import Turn  # noqa: E402
from scheduler.runtime.app import SchedulerApp  # noqa: E402

GIGABIT = 10**9
MIB = 1024 * 1024
PIECES = 4
CHILD_HOSTS = 64
SIZES = (100, 1_000, 10_000)
PEERS = 2_000
TASKS, HOSTS, PEERS_PER_TASK = 1_000, 1_000, 100
TASK_PIECES = 64
GONE = 30_000
WAKES, WAITING = 200, 2
SCORED, PLACES = 25, 4
RULE, LOTS = RuleRanker(), Random(1)


class BareWorld(World):
    """Without the invariants after each event, and with the records thrown away at once."""

    def handle(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        return self.core.handle(event, self.now)


# --- decisions ---


def crowd(count: int) -> BareWorld:
    """A task with `count` useful peers: a half hold everything, a half are on their way.

    Each on a host with a history, a claim and a report of its own, in four data centres.
    """
    world = BareWorld(Limits(admission=False), ranker=RuleRanker())
    chance = Random(count)
    for number in range(count):
        world.now += 0.01
        name, peer_id = f"h{number}", f"p{number}"
        said = host(
            name,
            idc=f"idc-{number % 4}",
            location=f"eu|de|{number % 4}",
            bandwidth=chance.choice((1, 10)) * GIGABIT,
        )
        world.announce(said)
        world.origin_fetcher(peer_id, name)
        for piece in range(PIECES):
            giver = f"p{chance.randrange(number)}" if number else ""
            world.piece(peer_id, piece, giver, cost_s=chance.lognormvariate(-2, 1))
        if number % 2:
            world.finished(peer_id)
        world.announce(msgspec.structs.replace(said, tx_bandwidth_bits_per_s=GIGABIT // 3))
    for number in range(CHILD_HOSTS):
        world.announce(host(f"c{number}", idc=f"IDC-{number % 4}", location=f"eu|de|{number % 4}"))
    return world


def register_event(number: int) -> PeerSpoke:
    return PeerSpoke(
        host_id=f"c{number % CHILD_HOSTS}",
        task_id="t",
        peer_id=f"child-{number}",
        message=Register(download=download()),
    )


def decision_costs_s(world: BareWorld, rounds: int) -> tuple[list[float], list[float]]:
    """CPU seconds of so many choices of parents, and of so many whole Register events.

    Each event is answered with parents, then the same child chooses once more, then it leaves.
    """
    choices, events = list[float](), list[float]()
    state = world.core.state
    for number in range(rounds):
        spoke = register_event(number)
        world.now += 0.001
        began_s = time.thread_time()
        effects = world.core.handle(spoke, world.now)
        events.append(time.thread_time() - began_s)
        assert len(parents(effects)[spoke.peer_id]) == state.limits.candidate_parent_limit
        child = state.peers[spoke.peer_id]
        turn = Turn(state=state, ranker=RULE, rng=LOTS, story=Story(1), now=world.now)
        began_s = time.thread_time()
        chosen = choose(turn, child, look_around(turn, child), PLACES)
        choices.append(time.thread_time() - began_s)
        assert (len(chosen.candidates), len(chosen.parents)) == (SCORED, PLACES)
        gone = PeerDeleted(host_id=spoke.host_id, task_id="t", peer_id=spoke.peer_id)
        world.core.handle(gone, world.now)
    return choices, events


def decisions(rounds: int) -> dict[str, Any]:
    by_peers: dict[str, float] = {}
    for count in SIZES:
        world = crowd(count)
        decision_costs_s(world, 200)  # warm
        _, events = decision_costs_s(world, rounds)
        by_peers[str(count)] = round(sum(events) / len(events) * 1e6, 1)
    world = crowd(PEERS)
    collector.look_seldom()  # as the scheduler does
    decision_costs_s(world, 200)
    choices, events = decision_costs_s(world, 2 * rounds)
    events.sort()
    return {
        "decisions_per_core_s": round(len(choices) / sum(choices)),
        "register_events_per_core_s": round(len(events) / sum(events)),
        "decision_p99_ms": round(events[len(events) * 99 // 100] * 1e3, 3),
        "decision_us_by_peers": by_peers,
    }


# --- memory: in processes of their own ---


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def wanted(number: int) -> Download:
    """A download as the wire gives it: with strings of its own, and headers."""
    token = f"{number:0300d}"
    what = download(size=TASK_PIECES * PIECE_LENGTH)
    task = number % TASKS
    said = Download(
        url=f"http://registry.example/v2/library/image-{task}/blobs/sha256:{task:064d}",
        request_header={"authorization": f"Bearer {token}", "accept": "*/*"},
        actual_content_length=what.actual_content_length,
        actual_piece_length=what.actual_piece_length,
    )
    return download_from_wire(download_to_wire(said))


def memory_of_peers() -> int:
    """Bytes per peer while they download and after they finished, whichever is more.

    What the world itself remembers of a peer is no cost of the scheduler's: it shares the names of
    hosts and tasks, once the scheduler was told them in strings of their own.
    """
    world = BareWorld(Limits(admission=False), ranker=RuleRanker())
    peers = TASKS * PEERS_PER_TASK
    host_ids = [f"node-{number}.example" for number in range(HOSTS)]
    task_ids = [f"{number:064d}" for number in range(TASKS)]
    before = resident_bytes()
    for number in range(HOSTS):
        announcement = f"{number:0400d}".encode()
        said = host(f"node-{number}.example", idc=f"idc-{number % 8}", bandwidth=GIGABIT)
        world.announce(msgspec.structs.replace(said, announcement=announcement))
    for number in range(peers):
        world.now += 0.001
        task_id = f"{number % TASKS:064d}"
        host_number = (number * 7 + number // TASKS) % HOSTS
        peer_id = f"10.0.{host_number // 250}.{host_number % 250}-node-{host_number}-{number:036d}"
        effects = world.register(peer_id, f"node-{host_number}.example", wanted(number), task_id)
        world.homes[peer_id] = host_ids[host_number], task_ids[number % TASKS]
        given = parents(effects).get(peer_id, [])
        world.started(peer_id) if given else world.at_source(peer_id)
        givers = given or [""]
        told = {piece: givers[piece % len(givers)] for piece in range(TASK_PIECES // 2)}
        world.pieces(peer_id, told)
    running = resident_bytes() - before
    for peer_id in tuple(world.core.state.peers):
        world.now += 0.001
        world.piece(peer_id, TASK_PIECES - 1, "", cost_s=0.2)
        world.finished(peer_id)
    finished = resident_bytes() - before
    assert len(world.core.state.peers) == peers
    say({"running": running // peers, "finished": finished // peers})
    return max(running, finished) // peers


def growth(count: int) -> int:
    """Growth of the memory from the first tenth to the last of `count` peers that come and go."""
    world = BareWorld(Limits(admission=False), ranker=RuleRanker())
    first = 0
    for number in range(count):
        world.advance(world.now + 0.5)  # tasks are swept within an hour: long before the tenth
        if number % 1_000 == 0:
            world.announce(*(host(f"h{one}") for one in range(HOSTS // 10)), interval_s=600)
        host_id, peer_id, task_id = f"h{number % 97}", f"peer-{number}", f"task-{number // 20}"
        given = parents(world.register(peer_id, host_id, wanted(number), task_id)).get(peer_id, [])
        world.started(peer_id) if given else world.at_source(peer_id)
        for piece in range(2):
            world.piece(peer_id, piece, given[0] if given else "")
        world.finished(peer_id) if given else world.finished_from_source(peer_id)
        if number >= 200:
            world.delete_peer(f"peer-{number - 200}")
        world.homes.pop(f"peer-{number - 300}", None)
        if number == count // 10:
            first = resident_bytes()
    return resident_bytes() - first


def in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# --- waking ---


async def serve() -> None:
    """A scheduler that serves until stdin closes."""
    logs.configure(program="scheduler")
    collector.look_seldom()
    chosen = settings(request_rate_limit=1_000_000)
    async with SchedulerApp(chosen) as app:
        say({"address": app.address})
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server() -> Generator[str]:
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
        process.stdin.close()


async def wake_delays_s() -> list[float]:
    """How long after a first parent can help its waiting children are answered."""
    delays: list[float] = []
    with server() as address:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connected(address))
            for number in range(WAITING + 1):
                await client.announce(wire_host(f"h{number}", f"10.0.0.{number + 1}"))
            for number in range(WAKES):
                delays += await _wake(client, number)
    return sorted(delays)


async def _wake(client: Any, number: int) -> list[float]:
    task_id = f"{number:064d}"
    first = client.peer("h0", f"first-{number}", task_id)
    await first.register()
    answer = await first.answer()
    assert isinstance(answer, NeedBackToSource), answer
    waiting = [
        client.peer(f"h{one + 1}", f"waits-{number}-{one}", task_id) for one in range(WAITING)
    ]
    for child in waiting:
        await child.register()
    while (await client.stat_task(task_id)).peer_count < WAITING + 1:
        pass  # the call itself waits

    async def answered(child: Any) -> float:
        told = await child.answer()
        at_s = time.monotonic()
        assert isinstance(told, NormalTask), told
        await child.send(Started())
        return at_s

    async with asyncio.TaskGroup() as tasks:
        hearing = [tasks.create_task(answered(child)) for child in waiting]
        began_s = time.monotonic()
        await first.send(BackToSourceStarted())
    return [one.result() - began_s for one in hearing]


# --- all of it ---


def measure(*, rounds: int = 4_000, registered_and_gone: int = GONE) -> dict[str, Any]:
    """All figures, by the names above."""
    found = decisions(rounds)
    found["bytes_per_peer"] = in_a_process("--memory")["bytes"]
    gone = in_a_process("--growth", str(registered_and_gone))
    found["registered_and_gone_growth_bytes"] = gone["bytes"]
    delays = uvloop.run(wake_delays_s())
    found["wake_p99_ms"] = round(delays[len(delays) * 99 // 100] * 1e3, 2)
    return found


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--rounds", type=int, default=4_000, help="decisions of each kind")
    parser.add_argument("--registered-and-gone", type=int, default=GONE)
    parser.add_argument("--decisions", action="store_true", help="these only")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--growth", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve())
    elif args.memory:
        say({"bytes": memory_of_peers()})
    elif args.growth is not None:
        say({"bytes": growth(args.growth)})
    elif args.decisions:
        say(decisions(args.rounds))
    else:
        found = measure(rounds=args.rounds, registered_and_gone=args.registered_and_gone)
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        say(found)


if __name__ == "__main__":
    main()
