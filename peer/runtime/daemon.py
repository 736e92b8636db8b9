"""Puts a peer daemon together (storage, pieces, sources, services, proxy), starts and stops it.

    start: storage -> piece server -> upload port -> schedulers -> unix socket -> proxy
    stop:  proxy -> unix socket -> schedulers told -> upload port -> downloads -> pieces -> storage

Whatever is asked of this host works before the schedulers hear of it; users come last, so that the
first download already knows its scheduler. A step that fails undoes those before it. The command
line is `peer.command`'s. Telemetry is opened first and closed last: that may take seconds.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog
from dragonfly_api import dfdaemon_pb2

from odonata import __version__
from odonata.errors import OdonataError
from odonata.grpc_client import target_of
from odonata.grpc_h2.server import H2GrpcServer
from odonata.grpc_server import GrpcServer
from odonata.listen import check_tcp
from odonata.service_run import run_until_stopped
from odonata.telemetry.record import Recorder
from odonata.telemetry.segment import Origin
from odonata.telemetry.writer import open_recorder
from odonata.tracing.opening import open_tracer
from odonata.tracing.rpc import rpc_watches
from odonata.tracing.span import NO_TRACER, Tracer
from odonata.wire.message import Download, TaskType
from odonata.wire.vortex import Greeting
from peer.core.budget import Budget
from peer.core.download import DownloadCore
from peer.core.event import SchedulerFound
from peer.core.limits import DownloadLimits
from peer.runtime.buffer import BufferPool
from peer.runtime.channel import ChannelPool
from peer.runtime.daemon_parts import (
    collect_policy,
    fsspec_place,
    host_trust,
    http_options,
    limits_of,
    peer_features,
    piece_features,
    proxy_certificates,
    proxy_login,
    proxy_options,
    proxy_policy,
    upload_slots,
)
from peer.runtime.descriptors import allow_descriptors
from peer.runtime.download_service import DownloadService
from peer.runtime.dynconfig import DynconfigFile
from peer.runtime.held_report import HeldReporter
from peer.runtime.host_info import HostFacts, HostReporter, find_ip, nic_bytes_per_s
from peer.runtime.hub import Hub
from peer.runtime.limit import Unlimited, rate_limit
from peer.runtime.outgoing_proxy import check_no_loop, forget_environment_proxies
from peer.runtime.persistent.kind_storage import KindStorage
from peer.runtime.persistent.recovery import PersistentRecovery
from peer.runtime.persistent.service import Shelf, peer_part, removal_part, user_part
from peer.runtime.persistent.shelf import Farewell, ShelfParts, open_shelf, store_of
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_connection import PieceConnections
from peer.runtime.piece_server import PieceServer
from peer.runtime.piece_tls import piece_tls
from peer.runtime.port import ObjectStore, RateLimit
from peer.runtime.proxy.server import ProxyServer
from peer.runtime.reception import Receptions
from peer.runtime.run_tools import RunTools, both
from peer.runtime.scheduler_address import AddressBook
from peer.runtime.scheduler_link import Scheduler, SchedulerLink
from peer.runtime.source import OpenSources, Sources, open_sources
from peer.runtime.source_list import SourceLister
from peer.runtime.storage.store import DiskStorage
from peer.runtime.supervise import Supervised
from peer.runtime.task_admin import TaskAdmin
from peer.runtime.task_service import TaskService
from peer.runtime.uplink_watch import UplinkWatch
from peer.runtime.upload_service import UploadService
from peer.settings import DaemonSettings

STOP_GRACE_S: Final = 1.0
"""For running gRPC calls. Children whose streams are cut find other parents."""

STREAMS_WITHOUT_DEADLINE: Final = frozenset(
    {"SyncPieces", "SyncPersistentPieces", "SyncPersistentCachePieces", "SyncHost"}
)

_SOCKET_FOLDER_MODE: Final = 0o700
_SOCKET_MODE: Final = 0o600

_log = structlog.get_logger("daemon")


class Daemon:
    """A peer daemon that can be started and stopped once. Make it inside a running event loop."""

    def __init__(
        self,
        settings: DaemonSettings,
        sources: OpenSources | None = None,
        *,
        limits: DownloadLimits | None = None,
        features: tuple[str, ...] | None = None,
    ) -> None:
        """`sources`: what to fetch from and to write to; None: what the settings say.

        `limits` and `features`: what the core obeys, and what schedulers are told that its peers
        can, for whoever compares clients; None: as the settings have it.
        """
        self._settings = settings
        self._given_sources = sources
        self._limits = limits or limits_of(settings)
        self._features = peer_features(settings) if features is None else features
        self._budget = Budget()
        self._upload = H2GrpcServer()
        self._download = GrpcServer()
        self._dynconfig = DynconfigFile(
            settings.dynconfig.file, settings.scheduler.addrs, is_seed=settings.seed_peer.enable
        )
        self._book = AddressBook(self._dynconfig.read)
        self._stack = AsyncExitStack()
        self._tracer: Tracer = NO_TRACER
        self._facts: HostFacts | None = None
        self._tls = piece_tls(settings.storage.server.tls)
        self._upload_limit = rate_limit(settings.upload.bandwidth_limit_bytes_per_s)
        self._receptions = Receptions()
        self._uplink = UplinkWatch(self._receptions.is_receiving) if self._limits.rest else None
        self._proxy_address = ("", 0)
        self._store: ObjectStore | None = None

    @property
    def facts(self) -> HostFacts:
        """Who this host is, with the ports it really listens on."""
        assert self._facts is not None, "known once the daemon was started"
        return self._facts

    @property
    def upload_limit(self) -> RateLimit:
        """The limit of all that this host gives; a `BucketLimit` can be changed while it runs."""
        return self._upload_limit

    @property
    def proxy_address(self) -> tuple[str, int]:
        """Where the proxy listens."""
        return self._proxy_address

    @property
    def socket_path(self) -> Path:
        """Where `odonata get` asks."""
        return self._settings.download.server.socket_path

    async def __aenter__(self) -> Self:
        """`start`."""
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """`stop`."""
        await self.stop()
        _log.info("daemon_stopped")

    async def start(self) -> None:
        """Take the folder and the ports, find the schedulers, serve.

        Errors: SettingsError, UnavailableError, StorageError, each with the setting and the fix.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Take nothing new, tell the schedulers, end the downloads, close what is open."""
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        schedulers = await asyncio.to_thread(self._dynconfig.read)
        proxy = settings.proxy.server
        check_tcp(proxy.ip, proxy.port, "proxy.server.port")
        await asyncio.to_thread(check_no_loop, settings.backend.proxy_url, proxy.port)
        recorder = self._open_recorder()
        hostname = settings.host.hostname or socket.gethostname()
        self._tracer = open_tracer(settings.tracing, settings.program, hostname)
        stack.push_async_callback(self._tracer.close)
        storage = await DiskStorage.open(
            settings.storage.dir,
            keep=settings.storage.keep,
            verify_after_s=settings.storage.verify_after_s,
        )
        await stack.enter_async_context(storage)
        server = PieceServer(
            storage,
            limit=self._upload_limit,
            slots=upload_slots(settings),
            tls=self._tls and self._tls.server,
            tls_only=self._tls is not None and self._tls.is_required,
            receptions=self._receptions,
            uplink=self._uplink,
        )
        pieces = await stack.enter_async_context(server)
        await pieces.listen(settings.storage.server.ip, settings.storage.server.tcp_port)
        self._facts = await self._find_facts(pieces.port, schedulers)
        reporter = HostReporter(self._facts, pieces.rate_bytes_per_s)

        link = self._link(reporter)
        stack.push_async_callback(link.close)
        tools = await self._tools(link, recorder)
        hub = Hub(
            KindStorage(storage, TaskType.STANDARD),
            tools,
            link,
            self._new_core,
            receptions=self._receptions,
            uplink=self._uplink,
        )
        stack.push_async_callback(hub.close)
        admin = TaskAdmin(hub, link, self._facts.id)
        tasks = TaskService(admin, SourceLister(tools.source))
        shelves = self._shelves(storage, tools, link)
        parts = (peer_part(shelf, self._facts) for shelf in shelves)
        await self._serve_upload(UploadService(hub, reporter, admin), tasks, *parts)
        self._prepare_socket()
        reports = HeldReporter(hub, link, self._facts)
        recovery = PersistentRecovery(storage, link, shelves)

        def found(scheduler: Scheduler) -> None:
            reports.report(scheduler)
            recovery.report(scheduler)

        link.on_found = found
        link.on_moved = reports.report_moved
        hub.on_finished = reports.report_finished
        stack.push_async_callback(link.leave, self._facts.id)
        stack.push_async_callback(reports.close)
        stack.push_async_callback(recovery.close)
        await link.start()
        service = DownloadService(hub, admin, self._facts.id, check=self._dynconfig.check)
        await self._serve_download(service, tasks, shelves)
        await self._serve_proxy(hub, reporter)
        self._collect_garbage(storage, Farewell(admin, shelves))
        self._say_started(pieces.port)

    # --- parts ---

    async def _find_facts(self, tcp_port: int, schedulers: tuple[str, ...]) -> HostFacts:
        settings = self._settings
        server, host = settings.upload.server, settings.host
        port = self._upload.bind_tcp(server.ip, server.port, "upload.server.port")
        ip = host.ip
        if ip is None:
            ip = await asyncio.to_thread(find_ip, schedulers)
        upload = settings.upload
        rates = (upload.bandwidth_limit_bytes_per_s, nic_bytes_per_s())
        return HostFacts(
            ip=ip,
            hostname=host.hostname or socket.gethostname(),
            is_seed=settings.seed_peer.enable,
            port=port,
            tcp_port=tcp_port,
            idc=host.idc,
            location=host.location,
            cluster_id=host.scheduler_cluster_id,
            disable_shared=settings.upload.disable_shared,
            max_tx_bytes_per_s=upload.announced_bandwidth_bytes_per_s
            or min(rate for rate in rates if rate),
            data_dir=str(settings.storage.dir),
        )

    def _link(self, reporter: HostReporter) -> SchedulerLink:
        return SchedulerLink(
            find_addresses=self._book.find,
            host=reporter.full,
            announce_interval_s=self._settings.scheduler.announce_interval_s,
            refresh_interval_s=self._settings.dynconfig.refresh_interval_s,
            features=self._features,
        )

    def _open_recorder(self) -> Recorder:
        """Telemetry, until every download has told its end. Closing waits for a disk."""
        hostname = self._settings.host.hostname or socket.gethostname()
        origin = Origin(host=hostname, program=self._settings.program)
        recorder = open_recorder(self._settings.telemetry, origin, time.monotonic)
        self._stack.push_async_callback(asyncio.to_thread, recorder.close)
        return recorder

    async def _tools(self, link: SchedulerLink, recorder: Recorder) -> RunTools:
        download, facts = self._settings.download, self.facts
        download_limit = rate_limit(download.bandwidth_limit_bytes_per_s)
        source_limit = rate_limit(download.back_to_source_bandwidth_limit_bytes_per_s)
        given = self._given_sources
        sources = await self._stack.enter_async_context(self._sources() if given is None else given)
        self._store = store_of(sources)
        parents = ChannelPool()
        self._stack.push_async_callback(parents.close)
        buffers = BufferPool()

        async def find_scheduler(task_id: str) -> SchedulerFound:
            found = await link.find(task_id)
            return SchedulerFound(
                needs_size=not found.takes_unsized, tells_digests=found.tells_digests
            )

        pieces = PieceClient(
            buffers,
            limit=download_limit,
            connections=self._piece_connections(download_limit),
            receptions=self._receptions,
        )
        return RunTools(
            facts=facts,
            fetcher=pieces,
            asker=pieces,
            source=sources,
            source_limit=both(source_limit, download_limit),
            buffers=buffers,
            parents=parents,
            converse=lambda task_id, peer_id: link.converse(facts.id, task_id, peer_id),
            find_scheduler=find_scheduler,
            verify_whole=self._limits.verify_whole,
            recorder=recorder,
            tracer=self._tracer,
        )

    def _piece_connections(self, limit: RateLimit) -> PieceConnections:
        connections = PieceConnections(
            Greeting(host_id=self.facts.id),
            tls=self._tls and self._tls.client,
            tls_only=self._tls is not None and self._tls.is_required,
            narrow=not isinstance(limit, Unlimited),
        )
        self._stack.callback(connections.close)
        return connections

    def _sources(self) -> Sources:
        backend = self._settings.backend
        web = http_options(backend, host_trust(self._settings.proxy))
        return open_sources(web, fsspec_place(backend))

    def _new_core(self, download: Download) -> DownloadCore:
        idc, rng = self._settings.host.idc, random.Random()  # noqa: S311  # no secret
        return DownloadCore(self._limits, download, rng, idc, self._budget)

    def _shelves(
        self, storage: DiskStorage, tools: RunTools, link: SchedulerLink
    ) -> tuple[Shelf, Shelf]:
        """What serves persistent tasks, and persistent cache tasks."""
        policy = self._settings.gc.policy
        ttls_s = {
            TaskType.PERSISTENT: policy.persistent_task_ttl_s,
            TaskType.PERSISTENT_CACHE: policy.persistent_cache_task_ttl_s,
        }
        parts = ShelfParts(
            storage=storage, tools=tools, link=link, make_core=self._new_core, store=self._store
        )
        stored, cached = (open_shelf(parts, kind, ttl_s) for kind, ttl_s in ttls_s.items())
        for shelf in (stored, cached):
            self._stack.push_async_callback(shelf.tasks.hub.close)
        return stored, cached

    async def _serve_upload(self, *parts: object) -> None:
        # Stock children set a deadline of 10 s on these, and mean it for the beginning of the
        # answer only (dfdaemon.md §0, trap 4).
        self._upload.add_service(
            dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"],
            *parts,
            watches=rpc_watches(self._tracer),
            without_deadline=STREAMS_WITHOUT_DEADLINE,
            stream_metadata=piece_features(self._tls is not None),
        )
        self._stack.push_async_callback(self._upload.stop, STOP_GRACE_S)
        await self._upload.start()

    def _prepare_socket(self) -> None:
        path = self.socket_path
        with suppress(OSError):  # it is there, or `bind_unix` says what is wrong
            path.parent.mkdir(parents=True, mode=_SOCKET_FOLDER_MODE)
        self._download.bind_unix(path, "download.server.socketPath", mode=_SOCKET_MODE)

    async def _serve_download(
        self, service: DownloadService, tasks: TaskService, shelves: tuple[Shelf, Shelf]
    ) -> None:
        self._download.add_service(
            dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonDownload"],
            service,
            tasks,
            *(user_part(shelf, self.facts, self._dynconfig) for shelf in shelves),
            watches=rpc_watches(self._tracer),
        )
        self._download.add_service(
            dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"],
            *(removal_part(shelf, self.facts) for shelf in shelves),
            watches=rpc_watches(self._tracer),
        )
        self._stack.push_async_callback(self._download.stop, STOP_GRACE_S)
        await self._download.start()

    async def _serve_proxy(self, hub: Hub, reporter: HostReporter) -> None:
        settings = self._settings.proxy
        options = proxy_options(self._settings, self.facts.ip)
        proxy = ProxyServer(
            hub,
            proxy_policy(settings),
            options,
            check=self._dynconfig.check,
            login=proxy_login(settings),
            certificates=proxy_certificates(settings),
        )
        await proxy.start()
        self._stack.push_async_callback(proxy.stop)
        self._proxy_address = proxy.address
        self._facts = msgspec.structs.replace(self.facts, proxy_port=proxy.address[1])
        reporter.facts = self._facts

    # --- housekeeping ---

    def _collect_garbage(self, storage: DiskStorage, farewell: Farewell) -> None:
        work = Supervised("garbage collection")
        self._stack.push_async_callback(work.close)
        work.start("collect", self._keep_collecting(storage, farewell))

        storage.room.make = lambda needed: self._collect(storage, farewell, needed)

    async def _keep_collecting(self, storage: DiskStorage, farewell: Farewell) -> None:
        while True:
            await asyncio.sleep(self._settings.gc.interval_s)
            await self._collect(storage, farewell)

    async def _collect(
        self, storage: DiskStorage, farewell: Farewell, needed_bytes: int = 0
    ) -> None:
        policy = collect_policy(self._settings.gc.policy)
        try:
            gone = await storage.collect(time.time(), policy, needed_bytes=needed_bytes)
        except OdonataError as error:
            _log.warning("collection_failed", code=error.code, error=error.detail)
            return
        for eviction in gone:
            await farewell.say(eviction)
        if gone:
            _log.info("tasks_collected", count=len(gone))

    def _say_started(self, tcp_port: int) -> None:
        facts = self.facts
        _log.info(
            "daemon_started",
            version=__version__,
            host_id=facts.id,
            seed=facts.is_seed,
            address=target_of(facts.ip, facts.port),
            piece_port=tcp_port,
            proxy_port=facts.proxy_port,
            path=str(self.socket_path),
        )


async def run(settings: DaemonSettings) -> None:
    """Run a peer daemon until it is told to stop. Raises what `Daemon.start` raises."""
    forget_environment_proxies()
    allow_descriptors()
    await run_until_stopped(Daemon(settings))
