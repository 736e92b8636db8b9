"""Everything that is observed of a running scheduler, put together: counters, spans, logs.

It is the one object that the app wires; what each part observes is in its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric

from odonata.grpc_service import Watch
from odonata.tracing.opening import open_tracer
from odonata.tracing.rpc import rpc_watches
from scheduler.core.core import SchedulerCore
from scheduler.runtime.conversation_watch import Observer
from scheduler.runtime.core_facts import CoreFacts
from scheduler.runtime.decision_log import DecisionLog
from scheduler.runtime.peer_metrics import PeerMetrics, host_type
from scheduler.runtime.rpc_metrics import RpcMetrics
from scheduler.settings import SchedulerSettings


class Observation:
    """`watches` are for the gRPC boundary, `observer` for streams, `collect` for Prometheus."""

    def __init__(
        self,
        settings: SchedulerSettings,
        core: SchedulerCore,
        clock: Callable[[], float],
        instance: str,
    ) -> None:
        """`clock` is the core's; `instance` tells this scheduler from others in traces."""
        facts = CoreFacts(core.state)
        self.rpcs = RpcMetrics(lambda host_id: host_type(facts.host(host_id)))
        self.peers = PeerMetrics(facts, clock, counts_hosts=settings.metrics.enable_host)
        self.tracer = open_tracer(settings.tracing, settings.program, instance)
        log = DecisionLog(settings.scheduler.decision_log_share, facts.peer, core.explain)
        self.observer = Observer(self.peers, self.tracer, log, core.explain)

    @property
    def watches(self) -> Sequence[Watch]:
        """Spans outermost: what is counted belongs to them."""
        return (*rpc_watches(self.tracer), self.rpcs.watch)

    def collect(self) -> Iterator[Metric]:
        """The metrics that it counts."""
        yield from self.rpcs.collect()
        yield from self.peers.collect()

    async def close(self) -> None:
        """Send the spans that are left."""
        await self.tracer.close()
