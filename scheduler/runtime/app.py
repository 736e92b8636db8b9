"""Puts a scheduler together (settings, core, executor, service, server), starts and stops it.

One process, one event loop, one core. The command line is `scheduler.command`'s.
"""

from __future__ import annotations

import asyncio
import socket
from random import Random
from typing import Self

import structlog
from dragonfly_api import scheduler_pb2
from google.protobuf.internal import api_implementation

from odonata import collector
from odonata.call_limit import CallLimit
from odonata.errors import OdonataError
from odonata.grpc_client import target_of
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.server import H2GrpcServer
from odonata.grpc_server import GrpcServer
from odonata.service_run import run_until_stopped
from odonata.telemetry.segment import Origin
from odonata.telemetry.writer import open_recorder
from odonata.wire.contact import SERVICE as CONTACT
from odonata.wire.message import Host
from scheduler.core.cluster import ClusterConfig
from scheduler.core.core import SchedulerCore
from scheduler.core.event import ClusterConfigured, SeedFailed
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits
from scheduler.core.preheat import Assignment
from scheduler.runtime.cache_service import CacheService
from scheduler.runtime.cluster_watch import ClusterWatch
from scheduler.runtime.contact import ContactService
from scheduler.runtime.daemon_calls import DaemonCalls
from scheduler.runtime.executor import Executor
from scheduler.runtime.metrics import RankingTime, SchedulerMetrics, Sources
from scheduler.runtime.observation import Observation
from scheduler.runtime.persistent.app import PersistentPart
from scheduler.runtime.preheat_job import PreheatJobs
from scheduler.runtime.preheat_service import PreheatOptions, PreheatService
from scheduler.runtime.ranking import LiveRanker
from scheduler.runtime.seed_trigger import SeedTrigger
from scheduler.runtime.service import FEATURES, SchedulerService
from scheduler.runtime.status_page import StatusPage
from scheduler.settings import SchedulerSettings

# Streams are told at once that the scheduler goes; this is for the last words to leave.
STOP_GRACE_S = 2.0

DEAD_AFTER_S = 4.0
"""Silence of a connection that carries a stream: with what the core then does, a vanished machine
is left to itself within 5 s. Costs a ping and its answer every 2 s and connection."""

_log = structlog.get_logger(__name__)


def limits_of(settings: SchedulerSettings) -> Limits:
    """The core's numbers that an operator may set; the others keep their reasons and defaults."""
    scheduling = settings.scheduler
    return Limits(
        graph=GraphKind(scheduling.graph),
        candidate_parent_limit=scheduling.candidate_parent_limit,
        mesh_parent_limit=scheduling.mesh_parent_limit,
        exploration=scheduling.exploration,
        records=settings.telemetry.enable,
        back_to_source_limit=scheduling.back_to_source_count,
        peer_gc_interval_s=scheduling.gc.peer_gc_interval_s,
        host_gc_interval_s=scheduling.gc.host_gc_interval_s,
        task_gc_interval_s=scheduling.gc.task_gc_interval_s,
        piece_timeout_s=scheduling.gc.piece_download_timeout_s,
        peer_ttl_s=scheduling.gc.peer_ttl_s,
        host_ttl_s=scheduling.gc.host_ttl_s,
        seed_flight_timeout_s=settings.seed_peer.task_download_timeout_s,
        seeds_per_task=settings.seed_peer.seeds_per_task,
    )


def _preheat_options(settings: SchedulerSettings) -> PreheatOptions:
    return PreheatOptions(
        blob_digest_ids=settings.preheat.enable_task_id_based_blob_digest,
        remote_ip=settings.server.advertise_ip,
    )


