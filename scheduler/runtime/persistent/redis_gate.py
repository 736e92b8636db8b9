"""The way to Redis: one client, a bounded number of connections, deadlines, and our own errors.

Whatever Redis does, a caller gets its answer or an UnavailableError within `OPERATION_TIMEOUT_S`
plus `database.redis.poolTimeout`. A broken connection is replaced by the next operation. What is
stored is the store's business. Importing this module costs 0.2 s: a scheduler without Redis never
does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from odonata.errors import SettingsError, UnavailableError
from odonata.settings.database import RedisSettings

# Redis answers within a millisecond on a network that works; a caller waits 10 s at most (a stock
# client's request timeout), and is to be told before it gives up.
CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0
OPERATION_TIMEOUT_S = 5.0

_Sentinel: Any = Sentinel  # it ships with half its types

# Once at once: the first command on a pooled connection finds out that Redis was restarted.
_RETRIES = 1


class RedisGate:
    """Lets `database.redis.poolSize` operations in at once."""

    def __init__(self, settings: RedisSettings) -> None:
        """Connects to nothing yet. Raises SettingsError for addresses that make no sense."""
        self.name = ",".join(settings.addrs)
        self._client, self._sentinels = _open(settings)
        self._free = asyncio.Semaphore(settings.pool_size)
        self._pool_timeout_s = settings.pool_timeout_s

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[Any]:
        """The client for one operation. Its errors leave here as UnavailableError.

        Redis's client waits by `asyncio.wait_for`, which before Python 3.12 loses a cancellation
        that comes just as its own wait is over. Such a one is made good here: else a loop that was
        told to stop would go on for ever.
        """
        task = asyncio.current_task()
        assert task is not None, "operations are awaited by tasks"
        cancelled_before = task.cancelling()
        try:
            async with asyncio.timeout(self._pool_timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise UnavailableError(
                f"no connection to Redis {self.name} was free for {self._pool_timeout_s:g} s: try"
                " again, or raise database.redis.poolSize"
            ) from None
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                yield self._client
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise self._unavailable(error) from error
        finally:
            self._free.release()
            if task.cancelling() > cancelled_before:
                raise asyncio.CancelledError

    def _unavailable(self, error: Exception) -> UnavailableError:
        if isinstance(error, AuthenticationError):
            fix = "check database.redis.username and password"
        elif isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
            fix = "check that it runs and database.redis.addrs; standard tasks go on without it"
        else:
            fix = "its own log may say more"
        said = " ".join(str(error).split()) or type(error).__name__
        return UnavailableError(f"Redis {self.name} can't be used ({said}): {fix}")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        for sentinel in self._sentinels:
            await sentinel.aclose()


def _open(settings: RedisSettings) -> tuple[Any, list[Any]]:
    """The client, and those of the sentinels it asks for its server."""
    where = [_host_port(address) for address in settings.addrs]
    common: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "retry": Retry(NoBackoff(), _RETRIES),
        "protocol": 2,
        **_tls(settings),
    }
    own: dict[str, Any] = {
        **common,
        "db": settings.db,
        "username": settings.username or None,
        "password": settings.password.get_secret_value() or None,
    }
    if settings.master_name:
        credentials: dict[str, Any] = {
            "username": settings.sentinel_username or None,
            "password": settings.sentinel_password.get_secret_value() or None,
        }
        sentinel = _Sentinel(where, sentinel_kwargs={**common, **credentials}, **own)
        return sentinel.master_for(settings.master_name), sentinel.sentinels
    if len(where) != 1:
        raise SettingsError(
            f"database.redis.addrs names {len(where)} servers: name one, or set"
            " database.redis.masterName if they are sentinels (a Redis Cluster can't hold what"
            " belongs to one task together)"
        )
    host, port = where[0]
    return Redis(host=host, port=port, **own), []


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _tls(settings: RedisSettings) -> dict[str, Any]:
    tls = settings.tls
    if not tls.is_on:
        return {}
    names = {"ssl_ca_certs": tls.ca_cert, "ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    return {
        "ssl": True,
        "ssl_cert_reqs": "none" if tls.insecure_skip_verify else "required",
        "ssl_check_hostname": not tls.insecure_skip_verify,
        **{name: str(path) for name, path in names.items() if path is not None},
    }
