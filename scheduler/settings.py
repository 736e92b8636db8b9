"""The scheduler's settings: every value with its unit, its default and the reason for it.

`odonata.settings.load(SchedulerSettings, ...)` fills them from the command line, the environment, a
YAML file and the defaults below, in this order. The keys are those of Dragonfly's scheduler 2.5;
older spellings and keys without effect are listed in `odonata.settings.dialect`. "Dragonfly's
default" below means its code, not its documentation.

The core never sees this object: the runtime hands it small frozen values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from odonata.settings.database import RedisSettings
from odonata.settings.dialect import SCHEDULER, Dialect
from odonata.settings.log import ProgramSettings
from odonata.settings.place import state_dir
from odonata.settings.section import Section
from odonata.settings.value import (
    Count,
    FilePath,
    Ip,
    ListenAddress,
    Port,
    PositiveCount,
    Seconds,
)
from odonata.telemetry.settings import TelemetrySettings, default_dir
from odonata.tracing.settings import TracingSettings
from odonata.wire.dragonfly.feature import MAX_SHARE_COUNT

# Dragonfly's bounds.
CandidateLimit = Annotated[int, Field(ge=1, le=20)]

Share = Annotated[float, Field(ge=0, le=1)]
CheckInterval = Annotated[Seconds, Field(ge=0.01)]

MODEL_PLACE = "models/parent-ranker"
"""Below the state folder."""


class ServerSettings(Section):
    """Where the gRPC service listens, and what it calls itself towards others."""

    listen_ip: Ip = "0.0.0.0"
    """Every address: peers of other hosts must reach it."""
    port: Port = 8002
    """Dragonfly's default. With several workers that of the first; the next follow it."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Independent schedulers on consecutive ports (the status pages likewise), each a process. One
    uses one core; clients spread their tasks over all addresses they are told."""
    advertise_ip: Ip | None = None
    """What others are told. None: the runtime finds it."""
    advertise_port: Port | None = None
    """None: the port it listens on."""
    request_rate_limit: PositiveCount = 4000
    """Calls a second (unary calls and new streams) before RESOURCE_EXHAUSTED. Dragonfly's default.
    """
    transport: Literal["h2", "grpcio"] = "h2"
    """Whose HTTP/2 carries gRPC: our own (several times as many calls for the same CPU), or
    grpcio's. Clients see no difference."""


class SchedulerGcSettings(Section):
    """When the scheduler forgets."""

    piece_download_timeout_s: Seconds = 30 * 60.0
    """A downloading peer without a new piece for this long is taken for gone. Dragonfly's default.
    """
    peer_gc_interval_s: Seconds = 10.0
    """Dragonfly's default."""
    peer_ttl_s: Seconds = 24 * 3600.0
    """A peer that nothing was heard of. Dragonfly's default."""
    task_gc_interval_s: Seconds = 30 * 60.0
    """A task goes when it has no peers. Dragonfly's default."""
    host_gc_interval_s: Seconds = 60.0
    """Dragonfly's 5 min turn "two announcements missed" into up to 15; a pass costs little."""
    host_ttl_s: Seconds = 3600.0
    """A host that did not say how often it announces itself. Dragonfly's default."""


class SchedulingSettings(Section):
    """How parents are chosen."""

    algorithm: Literal["default", "dragonfly", "rule", "random", "round_robin", "learned"] = (
        "default"
    )
    """Who ranks the candidates. "default": the learned model while one is published (see `model`),
    else our rule; Dragonfly's files say this. "learned": the same, but a missing model is warned
    of. "rule": always our rule. "dragonfly": Dragonfly's own, formula for formula. "random":
    nobody. "round_robin": whoever has waited longest for a child."""
    exploration: Share = 0.02
    """Share of the decisions in which parents are drawn among all that are fit to serve, so that
    what is learned is not only what was believed. 5 % was measured to cost 0-15 % of the p99; 2 %
    is the least from which a day of decisions teaches anything. 0 switches it off."""
    back_to_source_count: Count = 200
    """Peers of one task that may fetch from the source by themselves. Dragonfly's default."""
    graph: Literal["dag", "mesh"] = "mesh"
    """Whether two peers of ours may feed each other different pieces. "dag": nobody is its own
    ancestor, as in Dragonfly. Stock peers never are, whatever this says. It holds for tasks that
    begin after a restart."""
    candidate_parent_limit: CandidateLimit = 3
    """Parents in one answer to a stock peer. Dragonfly's code says 3, its documents 4."""
    mesh_parent_limit: CandidateLimit = 8
    """Parents of a peer of ours in a mesh: topped up as others join."""
    decision_log_share: Share = 0.001
    """Share of the decisions that are logged in full (`decision_sampled`: candidates, features,
    scores, choice), about 5 KB each: a trail that outlives the process, unlike `odonata explain`.
    A thousandth is a line or two a second on the busiest scheduler; 0 switches it off."""
    gc: SchedulerGcSettings = SchedulerGcSettings()


