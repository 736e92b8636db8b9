"""What a scheduler counts, in the form that monitoring systems read. All metric names are here.

Nothing is counted twice: whoever does the work keeps the numbers, and they are read when somebody
asks (`SchedulerCollector`). Only the time that ranking takes is measured here. Dragonfly's names
are in `rpc_metrics` and `peer_metrics`. Labels take few values: no id of a peer, host or task is
ever one, but in the one metric for which `metrics.enableHost` asks.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from odonata import __version__
from odonata.telemetry.record import TelemetryStats
from odonata.wire.message import HostType
from scheduler.core.core import SchedulerCore
from scheduler.core.judgement import standing_counts
from scheduler.runtime.peer_metrics import UNUSUAL_COUNTERS
from scheduler.runtime.preheat_job import PreheatCounts
from scheduler.runtime.ranking import LiveRanker
from scheduler.runtime.rpc_metrics import PREFIX as DRAGONFLY_PREFIX

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_PREFIX = "odonata_scheduler"

# 0.2 ms is usual for a model, 5 ms its budget; ten times more would stop everything else.
_BUCKETS_S = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)


class Streams(Protocol):
    """The part of `scheduler.runtime.executor.Executor` that is counted."""

    @property
    def stream_count(self) -> int: ...


class Telemetry(Protocol):
    """The part of a recorder that is counted."""

    def stats(self) -> TelemetryStats: ...


class Admission(Protocol):
    """The part of `odonata.call_limit.CallLimit` that is counted."""

    refused_count: int


class Observed(Protocol):
    """`scheduler.runtime.observation.Observation`: metrics under Dragonfly's names."""

    def collect(self) -> Iterator[Metric]: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Whose numbers are read."""

    core: SchedulerCore
    ranker: LiveRanker
    streams: Streams
    telemetry: Telemetry
    admission: Admission
    preheats: PreheatCounts


class RankingTime:
    """How long rankings took, since the start."""

    def __init__(self) -> None:
        self.histogram = Histogram(
            f"{_PREFIX}_ranking_seconds",
            "Time to rank the candidates of one decision.",
            registry=None,
            buckets=_BUCKETS_S,
        )

    def observe(self, took_s: float) -> None:
        """One ranking took so long."""
        self.histogram.observe(took_s)


class SchedulerMetrics:
    """All metrics of one scheduler, in a registry of its own."""

    def __init__(self, sources: Sources, ranking_time: RankingTime, observed: Observed) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ranking_time.histogram)
        self.registry.register(SchedulerCollector(sources))
        self.registry.register(observed)

    def text(self) -> bytes:
        """The page that is served as /metrics."""
        page = generate_latest(self.registry)
        # The library puts `_total` into the heads of all counters; these have none in their lines.
        for name in map(str.encode, UNUSUAL_COUNTERS):
            for head in (b"# HELP ", b"# TYPE "):
                page = page.replace(head + name + b"_total ", head + name + b" ")
        return page


class SchedulerCollector:
    """Reads the numbers when they are asked for."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metrics under our own names but the histogram, and the version."""
        yield _version()
        yield from self._decisions()
        yield from self._model()
        yield from self._swarm()
        yield from self._standing()
        yield from self._preheats()
        yield from self._telemetry()

    def _decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            f"{_PREFIX}_decisions",
            "Decisions, by what the child was told, who ranked and why not the model.",
            labels=("outcome", "ranked_by", "fallback"),
        )
        for (outcome, ranked_by, fallback), count in self._sources.core.decision_counts.items():
            decisions.add_metric((str(outcome), ranked_by, fallback), count)
        yield decisions
        fallbacks = CounterMetricFamily(
            f"{_PREFIX}_fallbacks",
            "Rankings that the rule made because the model could not, by reason.",
            labels=("reason",),
        )
        guard = self._sources.ranker.guard
        counts = dict(guard.counts) if guard else dict[str, int]()
        for reason, count in counts.items():
            if reason:
                fallbacks.add_metric((reason,), count)
        yield fallbacks

    def _model(self) -> Iterator[Metric]:
        watch = self._sources.ranker.watch
        manifest = watch.manifest if watch else None
        yield GaugeMetricFamily(
            f"{_PREFIX}_model_loaded",
            "1 while a learned model is loaded.",
            value=float(bool(manifest)),
        )
        info = InfoMetricFamily(f"{_PREFIX}_model", "The learned model that is loaded.", labels=())
        age = GaugeMetricFamily(
            f"{_PREFIX}_model_age_seconds", "Since the learned model was trained.", labels=()
        )
        if manifest is not None:
            info.add_metric((), {"name": manifest.name, "version": manifest.version})
            age.add_metric((), time.time() - manifest.created_at_s)
        yield info
        yield age

    def _swarm(self) -> Iterator[Metric]:
        state = self._sources.core.state
        yield GaugeMetricFamily(
            f"{_PREFIX}_streams",
            "AnnouncePeer streams that are open.",
            value=self._sources.streams.stream_count,
        )
        hosts = GaugeMetricFamily(f"{_PREFIX}_hosts", "Hosts known.", labels=("type",))
        n_seeds = sum(host.announced.type is HostType.SUPER for host in state.hosts.values())
        hosts.add_metric(("seed",), n_seeds)
        hosts.add_metric(("normal",), len(state.hosts) - n_seeds)
        yield hosts
        yield CounterMetricFamily(
            f"{_PREFIX}_refused_calls",
            "Calls refused because there were too many in a second (server.requestRateLimit).",
            value=self._sources.admission.refused_count,
        )
        yield GaugeMetricFamily(f"{_PREFIX}_tasks", "Tasks known.", value=len(state.tasks))
        yield GaugeMetricFamily(f"{_PREFIX}_peers", "Peers known.", value=len(state.peers))

    def _standing(self) -> Iterator[Metric]:
        counts = standing_counts(self._sources.core.state)
        standing = GaugeMetricFamily(
            f"{_PREFIX}_hosts_by_standing",
            "Hosts, by what is thought of them.",
            labels=("standing",),
        )
        standing.add_metric(("good",), counts.good)
        standing.add_metric(("evicted",), counts.evicted)
        standing.add_metric(("on_probation",), counts.on_probation)
        yield standing
        for name, about, value in (
            ("evictions", "Hosts evicted for serving badly.", counts.evictions),
            ("doubtful_evictions", "Of these, at a decent rate.", counts.doubtful_evictions),
            ("readmissions", "Hosts readmitted after probation.", counts.readmissions),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", about, value=value)

    def _preheats(self) -> Iterator[Metric]:
        counts = self._sources.preheats
        jobs = CounterMetricFamily(
            f"{_PREFIX}_preheats",
            "Preheats that came to an end: success if each content arrived somewhere.",
            labels=("kind", "result"),
        )
        for kind in ("image", "file"):
            for result in ("success", "failure"):
                jobs.add_metric((kind, result), counts.jobs[kind, result])
        yield jobs
        fetches = CounterMetricFamily(
            f"{_PREFIX}_preheat_fetches",
            "Contents that single hosts were asked to fetch ahead of time.",
            labels=("result",),
        )
        for result in ("success", "failure"):
            fetches.add_metric((result,), counts.fetches[result])
        yield fetches
        yield GaugeMetricFamily(
            f"{_PREFIX}_preheats_running", "Preheats under way.", value=counts.running
        )

    def _telemetry(self) -> Iterator[Metric]:
        stats = self._sources.telemetry.stats()
        records = CounterMetricFamily(
            f"{_PREFIX}_telemetry_records",
            "Telemetry records, by what became of them.",
            labels=("result",),
        )
        records.add_metric(("written",), stats.written)
        records.add_metric(("dropped",), stats.dropped)
        yield records
        for name, about, value in (
            ("telemetry_written_bytes", "Telemetry written.", stats.written_bytes),
            ("telemetry_files", "Parquet files made.", stats.files),
            ("telemetry_removed_files", "Old ones removed to make room.", stats.removed_files),
            (
                "telemetry_conversion_failures",
                "Segments that did not become Parquet.",
                stats.convert_failures,
            ),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", about, value=value)


def _version() -> Metric:
    """Dragonfly's, with its labels; those about Go stay empty."""
    major, minor, *_ = __version__.split(".")
    labels = {
        "major": major,
        "minor": minor,
        "git_version": f"v{__version__}",
        "git_commit": "",
        "platform": f"{platform.system()}/{platform.machine()}".lower(),
        "build_time": "",
        "go_version": "",
        "go_tags": "",
        "go_gcflags": "",
    }
    version = GaugeMetricFamily(
        f"{DRAGONFLY_PREFIX}version", "The version of this scheduler.", labels=tuple(labels)
    )
    version.add_metric(tuple(labels.values()), 1)
    return version
