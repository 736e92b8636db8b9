"""Persistent tasks of one kind in Redis: load a snapshot, decide, write, all or nothing.

An event is handled under optimistic locking: what was read is watched, and if another scheduler
wrote to it meanwhile, nothing is written and the event is decided again on what is true now. So two
schedulers of a cluster never lose an update. What is read and watched is as little as the event
needs (`Scope`): a thousand readers of one task don't disturb each other. Within this process events
that would do so queue up.

Time to live is Redis's: a task, its peers and its sets expire together. The set of a host's peers
outlives all of them. No decision is made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import msgspec
from dragonfly_api import common_pb2
from redis.exceptions import WatchError

from odonata.errors import StorageError, UnavailableError
from scheduler.core.persistent.effect import (
    DropPeer,
    DropTask,
    PersistentEffect,
    PersistentWrite,
    PutPeer,
    PutTask,
)
from scheduler.core.persistent.event import Scope
from scheduler.core.persistent.state import Kind, Peer, PeerHost, Snapshot
from scheduler.runtime.persistent.fields import (
    PEER_FIELDS,
    PEER_HOST_FIELDS,
    Fields,
    host_created_at,
    host_from_fields,
    host_to_fields,
    peer_from_fields,
    peer_host_from_fields,
    peer_to_fields,
    task_from_fields,
    task_to_fields,
)
from scheduler.runtime.persistent.keys import Keys
from scheduler.runtime.persistent.redis_gate import RedisGate

Decide = Callable[[Snapshot], list[PersistentEffect]]

# Schedulers of one cluster that write to one task at the same moment: each round one of them gets
# through, and a cluster has a handful.
MAX_ATTEMPTS = 16

# Longer than any task lives (7 days): a host's set of peers never expires before its peers do.
_HOST_SET_TTL_MS: Final = 8 * 24 * 3600 * 1000

# Commands in one write: enough that round trips don't count, few enough that Redis serves others.
_BATCH = 500

# Everything about one task in one round trip, most of it as one MessagePack: a client reads that 20
# times as fast as the same in Redis's protocol. ARGV: prefixes of peer and host keys, the event's
# host and peer (or ""), "1" for that peer alone, number of a peer's fields, those, then a host's.
_LOAD: Final = """
local peer_fields, host_fields = {}, {}
for place = 7, #ARGV do
  local fields = place < 7 + tonumber(ARGV[6]) and peer_fields or host_fields
  fields[#fields + 1] = ARGV[place]
end
local hosts, seen, peers = {}, {}, {}
local function add_host(id)
  if id and id ~= '' and not seen[id] then
    seen[id] = true
    hosts[#hosts + 1] = {id, redis.call('HMGET', ARGV[2] .. id, unpack(host_fields))}
  end
end
local function add_peer(id)
  local key = ARGV[1] .. id
  peers[#peers + 1] = {id, redis.call('HMGET', key, unpack(peer_fields))}
  add_host(redis.call('HGET', key, 'host_id'))
end
add_host(ARGV[3])
local own = ARGV[1] .. ARGV[4]
if ARGV[5] == '1' then
  if redis.call('SISMEMBER', KEYS[2], ARGV[4]) == 1 then add_peer(ARGV[4]) end
else
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do add_peer(id) end
end
return {
  redis.call('HGETALL', KEYS[1]), cmsgpack.pack({peers, hosts}),
  redis.call('HGET', own, 'task_id') or '', redis.call('HGET', own, 'finished_pieces') or ''
}
"""

# The host is gone for good, unless it announced itself again while its tasks were seen to.
_FORGET_HOST: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[3])
end
"""


_Row = tuple[str, list[str | bool | None]]
_Read = dict[bytes, bytes]


class _Load(NamedTuple):
    """What is loaded for one event."""

    task_id: str
    host_id: str
    peer_id: str
    scope: Scope


class PersistentStore:
    """All tasks of `kind` in cluster `cluster_id`. Raises UnavailableError when Redis fails."""

    def __init__(self, gate: RedisGate, cluster_id: int, kind: Kind) -> None:
        self.kind = kind
        self.keys = Keys(cluster_id, kind)
        self._gate = gate
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # --- one task ---------------------------------------------------------------------------------

    async def load(self, task_id: str, *, host_id: str = "", peer_id: str = "") -> Snapshot:
        """The task as it is now, with host `host_id` beside those of its peers.

        Which pieces a peer has is told of `peer_id` alone.
        """
        async with self._gate.enter() as client:
            snapshot, _ = await self._load(client, _Load(task_id, host_id, peer_id, Scope.TASK))
        return snapshot

    async def transact(
        self,
        task_id: str,
        decide: Decide,
        now: float,
        *,
        host_id: str = "",
        peer_id: str = "",
        scope: Scope = Scope.TASK,
    ) -> list[PersistentEffect]:
        """Decide on the task and write what came of it; returns what is left to be done.

        `decide` may be called more than once; only its last answer counts. `now`: seconds since
        1970, for how long things live. `scope`: what it may look at and change.
        """
        load = _Load(task_id, host_id, peer_id, scope)
        name = task_id if scope is Scope.TASK else f"{task_id} {peer_id}"
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        async with lock:
            for _ in range(MAX_ATTEMPTS):
                try:
                    async with self._gate.enter() as client:
                        return await self._try(client, load, decide, now)
                except UnavailableError as error:
                    if not isinstance(error.__cause__, WatchError):
                        raise
        raise UnavailableError(
            f"{self.kind} task {task_id} was changed by other schedulers {MAX_ATTEMPTS} times in a"
            " row: try again"
        )

    async def _try(
        self, client: Any, load: _Load, decide: Decide, now: float
    ) -> list[PersistentEffect]:
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(*self._watched(load))
            snapshot, stale = await self._load(pipe, load)
            effects = decide(snapshot)
            writes = [effect for effect in effects if isinstance(effect, PersistentWrite)]
            if writes:
                pipe.multi()
                self._forget_stale(pipe, load.task_id, stale)
                for write in writes:
                    self._write(pipe, write, snapshot, now)
                await pipe.execute()
        return [effect for effect in effects if not isinstance(effect, PersistentWrite)]

    def _watched(self, load: _Load) -> list[str]:
        keys = self.keys
        watched = [keys.task(load.task_id)]
        watched += [keys.peers_of_task(load.task_id)] if load.scope is Scope.TASK else []
        watched += [keys.host(load.host_id)] if load.host_id else []
        watched += [keys.peer(load.peer_id)] if load.peer_id else []
        return watched

    async def _load(self, client: Any, load: _Load) -> tuple[Snapshot, list[str]]:
        """The snapshot, and ids in the task's sets of peers that are no more."""
        keys = (self.keys.task(load.task_id), self.keys.peers_of_task(load.task_id))
        prefixes = (self.keys.peer_prefix, self.keys.host_prefix)
        alone = str(int(load.scope is Scope.PEER))
        task, packed, owner, pieces = await client.eval(
            *(_LOAD, len(keys), *keys, *prefixes, load.host_id, load.peer_id, alone),
            *(len(PEER_FIELDS), *PEER_FIELDS, *PEER_HOST_FIELDS),
        )
        peers, hosts = self._unpack(packed)
        task_fields = _pairs(task)
        known = {peer_id: _named(PEER_FIELDS, values) for peer_id, values in peers}
        if known.get(load.peer_id):
            known[load.peer_id][b"finished_pieces"] = pieces
        other = owner.decode()
        snapshot = Snapshot(
            kind=self.kind,
            task_id=load.task_id,
            task=task_from_fields(keys[0], task_fields) if task_fields else None,
            peers={
                peer_id: peer_from_fields(self.keys.peer(peer_id), fields)
                for peer_id, fields in known.items()
                if fields
            },
            hosts=self._hosts(hosts),
            taken_by=other if other != load.task_id else "",
        )
        return snapshot, [peer_id for peer_id, fields in known.items() if not fields]

    def _unpack(self, packed: bytes) -> tuple[list[_Row], list[_Row]]:
        try:
            return msgspec.msgpack.decode(packed, type=tuple[list[_Row], list[_Row]])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(
                f"a peer or host of the {self.kind} tasks in Redis can't be read ({error}): it was"
                " not written by a scheduler"
            ) from error

    def _hosts(self, rows: Iterable[_Row]) -> dict[str, PeerHost]:
        found: dict[str, PeerHost] = {}
        for host_id, values in rows:
            host = peer_host_from_fields(self.keys.host(host_id), _named(PEER_HOST_FIELDS, values))
            if host is not None:
                found[host_id] = host
        return found

    def _forget_stale(self, pipe: Any, task_id: str, stale: list[str]) -> None:
        if stale:
            pipe.srem(self.keys.peers_of_task(task_id), *stale)
            pipe.srem(self.keys.replicas_of_task(task_id), *stale)

    def _write(self, pipe: Any, write: PersistentWrite, snapshot: Snapshot, now: float) -> None:
        keys = self.keys
        match write:
            case PutTask(task=task):
                pipe.hset(keys.task(task.id), mapping=task_to_fields(task))
                for key in self._keys_of_task(task.id):
                    pipe.pexpire(key, _left_ms(task.expires_at_s, now))
            case PutPeer(peer=peer, expires_at_s=expires_at_s):
                left_ms = _left_ms(expires_at_s, now)
                pipe.hset(keys.peer(peer.id), mapping=peer_to_fields(peer))
                pipe.pexpire(keys.peer(peer.id), left_ms)
                known = snapshot.peers.get(peer.id)
                # Touching the sets for nothing would make others decide again.
                if known is None or known.is_replica != peer.is_replica:
                    self._enter_peer(pipe, peer, left_ms)
            case DropPeer(peer=peer):
                pipe.delete(keys.peer(peer.id))
                pipe.srem(keys.peers_of_task(peer.task_id), peer.id)
                pipe.srem(keys.replicas_of_task(peer.task_id), peer.id)
                pipe.srem(keys.peers_of_host(peer.host_id), peer.id)
            case DropTask(task_id=task_id):
                pipe.delete(*self._keys_of_task(task_id))

    def _enter_peer(self, pipe: Any, peer: Peer, left_ms: int) -> None:
        keys = self.keys
        replicas = keys.replicas_of_task(peer.task_id)
        pipe.sadd(keys.peers_of_task(peer.task_id), peer.id)
        pipe.pexpire(keys.peers_of_task(peer.task_id), left_ms)
        if peer.is_replica:
            pipe.sadd(replicas, peer.id)
            pipe.pexpire(replicas, left_ms)
        else:
            pipe.srem(replicas, peer.id)
        pipe.sadd(keys.peers_of_host(peer.host_id), peer.id)
        pipe.pexpire(keys.peers_of_host(peer.host_id), _HOST_SET_TTL_MS)

    def _keys_of_task(self, task_id: str) -> tuple[str, str, str]:
        keys = self.keys
        return keys.task(task_id), keys.peers_of_task(task_id), keys.replicas_of_task(task_id)

    # --- hosts ------------------------------------------------------------------------------------

    async def put_host(self, host: common_pb2.Host, interval_s: float, now: float) -> None:
        """The host announced itself; again, if it is known."""
        key = self.keys.host(host.id)
        async with self._gate.enter() as client, client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, "created_at", host_created_at(now))
            pipe.hset(key, mapping=host_to_fields(host, interval_s, now))
            pipe.sadd(self.keys.hosts, host.id)
            await pipe.execute()

    async def begin_host_departure(self, host_id: str) -> list[str]:
        """Let the host take part no more; returns the ids of the tasks it has copies of."""
        async with self._gate.enter() as client:
            await client.delete(self.keys.host(host_id))
            peer_ids = await client.smembers(self.keys.peers_of_host(host_id))
            task_ids: set[str] = set()
            for batch in _batches(sorted(peer_ids)):
                pipe = client.pipeline(transaction=False)
                for peer_id in batch:
                    pipe.hget(self.keys.peer(peer_id.decode()), "task_id")
                task_ids |= {raw.decode() for raw in await pipe.execute() if raw is not None}
        return sorted(task_ids)

    async def end_host_departure(self, host_id: str) -> None:
        """Its copies are gone: forget it, unless it is back."""
        keys = (self.keys.host(host_id), self.keys.hosts, self.keys.peers_of_host(host_id))
        async with self._gate.enter() as client:
            await client.eval(_FORGET_HOST, len(keys), *keys, host_id)

    async def host_ids(self) -> set[str]:
        """Ids of all hosts, those whose departure has begun included."""
        async with self._gate.enter() as client:
            return {raw.decode() for raw in await client.smembers(self.keys.hosts)}

    async def hosts(self, host_ids: Iterable[str]) -> dict[str, PeerHost]:
        """What a decision asks of these hosts; unknown ones are left out."""
        found: dict[str, PeerHost] = {}
        for batch in _batches(list(host_ids)):
            async with self._gate.enter() as client:
                pipe = client.pipeline(transaction=False)
                for host_id in batch:
                    pipe.hmget(self.keys.host(host_id), PEER_HOST_FIELDS)
                rows = await pipe.execute()
            for host_id, values in zip(batch, rows, strict=True):
                fields = _named(PEER_HOST_FIELDS, values)
                host = peer_host_from_fields(self.keys.host(host_id), fields)
                if host is not None:
                    found[host_id] = host
        return found

    async def announced_hosts(self, host_ids: Iterable[str]) -> dict[str, common_pb2.Host]:
        """All that these few hosts said of themselves; unknown ones are left out."""
        ids = list(host_ids)
        async with self._gate.enter() as client:
            pipe = client.pipeline(transaction=False)
            for host_id in ids:
                pipe.hgetall(self.keys.host(host_id))
            rows = await pipe.execute()
        return {
            host_id: host_from_fields(self.keys.host(host_id), fields)
            for host_id, fields in zip(ids, rows, strict=True)
            if fields
        }

    # --- looking after all ------------------------------------------------------------------------

    async def take_sweep(self, hold_s: float) -> bool:
        """Whether this scheduler is the one to look after silent hosts and missing replicas."""
        async with self._gate.enter() as client:
            hold_ms = max(1, round(hold_s * 1000))
            return bool(await client.set(self.keys.sweep, b"1", nx=True, px=hold_ms))

    async def tasks_short_of_replicas(self) -> AsyncGenerator[str]:
        """Ids of finished tasks with fewer replicas, or replicas to be, than were asked for."""
        cursor = 0
        while True:
            async with self._gate.enter() as client:
                cursor, raw_keys = await client.scan(
                    cursor, match=f"{self.keys.task_prefix}*", count=_BATCH, _type="hash"
                )
                ids = [raw.decode().removeprefix(self.keys.task_prefix) for raw in raw_keys]
                pipe = client.pipeline(transaction=False)
                for task_id in ids:
                    pipe.hmget(self.keys.task(task_id), "state", "persistent_replica_count")
                    pipe.scard(self.keys.replicas_of_task(task_id))
                rows = await pipe.execute()
            for task_id, (state, wanted), held in zip(ids, rows[::2], rows[1::2], strict=True):
                if state == b"Succeeded" and held < int(wanted or 0):
                    yield task_id
            if not cursor:
                return


def _named(names: tuple[str, ...], values: Sequence[str | bytes | bool | None]) -> _Read:
    """The fields that are set: Lua says false where there is none."""
    return {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in zip(names, values, strict=True)
        if isinstance(value, str | bytes)
    }


def _pairs(flat: Sequence[bytes]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _left_ms(expires_at_s: float, now: float) -> int:
    return max(1, round((expires_at_s - now) * 1000))


def _batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
