"""Transcripts on the wire: requests of scheduler.v2 as protobuf text, with what is answered.

A line that is not indented is a request, a comment (#) or empty; the indented lines below it are
the answers. `play` sends the requests, as bytes, to the service and returns the text with what
came.

    RPC FIELDS                           a unary call, like: StatTask host_id: "h" task_id: "t"
    PEER of TASK on HOST: FIELDS         a message on the stream of PEER, which opens with the first
    PEER hangs up                        the client has no more to say on its stream
    PEER is cut off                      the client's connection breaks
    seed HOST fails                      the trigger of a seed that runs comes to nothing

FIELDS are in protobuf's text format. "_" as PEER, TASK or HOST is an empty id. Times are left out
of answers, and fields that hold their default. A message that is not answered shows nothing below
it: an answer that came all the same would stand under a later line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final

from dragonfly_api import scheduler_pb2
from google.protobuf import text_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from models.dragonfly import DragonflyRanker
from odonata.errors import OdonataError
from odonata.grpc_outlet import listened
from odonata.grpc_status import status_of
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import TriggerSeed
from scheduler.core.event import SeedFailed, SeedFinished
from scheduler.core.limits import Limits
from scheduler.runtime.executor import Executor
from scheduler.runtime.observation import Observation
from scheduler.runtime.service import SchedulerService
from scheduler.settings import SchedulerSettings

_SPOKEN: Final = re.compile(r"(\S+) of (\S+) on (\S+): (.*)")
_METHODS: Final = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"].methods_by_name
_TIMES: Final = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_MOMENT: Final = re.compile(r"\d+\.\d{3} s ")  # of a peer's story
_IDLE_ROUNDS: Final = 10
"""Turns of the event loop in which nothing happens before everything is said to have settled. From
a request to its answer on the stream it takes four: reader, core, queue, writer."""


async def play(text: str) -> str:
    """Send every request of a transcript to a new scheduler; return it with the answers."""
    world = _World()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {said}" for said in await world.run(line)]
    await world.close()
    return "\n".join(lines) + "\n"


class _Seeds:
    """Triggers that run until the transcript says how they end."""

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self.failed: dict[str, asyncio.Event] = {}

    async def run(self, effect: TriggerSeed) -> SeedFinished | SeedFailed:
        host_id = effect.host.id
        self._said.append(f"seed {host_id} is asked to fetch {effect.task_id}")
        self.failed[host_id] = asyncio.Event()
        await self.failed[host_id].wait()
        return SeedFailed(task_id=effect.task_id, host_id=host_id, reason="no", unreachable=True)


class _World:
    """A scheduler without a network: its service, and the streams that are open."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._seeds = _Seeds(self._said)
        core = SchedulerCore(Limits(), DragonflyRanker(), Random(1))
        self._executor = Executor(core, self._seeds)
        watching = Observation(SchedulerSettings(), core, lambda: 0.0, "host")
        self._service = SchedulerService(self._executor, core, watching.observer)
        self._streams: dict[str, _Stream] = {}

    async def run(self, line: str) -> list[str]:
        """Do what a line says; what was answered, by anybody."""
        spoken = _SPOKEN.fullmatch(line)
        if spoken is not None:
            self._speak(*spoken.groups())
        elif line.endswith(" hangs up"):
            self._streams[line.removesuffix(" hangs up")].say(None)
        elif line.endswith(" is cut off"):
            self._streams[line.removesuffix(" is cut off")].cut()
        elif line.startswith("seed ") and line.endswith(" fails"):
            self._seeds.failed[line.split()[1]].set()
        else:
            await self._call(*line.partition(" ")[::2])
        await self._settle()
        said = self._said[:]
        self._said.clear()
        return said

    async def close(self) -> None:
        for stream in self._streams.values():
            stream.cut()
        await self._executor.close()
        await self._settle()

    def _speak(self, peer: str, task: str, host: str, fields: str) -> None:
        request = text_format.Parse(fields, scheduler_pb2.AnnouncePeerRequest())
        request.host_id, request.task_id, request.peer_id = map(_named, (host, task, peer))
        stream = self._streams.get(peer)
        if stream is None or stream.is_over:
            stream = self._streams[peer] = _Stream(self._service, peer, self._said)
        stream.say(request.SerializeToString())

    async def _call(self, rpc: str, fields: str) -> None:
        kind = GetMessageClass(_METHODS[rpc].input_type)
        sent = text_format.Parse(fields, kind()).SerializeToString()
        try:
            answer = getattr(self._service, rpc)(kind.FromString(sent), _Context())
        except OdonataError as error:
            self._said.append(_status(error))
            return
        self._said += _lines("OK", answer)

    async def _settle(self) -> None:
        rounds = 0
        while rounds < _IDLE_ROUNDS:
            before = len(self._said)
            await asyncio.sleep(0)
            is_idle = all(stream.is_idle for stream in self._streams.values())
            rounds = rounds + 1 if is_idle and len(self._said) == before else 0


