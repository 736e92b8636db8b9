"""Counts what peers say on their AnnouncePeer streams, under Dragonfly's names and labels.

A `PeerMeter` belongs to one stream. It finds its counters once, when the peer registers; after that
a piece costs two additions (and two look-ups where hosts are counted, too). Prometheus' own
counters take a lock each time, so these are plain numbers, and `PeerMetrics.collect` puts them into
form when somebody asks.

What counts as a failure is Dragonfly's: a registration that ended without an answer, a start that
was no possible step, a download or a piece that its peer said failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Download,
    Failed,
    Finished,
    Host,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceFailed,
    Started,
    TaskType,
    TrafficType,
)
from scheduler.runtime.quantile import Quantiles
from scheduler.runtime.rpc_metrics import PREFIX

HOST_LIMIT: Final = 5_000
"""Hosts with a `host_traffic` of their own; all others share one, under host_id "other". Each has
up to 8 series of 200 bytes on the page: 8 MB, the most that one may ask a monitoring system to take
every 15 s."""
OTHER: Final = "other"

PEER_LABELS: Final = ("priority", "task_type", "host_type")
PIECE_LABELS: Final = ("traffic_type", "task_type", "host_type")
HOST_TRAFFIC_LABELS: Final = ("type", "task_type", "host_type", "host_id", "host_ip", "host_name")
QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)

_MIB: Final = 1 << 20
_SIZE_LEVEL_BYTES: Final = (
    *(2**power * _MIB for power in (0, *range(2, 11))),  # 1 MiB, 4 MiB to 1 GiB: levels 1 to 10
    *(2**power * _MIB for power in range(12, 21)),  # 4 GiB to 1 TiB: levels 11 to 19
)
"""The contents below the n-th of these (and no lower one) have level n."""


def size_level(content_length: int | None) -> str:
    """Dragonfly's `task_size_level`, 0 to 20; what is unknown counts as nothing."""
    if content_length is None or content_length <= 0:
        return "0"
    for level, bound in enumerate(_SIZE_LEVEL_BYTES, start=1):
        if content_length < bound:
            return str(level)
    return str(len(_SIZE_LEVEL_BYTES) + 1)


def host_type(host: Host | None) -> str:
    """As Dragonfly's metrics have it; a host that nobody knows counts as a normal one."""
    return "super" if host is not None and host.is_seed else "normal"


class Facts(Protocol):
    """What has to be known of the core."""

    def host(self, host_id: str) -> Host | None: ...
    def host_of_peer(self, peer_id: str) -> Host | None: ...
    def content_length(self, task_id: str) -> int | None: ...


@dataclass(slots=True)
class PeerCount:
    """Downloads of one priority, kind of task and kind of host."""

    registered: int = 0
    registered_failure: int = 0
    started: int = 0
    started_failure: int = 0
    source_started: int = 0
    source_started_failure: int = 0
    finished: int = 0
    finished_failure: int = 0
    source_finished_failure: int = 0


@dataclass(slots=True)
class PieceCount:
    """Pieces of one kind of traffic, of task and of host."""

    finished: int = 0
    finished_failure: int = 0
    source_finished_failure: int = 0
    traffic_bytes: int = 0


@dataclass(slots=True)
class ByteCount:
    """Bytes of one host, in one direction."""

    traffic_bytes: int = 0


PEER_COUNTERS: Final = (
    ("register_peer_total", "registered", "Peers that registered"),
    ("register_peer_failure_total", "registered_failure", "Registrations without an answer"),
    ("download_peer_started_total", "started", "Downloads that started"),
    ("download_peer_started_failure_total", "started_failure", "Starts that were no step"),
    ("download_peer_back_to_source_started_total", "source_started", "Downloads at the source"),
    (
        "download_peer_back_to_source_started_failure_total",
        "source_started_failure",
        "Starts at the source that were no step",
    ),
    ("download_peer_finished_total", "finished", "Downloads that finished"),
    ("download_peer_finished_failure_total", "finished_failure", "Downloads that failed"),
    (
        "download_peer_back_to_source_finished_failure_total",
        "source_finished_failure",
        "Downloads that failed at the source",
    ),
)
_PIECE_COUNTERS: Final = (
    ("download_piece_finished_total", "finished", "Pieces that arrived"),
    ("download_piece_finished_failure_total", "finished_failure", "Pieces a parent failed to give"),
    (
        "download_piece_back_to_source_finished_failure_total",
        "source_finished_failure",
        "Pieces the source failed to give",
    ),
)

_TRAFFICS: Final = tuple(TrafficType)