class SchedulerApp:
    """A scheduler that can be started and stopped once. Make it inside a running event loop.

    `rng` draws the core's random numbers; give a seeded one to replay a run. `limits`: what the
    core obeys, for whoever compares policies; None: as the settings have it.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        rng: Random | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._settings = settings
        # Both carry the same services; see odonata.grpc_service.
        self._server = (
            H2GrpcServer(H2Limits().noticing(DEAD_AFTER_S))
            if settings.server.transport == "h2"
            else GrpcServer(dead_after_s=DEAD_AFTER_S)
        )
        ranking_time = RankingTime()
        self.ranker = LiveRanker(settings, ranking_time.observe)
        rng = rng or Random()  # noqa: S311  # no secret is drawn
        core = SchedulerCore(limits or limits_of(settings), self.ranker, rng)
        self.core = core
        origin = Origin(host=socket.gethostname(), program=settings.program)
        clock = asyncio.get_running_loop().time
        self.recorder = open_recorder(settings.telemetry, origin, clock)
        self.observation = Observation(settings, core, clock, origin.host)
        self._seeds = SeedTrigger(
            settings.seed_peer.task_download_timeout_s, self.observation.tracer
        )
        self.executor = Executor(core, self._seeds, self.recorder)
        self._limit = CallLimit(settings.server.request_rate_limit, self.executor.now)
        calls = DaemonCalls(self._seeds)
        self.preheats = PreheatJobs(calls, self._seed_is_unreachable)
        self.cluster_watch = ClusterWatch(settings.dyn_config, self._configure)
        sources = Sources(
            core, self.ranker, self.executor, self.recorder, self._limit, self.preheats.counts
        )
        self.metrics = SchedulerMetrics(sources, ranking_time, self.observation)
        self.status_page = StatusPage(settings.metrics, self.metrics, core, self.ranker, clock)
        self._port: int | None = None
        standard = SchedulerService(self.executor, core, self.observation.observer)
        self.persistent = PersistentPart(settings, standard, rng)
        self._server.add_service(
            scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"],
            *self.persistent.parts,
            standard,
            CacheService(),
            PreheatService(core, calls, self.preheats, _preheat_options(settings)),
            admit=self._admit,
            stream_metadata=FEATURES,
            unary_metadata=FEATURES,
            watches=self.observation.watches,
        )
        self._server.add_service(CONTACT, ContactService(self.executor))

    def _admit(self) -> None:
        self._limit.take(self.executor.now)

    def _configure(self, config: ClusterConfig) -> None:
        self.executor.apply(ClusterConfigured(config=config))

    def _seed_is_unreachable(self, assignment: Assignment, host: Host, reason: str) -> None:
        if host.is_seed:
            self.executor.apply(
                SeedFailed(
                    task_id=assignment.task_id, host_id=host.id, reason=reason, unreachable=True
                )
            )

    @property
    def port(self) -> int:
        """The port it listens on, which the system may have chosen."""
        assert self._port is not None, "the port is known once the scheduler was started"
        return self._port

    @property
    def address(self) -> str:
        """Where it listens: "ip:port"."""
        return target_of(self._settings.server.listen_ip, self.port)

    async def start(self) -> None:
        """Listen and serve. Raises UnavailableError (port in use) or SettingsError."""
        server = self._settings.server
        try:
            self._port = self._server.bind_tcp(server.listen_ip, server.port, "server.port")
            await self.status_page.start()
            await self.ranker.start()
            await self.cluster_watch.start()
            await self.persistent.start()
            await self._server.start()
        except OdonataError:
            await self._server.stop(0)
            await self._close_rest()
            raise
        _log.info("scheduler_started", address=self.address)
        if self.status_page.address:
            _log.info("status_page_opened", address=self.status_page.address)
        if api_implementation.Type() != "upb":
            _log.warning("slow_protobuf_found", kind=api_implementation.Type())

    async def stop(self) -> None:
        """Refuse new calls, end the streams (UNAVAILABLE), close everything."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.stop(STOP_GRACE_S))
            tasks.create_task(self.executor.close())
            tasks.create_task(self.preheats.close())
        await self._seeds.close()
        await self._close_rest()
        _log.info("scheduler_stopped", address=self.address)

    async def _close_rest(self) -> None:
        await self.persistent.close()
        await self.status_page.close()
        await self.ranker.close()
        await self.cluster_watch.close()
        await self.observation.close()
        await asyncio.to_thread(self.recorder.close)

    async def __aenter__(self) -> Self:
        """`start`."""
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """`stop`."""
        await self.stop()


async def run(settings: SchedulerSettings) -> None:
    """Run a scheduler until it is told to stop. Raises what `SchedulerApp.start` raises."""
    collector.look_seldom()
    await run_until_stopped(SchedulerApp(settings))