class _Context:
    """What the service sees of gRPC: `write` is where answers come out."""

    def __init__(self, peer: str = "", said: list[str] | None = None) -> None:
        self._peer = peer
        self._said = said

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, answer: scheduler_pb2.AnnouncePeerResponse) -> None:
        assert self._said is not None, "only streams are written to"
        kind = answer.WhichOneof("response")
        assert kind is not None, "an answer says something"
        self._said += _lines(f"{self._peer} <- {kind}", getattr(answer, kind))


class _Stream:
    """One AnnouncePeer stream, from its first message on."""

    def __init__(self, service: SchedulerService, peer: str, said: list[str]) -> None:
        self._peer = peer
        self._said = said
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_reading = False
        context = _Context(peer, said)
        self._task = asyncio.get_running_loop().create_task(self._run(service, context))

    @property
    def is_over(self) -> bool:
        return self._task.done()

    @property
    def is_idle(self) -> bool:
        """Whether nothing happens before the client says something, or another peer does."""
        return self.is_over or (self._is_reading and self._requests.empty())

    def say(self, request: bytes | None) -> None:
        self._requests.put_nowait(request)

    def cut(self) -> None:
        self._task.cancel()

    async def _run(self, service: SchedulerService, context: _Context) -> None:
        try:
            await listened(service.AnnouncePeer)(self._read(), context)
        except OdonataError as error:
            self._said.append(f"{self._peer} ends: {_status(error)}")
        else:
            self._said.append(f"{self._peer} ends: OK")

    async def _read(self) -> AsyncIterator[scheduler_pb2.AnnouncePeerRequest]:
        while True:
            self._is_reading = True
            request = await self._requests.get()
            self._is_reading = False
            if request is None:
                return
            yield scheduler_pb2.AnnouncePeerRequest.FromString(request)


def _named(word: str) -> str:
    return "" if word == "_" else word


def _status(error: OdonataError) -> str:
    status, detail, _ = status_of(error)
    return f"{status.name}: {_MOMENT.sub('', detail)}"


def _lines(head: str, message: Message) -> list[str]:
    """The message in one line, but for the members of a list, which have one each."""
    message = _without_times(message)
    lists: list[str] = []
    for field, values in message.ListFields():
        if field.is_repeated and field.message_type is not None:
            lists += [f"  {field.name} {{ {_text(value)} }}" for value in values]
            message.ClearField(field.name)
    return [f"{head} {_text(message)}".rstrip(), *lists]


def _text(message: Message) -> str:
    return text_format.MessageToString(message, as_one_line=True)


def _without_times(message: Message) -> Message:
    copy: Any = type(message)()
    copy.CopyFrom(message)
    for field, value in copy.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.full_name in _TIMES:
            copy.ClearField(field.name)
        elif field.is_repeated:
            inner = [_without_times(one) for one in value]
            copy.ClearField(field.name)
            getattr(copy, field.name).extend(inner)
        else:
            value.CopyFrom(_without_times(value))
    return copy  # type: ignore[no-any-return]  # the class of `message`
