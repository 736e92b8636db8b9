"""Settings of databases that more than one program uses. No driver is imported here."""

from __future__ import annotations

from pydantic import SecretStr

from odonata.settings.section import Section
from odonata.settings.value import Count, FilePath, HostPort, PositiveCount, Seconds


class RedisTlsSettings(Section):
    """TLS towards Redis. Naming any file, or insecureSkipVerify, switches it on."""

    ca_cert: FilePath | None = None
    """PEM file with the authority of the server's certificate. None: the system's."""
    cert: FilePath | None = None
    """PEM file with this program's own certificate, if the server asks for one."""
    key: FilePath | None = None
    """PEM file with its key."""
    insecure_skip_verify: bool = False
    """Take whatever certificate the server shows."""

    @property
    def is_on(self) -> bool:
        """Whether the connection is by TLS."""
        return bool(self.ca_cert or self.cert or self.key or self.insecure_skip_verify)


class RedisSettings(Section):
    """A Redis or Valkey server."""

    addrs: tuple[HostPort, ...] = ()
    """Where it is; with masterName, where its sentinels are. None: there is no Redis."""
    master_name: str = ""
    """What the sentinels call the server. Empty: addrs is the server itself."""
    username: str = ""
    password: SecretStr = SecretStr("")
    sentinel_username: str = ""
    sentinel_password: SecretStr = SecretStr("")
    db: Count = 0
    """Number of the database. Dragonfly's default."""
    broker_db: Count = 1
    """Number of the database for job queues. Dragonfly's default."""
    backend_db: Count = 2
    """Number of the database for job results. Dragonfly's default."""
    pool_size: PositiveCount = 20
    """Connections that may be open at once. The default of Dragonfly's scheduler."""
    pool_timeout_s: Seconds = 10.0
    """The longest that a request waits for a free one. Dragonfly's default."""
    tls: RedisTlsSettings = RedisTlsSettings()
