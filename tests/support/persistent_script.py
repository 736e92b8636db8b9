"""Transcripts of persistent tasks: a conversation as text, with what came of each command.

A line that is not indented is a command, a comment (#) or empty; the indented lines below it are
what the scheduler did. `play` runs the commands and returns the text with the outcomes it saw, so a
transcript holds when playing it changes nothing. There is one task.

    kind persistent | persistent-cache      (first)
    announce HOST [idc=NAME] [location=A|B] [private] [disk=BYTES]
    upload-started PEER on HOST [replicas=N] [size=BYTES] [ttl=S] | upload-finished PEER [by HOST]
    upload-failed PEER [by HOST]
    register PEER on HOST [persistent] [source]
    started PEER | finished PEER | failed PEER | closed PEER
    at-source PEER | finished-from-source PEER | failed-from-source PEER
    pieces PEER NUMBER... | piece-failed PEER from PARENT [for-good]
    reschedule PEER away from PARENT...
    count-replicas [avoid HOST...] | keeps PEER
    leave HOST | delete-peer PEER | delete-task
    at SECONDS
    task | peer PEER
"""

from __future__ import annotations

from collections.abc import Callable

from support.persistent_world import PersistentWorld, told

from odonata.errors import OdonataError
from scheduler.core.persistent.state import Kind

Words = list[str]
Options = dict[str, str]


def play(text: str) -> str:
    """Run every command of a transcript in a new world; return the transcript with the outcomes."""
    world = PersistentWorld(Kind.PERSISTENT)
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            continue
        lines.append(line)
        if line.startswith("kind "):
            world = PersistentWorld(Kind(line.split()[1]))
        elif line and not line.startswith("#"):
            lines += [f"    {outcome}" for outcome in _run(world, line)]
    return "\n".join(lines) + "\n"


def _run(world: PersistentWorld, line: str) -> list[str]:
    words = line.split()
    plain = [word for word in words[1:] if "=" not in word]
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    command = _COMMANDS.get(words[0])
    assert command is not None, f"unknown command in transcript: {line!r}"
    return command(world, plain, options)


def _announce(world: PersistentWorld, words: Words, options: Options) -> list[str]:
    disk = {"disk_free_bytes": int(options["disk"])} if "disk" in options else {}
    world.announce(
        words[0],
        idc=options.get("idc", ""),
        location=options.get("location", ""),
        disable_shared="private" in words,
        **disk,
    )
    return []


def _upload_started(world: PersistentWorld, words: Words, options: Options) -> list[str]:
    names = {"replicas": "replicas", "size": "size", "ttl": "ttl_s"}
    numbers = {names[name]: int(value) for name, value in options.items()}
    return told(world.upload_started(words[0], words[2], **numbers))  # type: ignore[arg-type]


def _register(world: PersistentWorld, words: Words, _: Options) -> list[str]:
    peer, _on, host = words[:3]
    effects = world.register(
        peer, host, persistent="persistent" in words, need_back_to_source="source" in words
    )
    return told(effects)


def _task(world: PersistentWorld, _words: Words, _: Options) -> list[str]:
    try:
        status = world.core.stat_task(world.snapshot, world.now)
    except OdonataError as error:
        return [f"{error.code}: {error.detail}"]
    task, counts = status.task, status.counts
    wanted = f"{counts.persistent} of {task.persistent_replica_count} replicas"
    left_s = task.expires_at_s - world.now
    return [f"{task.state}, {wanted}, {counts.every} copies, {left_s:g} s to live"]


def _peer(world: PersistentWorld, words: Words, _: Options) -> list[str]:
    try:
        peer = world.core.stat_peer(world.snapshot, words[0], world.now).peer
    except OdonataError as error:
        return [f"{error.code}: {error.detail}"]
    parts = [peer.state.value, f"on {peer.host_id}"]
    parts += ["a replica"] if peer.persistent else []
    parts += [f"{peer.finished_pieces.bit_count()} pieces"] if peer.finished_pieces else []
    parts += [f"blocks {' '.join(peer.block_parents)}"] if peer.block_parents else []
    return [", ".join(parts)]


def _at(world: PersistentWorld, words: Words, _: Options) -> list[str]:
    world.advance(float(words[0]))
    return []


_COMMANDS: dict[str, Callable[[PersistentWorld, Words, Options], list[str]]] = {
    "announce": _announce,
    "upload-started": _upload_started,
    "upload-finished": lambda world, words, _: told(world.upload_finished(words[0], *words[2:])),
    "upload-failed": lambda world, words, _: told(world.upload_failed(words[0], *words[2:])),
    "register": _register,
    "started": lambda world, words, _: told(world.started(words[0])),
    "finished": lambda world, words, _: told(world.finished(words[0])),
    "failed": lambda world, words, _: told(world.failed(words[0])),
    "closed": lambda world, words, _: told(world.closed(words[0])),
    "at-source": lambda world, words, _: told(world.at_source(words[0])),
    "finished-from-source": lambda world, words, _: told(world.finished_from_source(words[0])),
    "failed-from-source": lambda world, words, _: told(world.failed_from_source(words[0])),
    "pieces": lambda world, words, _: told(world.pieces(words[0], *map(int, words[1:]))),
    "piece-failed": lambda world, words, _: told(
        world.piece_failed(words[0], words[2], temporary="for-good" not in words)
    ),
    "reschedule": lambda world, words, _: told(world.reschedule(words[0], *words[3:])),
    "count-replicas": lambda world, words, _: told(world.count(*words[1:])),
    "keeps": lambda world, words, _: told(world.kept(words[0])),
    "leave": lambda world, words, _: told(world.leave(words[0])),
    "delete-peer": lambda world, words, _: told(world.delete_peer(words[0])),
    "delete-task": lambda world, _words, _: told(world.delete_task()),
    "at": _at,
    "task": _task,
    "peer": _peer,
}
