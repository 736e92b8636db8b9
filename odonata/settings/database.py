"""Settings of databases that more than one program uses. No driver is imported here."""

from __future__ import annotations

from pydantic import SecretStr

from odonata.settings.section import Section
from odonata.settings.value import Count, HostPort


class RedisSettings(Section):
    """A Redis or Valkey server."""

    addrs: tuple[HostPort, ...] = ()
    """None: the embedded one."""
    username: str = ""
    password: SecretStr = SecretStr("")
    db: Count = 0
    """Number of the database for the cache. Dragonfly's default."""
    broker_db: Count = 1
    """Number of the database for job queues. Dragonfly's default."""
    backend_db: Count = 2
    """Number of the database for job results. Dragonfly's default."""
