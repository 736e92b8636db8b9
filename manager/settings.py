"""The manager's settings, so that its file loads and prints; the program itself comes later.

The keys are those of Dragonfly's manager 2.5; see `odonata.settings.dialect` for older ones and
those without effect.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import SecretStr

from odonata.settings.database import RedisSettings
from odonata.settings.dialect import MANAGER, Dialect
from odonata.settings.log import ProgramSettings
from odonata.settings.section import Section
from odonata.settings.value import FilePath, Ip, Port, PositiveCount, Seconds


class PortRangeSettings(Section):
    """The first free port of a range is taken."""

    start: Port = 65003
    """Dragonfly's default."""
    end: Port = 65003


class GrpcSettings(Section):
    """The service for schedulers and peers."""

    advertise_ip: Ip | None = None
    """What others are told. None: found at start."""
    listen_ip: Ip = "0.0.0.0"
    port: PortRangeSettings = PortRangeSettings()
    request_rate_limit: PositiveCount = 4000
    """Calls a second. Dragonfly's default."""


class RestSettings(Section):
    """REST and console."""

    addr: str = ":8080"
    """[host]:port. Dragonfly's default."""


class ServerSettings(Section):
    """Where the manager listens."""

    name: str = ""
    grpc: GrpcSettings = GrpcSettings()
    rest: RestSettings = RestSettings()


class SqlSettings(Section):
    """A SQL server."""

    user: str = ""
    password: SecretStr = SecretStr("")
    host: str = "127.0.0.1"
    port: Port = 3306
    dbname: str = "manager"
    """Dragonfly's default."""
    migrate: bool = True
    """Bring the tables up to date at start. Dragonfly's default."""


class PostgresSettings(SqlSettings):
    """A PostgreSQL server."""

    port: Port = 5432


class DatabaseSettings(Section):
    """Where the manager keeps its state."""

    type: Literal["sqlite", "mysql", "mariadb", "postgres"] = "sqlite"
    """SQLite needs no server; Dragonfly's default is mysql."""
    mysql: SqlSettings = SqlSettings()
    """For mysql and mariadb."""
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()


class JwtSettings(Section):
    """Tokens of the console's users."""

    realm: str = "Odonata"
    key: SecretStr | None = None
    """Signs the tokens. None: made at the first start and kept in the database."""
    timeout_s: Seconds = 14 * 24 * 3600.0
    """Dragonfly's default."""
    max_refresh_s: Seconds = 7 * 24 * 3600.0
    """Dragonfly's default."""


class AuthSettings(Section):
    """Who may use the console."""

    jwt: JwtSettings = JwtSettings()


class PreheatTlsSettings(Section):
    """Trust in registries with a private authority."""

    insecure_skip_verify: bool = False
    ca_cert: FilePath | None = None
    """PEM file."""


class PreheatSettings(Section):
    """Preheat jobs ask the registry for manifests."""

    registry_timeout_s: Seconds = 60.0
    """One request. Dragonfly's default."""
    tls: PreheatTlsSettings = PreheatTlsSettings()


class JobSettings(Section):
    """Jobs for schedulers."""

    preheat: PreheatSettings = PreheatSettings()


class ManagerSettings(ProgramSettings):
    """All settings of the manager."""

    program: ClassVar[str] = "manager"
    dialect: ClassVar[Dialect] = MANAGER

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    auth: AuthSettings = AuthSettings()
    job: JobSettings = JobSettings()