class ModelSettings(Section):
    """The learned ranker: where it is published, and how far it is trusted."""

    enable: bool = True
    """False: no model is looked for, and "default" is the rule."""
    dir: FilePath = Path("/var/lib/odonata") / MODEL_PLACE
    """The place that is watched: `<dir>/current` leads to the bundle that serves. Below the user's
    state folder if not root."""
    check_interval_s: CheckInterval = 2.0
    """How often the place is looked at: three file names, so it costs nothing; and a model that
    was taken away ranks no longer than this."""
    budget_s: Seconds = 0.005
    """The longest a model may take for one decision; beyond it the rule makes it. Two heads of 150
    trees take 0.8 ms for 40 candidates, 3.7 ms for 128 (p99, one thread, 2 busy cores)."""


class MetricsSettings(Section):
    """The page for monitoring and explanations: /metrics, /healthz, /explain, /hosts and more."""

    enable: bool = False
    """Dragonfly's default."""
    addr: ListenAddress = "127.0.0.1:8000"
    """Where it listens. Dragonfly's port; its ":8000" is every address of the machine."""
    enable_host: bool = False
    """Whether traffic is also counted by host (`dragonfly_scheduler_host_traffic`): up to 8 series
    for each of 5,000 hosts. Dragonfly's default."""
    explain_remotely: bool = False
    """Whether /explain, /hosts and /model, which tell ids of peers and hosts, also answer other
    machines."""


class PreheatSettings(Section):
    """How contents are fetched ahead of time (PreheatImage, PreheatFile)."""

    enable_task_id_based_blob_digest: bool = True
    """Whether the blobs of an image are named by their digests, as our daemons name them unless
    proxy.registryMirror.enableTaskIDBasedBlobDigest is false there. Set false for a swarm of stock
    daemons, which by default name them by URL; a request can only switch it on."""


class HostSettings(Section):
    """Where this scheduler stands."""

    idc: str = ""
    location: str = ""


class ManagerLinkSettings(Section):
    """The manager this scheduler reports to."""

    addr: str | None = None
    """host:port. None: the scheduler stands alone."""
    scheduler_cluster_id: PositiveCount = 1
    """The cluster it serves: a part of its Redis keys. Dragonfly's default."""


class DynConfigSettings(Section):
    """What may change while the scheduler runs (see `scheduler.cluster_file`)."""

    file: FilePath | None = None
    """YAML with applications, limits and block lists; read again and again. None: there are none.
    """
    refresh_interval_s: CheckInterval = 60.0
    """How often. Dragonfly's default; a `refreshInterval` in the file itself wins."""


class DatabaseSettings(Section):
    """The Redis that the schedulers of a cluster share for persistent tasks, and later for jobs."""

    redis: RedisSettings = RedisSettings()
    """Without it persistent tasks are refused; standard ones never need it."""


class SeedPeerSettings(Section):
    """How seeds are triggered."""

    task_download_timeout_s: Seconds = 10 * 3600.0
    """The longest a seed may take for one task. Dragonfly's default."""
    seeds_per_task: Annotated[int, Field(ge=1, le=MAX_SHARE_COUNT)] = 2
    """Seeds of ours that fetch one task together, each its share, if there are so many. Two with
    uplinks as thin as a peer's make 8 peers 1.8 times and 24 peers 1.4 times as fast as one
    (simulated); with three it is 2.1 and 1.4 times. 1: each alone, as in Dragonfly."""


class SchedulerSettings(ProgramSettings):
    """All settings of `odonata scheduler`."""

    program: ClassVar[str] = "scheduler"
    dialect: ClassVar[Dialect] = SCHEDULER

    server: ServerSettings = ServerSettings()
    scheduler: SchedulingSettings = SchedulingSettings()
    host: HostSettings = HostSettings()
    manager: ManagerLinkSettings = ManagerLinkSettings()
    dyn_config: DynConfigSettings = DynConfigSettings()
    database: DatabaseSettings = DatabaseSettings()
    seed_peer: SeedPeerSettings = SeedPeerSettings()
    preheat: PreheatSettings = PreheatSettings()
    model: ModelSettings = ModelSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def computed_defaults(cls, environ: Mapping[str, str], uid: int) -> Mapping[str, Any]:
        """Folders: the system's for root, else the user's."""
        return {
            "telemetry.dir": str(default_dir(environ, uid)),
            "model.dir": str(state_dir(environ, uid) / MODEL_PLACE),
        }

    @model_validator(mode="after")
    def _a_model_may_be_asked(self) -> Self:
        if self.scheduler.algorithm == "learned" and not self.model.enable:
            raise ValueError(
                "scheduler.algorithm is learned, but model.enable is false: choose another "
                "algorithm, or enable the model"
            )
        return self