class PeerMetrics:
    """All counters of peers, and the meters that raise them."""

    def __init__(
        self, facts: Facts, clock: Callable[[], float], *, counts_hosts: bool = False
    ) -> None:
        """`counts_hosts`: the bytes of each host, too (`metrics.enableHost`)."""
        self.facts = facts
        self.clock = clock
        self.counts_hosts = counts_hosts
        self.concurrent_schedules = 0
        self.schedule_ms = Quantiles()
        self._download_ms: dict[str, Quantiles] = {}
        self._peers: dict[tuple[str, ...], PeerCount] = {}
        self._pieces: dict[tuple[str, ...], PieceCount] = {}
        self._hosts: dict[tuple[str, ...], ByteCount] = {}
        self._host_ids: set[str] = set()

    def meter(self) -> PeerMeter:
        """For one stream."""
        return PeerMeter(self)

    def peer_count(self, priority: int, task_type: TaskType, host_type: str) -> PeerCount:
        """The counter of such downloads."""
        labels = (f"LEVEL{priority}", task_type.name, host_type)
        return self._peers.setdefault(labels, PeerCount())

    def piece_counts(self, task_type: TaskType, host_type: str) -> tuple[PieceCount, ...]:
        """The counters of such pieces, by `TrafficType`."""
        return tuple(
            self._pieces.setdefault((traffic.name, task_type.name, host_type), PieceCount())
            for traffic in _TRAFFICS
        )

    def host_traffic(self, way: str, task_type: TaskType, host: Host) -> ByteCount:
        """The counter of one host; `way` is "upload" or "download"."""
        identity = (host.id, host.ip, host.hostname)
        if host.id not in self._host_ids:
            if len(self._host_ids) >= HOST_LIMIT:
                identity = (OTHER, "", "")
            else:
                self._host_ids.add(host.id)
        labels = (way, task_type.name, host_type(host), *identity)
        return self._hosts.setdefault(labels, ByteCount())

    def downloaded(self, task_id: str, took_s: float) -> None:
        """A download took so long from its registration on."""
        level = size_level(self.facts.content_length(task_id))
        self._download_ms.setdefault(level, Quantiles()).add(self.clock(), took_s * 1e3)

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        for name, field, about in PEER_COUNTERS:
            rows = {labels: getattr(count, field) for labels, count in self._peers.items()}
            yield _counter(name, about, PEER_LABELS, rows)
        for name, field, about in _PIECE_COUNTERS:
            rows = {labels: getattr(count, field) for labels, count in self._pieces.items()}
            yield _counter(name, about, PIECE_LABELS, rows)
        labels = ("type", *PIECE_LABELS[1:])
        rows = {labels: count.traffic_bytes for labels, count in self._pieces.items()}
        yield _counter("traffic", "Bytes that peers fetched", labels, rows)
        if self.counts_hosts:
            rows = {labels: count.traffic_bytes for labels, count in self._hosts.items()}
            yield _counter("host_traffic", "Bytes by host", HOST_TRAFFIC_LABELS, rows)
        yield GaugeMetricFamily(
            f"{PREFIX}concurrent_schedule_total",
            "Peers that asked for parents and have no answer yet.",
            value=self.concurrent_schedules,
        )
        yield self._summary(
            "schedule_duration_milliseconds",
            "From a peer's question for parents to its answer.",
            (),
            {(): self.schedule_ms},
        )
        yield self._summary(
            "download_peer_duration_milliseconds",
            "From a peer's registration to the end of its download.",
            ("task_size_level",),
            {(level,): took for level, took in self._download_ms.items()},
        )

    def _summary(
        self,
        name: str,
        about: str,
        names: tuple[str, ...],
        rows: Mapping[tuple[str, ...], Quantiles],
    ) -> Metric:
        name = PREFIX + name
        metric = SummaryMetricFamily(name, about, labels=names)
        for values, took in rows.items():
            labels = dict(zip(names, values, strict=True))
            for quantile, value in took.quantiles(self.clock(), QUANTILES):
                metric.add_sample(name, labels | {"quantile": f"{quantile:g}"}, value)
            metric.add_sample(f"{name}_sum", labels, took.total)
            metric.add_sample(f"{name}_count", labels, took.count)
        return metric


def _counter(
    name: str, about: str, labels: tuple[str, ...], rows: Mapping[tuple[str, ...], int]
) -> Metric:
    family = CounterMetricFamily(PREFIX + name, f"{about}.", labels=labels)
    for values, value in rows.items():
        family.add_metric(values, value)
    if not name.endswith("_total"):  # two of Dragonfly's have not, and the class appends it
        family.samples = [sample._replace(name=PREFIX + name) for sample in family.samples]
    return family


