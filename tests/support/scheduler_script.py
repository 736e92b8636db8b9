"""Transcripts: a conversation with a scheduler as text, command by command, with what came of each.

A line that is not indented is a command (see `_COMMANDS`), a comment (#) or empty; the indented
lines below it are what the scheduler did. `play` runs the commands and returns the text with the
outcomes it saw, so a transcript holds when playing it changes nothing.

    announce HOST [seed] [private] [idc=NAME] [interval=S]
    register PEER on HOST [task=T] [source] [metadata] [size=BYTES] [priority=N] [part=START+LENGTH]
                          [never-source] [type=NAME] [ours] [app=NAME] [tag=NAME]
    started PEER | at-source PEER | finished PEER | finished-from-source PEER
    failed PEER | failed-from-source PEER | closed PEER
    piece PEER NUMBER [from PARENT] [cost=S] [length=BYTES]
    piece-failed PEER from PARENT | source-refused PEER [STATUS]
    reschedule PEER away from PARENT...
    configure [app=NAME:LEVEL[:REGEX:LEVEL]] [parents=N] [load=N] [block=KIND:VALUE]
              [seed-block=KIND:VALUE]
    leave HOST | delete-task TASK on HOST | delete-peer PEER
    seed-finished HOST | seed-failed HOST [unreachable]
    at SECONDS
    task TASK | peer PEER | host HOST | explain PEER | records PEER

Peers are stock clients unless they are "ours"; `records` tells what was recorded of one.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from support.decision_record import chosen_rows
from support.scheduler_world import PIECE_LENGTH, World, download, host, told

from odonata.block_list import BlockList
from odonata.errors import NotFoundError
from odonata.telemetry.record import DecisionRecord, DownloadRecord, PieceRecord, Record
from odonata.wire.message import ByteRange, TaskType
from scheduler.core.application import Application, UrlPriority
from scheduler.core.cluster import PEER_LOAD_LIMIT, ClusterConfig
from scheduler.core.event import ClusterConfigured
from scheduler.core.standing import HostState

Words = list[str]


def play(text: str) -> str:
    """Run every command of a transcript in a new world; return the transcript with the outcomes."""
    world = World()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {outcome}" for outcome in _run(world, line)]
    return "\n".join(lines) + "\n"


def _run(world: World, line: str) -> list[str]:
    words = line.split()
    plain = [word for word in words[1:] if "=" not in word]
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    command = _COMMANDS.get(words[0])
    assert command is not None, f"unknown command in transcript: {line!r}"
    return command(world, plain, options)


def _announce(world: World, words: Words, options: dict[str, str]) -> list[str]:
    one = host(
        words[0],
        seed="seed" in words,
        shared="private" not in words,
        idc=options.get("idc", ""),
    )
    return told(world.announce(one, interval_s=float(options.get("interval", "300"))))


def _register(world: World, words: Words, options: dict[str, str]) -> list[str]:
    peer_id, _, host_id = words[:3]
    if "ours" in words:
        world.ours.add(peer_id)
    part = None
    if "part" in options:
        start, length = options["part"].split("+")
        part = ByteRange(start=int(start), length=int(length))
    what = download(
        size=int(options["size"]) if "size" in options else None,
        source="source" in words,
        metadata="metadata" in words,
        priority=int(options.get("priority", "0")),
        part=part,
        may_use_source="never-source" not in words,
        kind=TaskType[options.get("type", "STANDARD")],
    )
    what = replace(what, application=options.get("app"), tag=options.get("tag"))
    return told(world.register(peer_id, host_id, what, options.get("task", "t")))


def _configure(world: World, _: Words, options: dict[str, str]) -> list[str]:
    applications: tuple[Application, ...] = ()
    if "app" in options:
        name, level, *url = options["app"].split(":")
        urls = (UrlPriority(regex=url[0], value=int(url[1])),) if url else ()
        applications = (Application(name=name, priority=int(level), url_priorities=urls),)
    config = ClusterConfig(
        applications=applications,
        candidate_parent_limit=int(options["parents"]) if "parents" in options else None,
        peer_load_limit=int(options.get("load", PEER_LOAD_LIMIT)),
        peer_block_list=_block_list(options.get("block")),
        seed_block_list=_block_list(options.get("seed-block")),
    )
    return told(world.handle(ClusterConfigured(config=config)))


def _block_list(text: str | None) -> BlockList:
    if text is None:
        return BlockList()
    kind, value = text.split(":")
    values = (int(value),) if kind == "priorities" else (value,)
    return BlockList(**{kind: values})  # type: ignore[arg-type]  # the transcript names the field


def _piece(world: World, words: Words, options: dict[str, str]) -> list[str]:
    parent_id = words[3] if len(words) > 2 else ""
    effects = world.piece(
        words[0],
        int(words[1]),
        parent_id,
        cost_s=float(options.get("cost", "0.1")),
        length=int(options.get("length", PIECE_LENGTH)),
    )
    return told(effects)


def _task(world: World, words: Words, _: dict[str, str]) -> list[str]:
    try:
        one = world.core.stat_task(words[0])
    except NotFoundError as error:
        return [f"{error.code}: {error.detail}"]
    size = "of unknown size" if one.content_length is None else f"of {one.content_length} bytes"
    available = "available" if one.has_available_peer else "not available"
    return [f"{one.state}, {size}, {one.peer_count} peers, {available}"]


def _peer(world: World, words: Words, _: dict[str, str]) -> list[str]:
    try:
        one = world.core.stat_peer(words[0])
    except NotFoundError as error:
        return [f"{error.code}: {error.detail}"]
    waits = ", waits" if one.is_waiting else ""
    return [f"{one.state}{waits}, parents {list(one.parent_ids)}"]


def _host(world: World, words: Words, _: dict[str, str]) -> list[str]:
    for one in world.core.list_hosts():
        if one.host.id == words[0]:
            counts = f"{one.concurrent_upload_count} children, {one.upload_failed_count} failures"
            standing = "" if one.standing is HostState.GOOD else f", {one.standing}"
            return [f"{one.peer_count} peers, {counts}{standing}"]
    return ["unknown"]


def _explain(world: World, words: Words, _: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for decision in world.core.explain(child_id=words[0]):
        lines.append(f"{decision.at_s:g} s: {decision.outcome}: {decision.reason}")
        for one in decision.candidates:
            score = "" if one.score is None else f" scored {one.score:.3f}"
            lines.append(f"  {one.peer_id}{score}: {one.dropped or 'chosen'}")
    return lines


def _records(world: World, words: Words, _: dict[str, str]) -> list[str]:
    return [
        f"{one.at_s:g} s: {_record_told(one)}" for one in world.records if one.child_id == words[0]
    ]


def _record_told(record: Record) -> str:
    match record:
        case DecisionRecord(outcome="source"):
            return f"decision {record.decision_id}: the source, for {record.reason}"
        case DecisionRecord():
            names = ", ".join(record.peer_ids[row] for row in chosen_rows(record))
            return f"decision {record.decision_id}: {names} of {len(record.peer_ids)} candidates"
        case PieceRecord():
            number = "a piece" if record.number < 0 else f"piece {record.number}"
            giver = f"{record.parent_id or '?'} on {record.parent_host_id or '?'}"
            way = f"{giver} ({record.traffic})"
            if record.traffic == "back_to_source":
                way = "the source"
            end = (
                f"{record.length} bytes in {record.total_s:g} s" if record.length else record.reason
            )
            named = f", named by {record.decision_id}" if record.decision_id else ""
            return f"{number} from {way}{named}: {record.result}, {end}"
        case DownloadRecord():
            given = (record.from_peers_bytes, record.from_seeds_bytes, record.from_source_bytes)
            sums = "{} bytes from peers, {} from seeds, {} from the source".format(*given)
            why = f" ({record.reason})" if record.reason else ""
            counts = f"{record.piece_count} pieces, {record.decision_count} decisions"
            first = "none" if record.first_piece_s is None else f"{record.first_piece_s:g} s"
            began = f"began at {record.started_at_s:g} s, first piece after {first}"
            return f"download {record.result}{why}: {sums}, {counts}, {began}"


_COMMANDS: dict[str, Callable[[World, Words, dict[str, str]], list[str]]] = {
    "announce": _announce,
    "register": _register,
    "configure": _configure,
    "piece": _piece,
    "started": lambda world, words, _: told(world.started(words[0])),
    "at-source": lambda world, words, _: told(world.at_source(words[0])),
    "finished": lambda world, words, _: told(world.finished(words[0])),
    "finished-from-source": lambda world, words, _: told(world.finished_from_source(words[0])),
    "failed": lambda world, words, _: told(world.failed(words[0])),
    "failed-from-source": lambda world, words, _: told(world.failed_from_source(words[0])),
    "closed": lambda world, words, _: told(world.closed(words[0])),
    "piece-failed": lambda world, words, _: told(world.piece_failed(words[0], words[2])),
    "source-refused": lambda world, words, _: told(
        world.source_refused(words[0], int(words[1]) if len(words) > 1 else None)
    ),
    "reschedule": lambda world, words, _: told(world.reschedule(words[0], *words[3:])),
    "leave": lambda world, words, _: told(world.leave(words[0])),
    "delete-task": lambda world, words, _: told(world.delete_task(words[2], words[0])),
    "delete-peer": lambda world, words, _: told(world.delete_peer(words[0])),
    "seed-finished": lambda world, words, _: told(world.seed_finished(words[0])),
    "seed-failed": lambda world, words, _: told(
        world.seed_failed(words[0], unreachable="unreachable" in words)
    ),
    "at": lambda world, words, _: told(world.advance(float(words[0]))),
    "task": _task,
    "peer": _peer,
    "host": _host,
    "explain": _explain,
    "records": _records,
}