UNUSUAL_COUNTERS: Final = (f"{PREFIX}traffic", f"{PREFIX}host_traffic")
"""Counters whose names do not end in `_total`."""


class PeerMeter:
    """Counts what one stream says.

    `registers` first, then `piece` for each that arrived and `heard` for all else, `ended` last.
    """

    __slots__ = (
        "_asked_at_s",
        "_count",
        "_download",
        "_given",
        "_host",
        "_is_registering",
        "_metrics",
        "_pieces",
        "_received",
        "_registered_at_s",
        "_task_id",
    )

    def __init__(self, metrics: PeerMetrics) -> None:
        self._metrics = metrics
        self._count = PeerCount()  # of nobody, until the peer registers
        self._pieces = tuple(PieceCount() for _ in _TRAFFICS)
        self._download: Download | None = None
        self._task_id = ""
        self._host: Host | None = None
        self._received: ByteCount | None = None
        self._given: dict[str, ByteCount] = {}
        self._registered_at_s = 0.0
        self._asked_at_s: float | None = None
        self._is_registering = False

    @property
    def is_waiting(self) -> bool:
        """Whether the peer asked and has no answer yet."""
        return self._asked_at_s is not None

    def registers(self, host_id: str, task_id: str, download: Download) -> None:
        """The peer registers: from now on its counters are known."""
        metrics = self._metrics
        self._host = metrics.facts.host(host_id)
        kind = host_type(self._host)
        self._count = metrics.peer_count(download.priority, download.type, kind)
        self._pieces = metrics.piece_counts(download.type, kind)
        self._download, self._task_id = download, task_id
        if metrics.counts_hosts and self._host is not None:
            self._received = metrics.host_traffic("download", download.type, self._host)
        self._registered_at_s = metrics.clock()
        self._is_registering = True
        self._count.registered += 1
        self.asks()

    def asks(self) -> None:
        """The peer asks for parents, by registering or again."""
        if self._asked_at_s is None:
            self._metrics.concurrent_schedules += 1
        self._asked_at_s = self._metrics.clock()

    def answered(self) -> None:
        """The peer got an answer; maybe one that it did not ask for."""
        if self._asked_at_s is not None:
            took_s = self._metrics.clock() - self._asked_at_s
            self._metrics.schedule_ms.add(self._metrics.clock(), took_s * 1e3)
            self._stop_asking()
        self._is_registering = False

    def ended(self) -> None:
        """The stream is over."""
        if self._is_registering:
            self._count.registered_failure += 1
            self._is_registering = False
        self._stop_asking()

    def _stop_asking(self) -> None:
        if self._asked_at_s is not None:
            self._asked_at_s = None
            self._metrics.concurrent_schedules -= 1

    def heard(self, message: PeerMessage, *, failed: bool) -> None:
        """The peer said something else, and the core could not take it if `failed`."""
        count = self._count
        match message:
            case Started():
                count.started += 1
                count.started_failure += failed
            case BackToSourceStarted():
                count.source_started += 1
                count.source_started_failure += failed
            case Finished() | BackToSourceFinished():
                self._finish(failed=failed)
            case Failed():
                count.finished_failure += 1
            case BackToSourceFailed():
                count.source_finished_failure += 1
            case PieceFailed():
                self._pieces[TrafficType.REMOTE_PEER].finished_failure += 1
            case PieceBackToSourceFailed():
                self._pieces[TrafficType.BACK_TO_SOURCE].source_finished_failure += 1
            case _:
                pass

    def piece(self, piece: Piece) -> None:
        """A piece arrived."""
        count = self._pieces[piece.traffic_type]
        count.finished += 1
        count.traffic_bytes += piece.length
        if self._received is not None:
            self._received.traffic_bytes += piece.length
            if piece.parent_id:
                self._giver(piece.parent_id).traffic_bytes += piece.length

    def _giver(self, peer_id: str) -> ByteCount:
        given = self._given.get(peer_id)
        if given is None:
            host = self._metrics.facts.host_of_peer(peer_id)
            if host is None or self._download is None:
                return ByteCount()  # of nobody: Dragonfly does not count it either
            given = self._metrics.host_traffic("upload", self._download.type, host)
            self._given[peer_id] = given
        return given

    def _finish(self, *, failed: bool) -> None:
        if failed:
            self._count.finished_failure += 1
            return
        self._count.finished += 1
        metrics = self._metrics
        metrics.downloaded(self._task_id, metrics.clock() - self._registered_at_s)
