"""A small HTTP server beside the gRPC one: what a scheduler counts, and why it decided so.

    /metrics                 for Prometheus and its relatives
    /healthz                 200 while the process serves
    /model                   which learned model ranks, or why none does
    /explain?peer=ID         the latest decisions for one peer (a child), as JSON
    /explain?task=ID         the same for all peers of a task; ?id=ID: of either
    /hosts?id=ID             the hosts and their standing; of all: ?offset=N&limit=N

/explain, /hosts and /model tell ids of peers and hosts: they answer this machine alone, unless
`metrics.explainRemotely` says otherwise. Nothing here changes anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from odonata.errors import ForbiddenError, OdonataError, SettingsError
from odonata.grpc_client import target_of
from odonata.listen import check_tcp
from odonata.settings.value import split_listen_address
from scheduler.core.core import SchedulerCore
from scheduler.runtime.explain_page import explained
from scheduler.runtime.host_page import HostPage
from scheduler.runtime.metrics import CONTENT_TYPE, SchedulerMetrics
from scheduler.runtime.ranking import LiveRanker
from scheduler.runtime.status import WallClock
from scheduler.settings import MetricsSettings

_SETTING = "metrics.addr"


class StatusPage:
    """Serves the pages above. `start` raises UnavailableError (port taken) or SettingsError."""

    def __init__(
        self,
        settings: MetricsSettings,
        metrics: SchedulerMetrics,
        core: SchedulerCore,
        ranker: LiveRanker,
        now: Callable[[], float],
    ) -> None:
        """`now` is the core's clock."""
        self._settings = settings
        self._metrics = metrics
        self._core = core
        self._ranker = ranker
        self._clock = WallClock(now())
        self._hosts = HostPage(core.state, now, self._clock)
        self._runner: web.AppRunner | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """Where it listens: "ip:port"; "" if it does not."""
        return self._address

    async def start(self) -> None:
        """Listen, if the settings say so."""
        if not self._settings.enable:
            return
        ip, port = split_listen_address(self._settings.addr)
        check_tcp(ip, port, _SETTING)
        runner = web.AppRunner(self.app(), access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, ip, port).start()
        except OSError as error:  # somebody was faster
            await runner.cleanup()
            raise SettingsError(
                f"can't listen on {ip} port {port} ({error.strerror}): change {_SETTING}"
            ) from error
        self._runner = runner
        self._address = target_of(ip, runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._runner is not None:
            await self._runner.cleanup()

    def app(self) -> web.Application:
        """The pages, for whoever serves them."""
        app = web.Application(middlewares=[_say_errors])
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/healthz", self._health_page)
        app.router.add_get("/model", self._model_page)
        app.router.add_get("/explain", self._explain_page)
        app.router.add_get("/hosts", self._host_page)
        return app

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _health_page(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _model_page(self, request: web.Request) -> web.Response:
        self._check_near(request)
        return _json(model_report(self._ranker))

    async def _explain_page(self, request: web.Request) -> web.Response:
        self._check_near(request)
        return _json(explained(self._core, request.query, self._clock))

    async def _host_page(self, request: web.Request) -> web.Response:
        self._check_near(request)
        return _json(self._hosts.answer(request.query))

    def _check_near(self, request: web.Request) -> None:
        if not self._settings.explain_remotely and not is_loopback(request.remote or ""):
            raise ForbiddenError(
                f"{request.path} answers this machine alone: ask there, or set "
                "metrics.explainRemotely"
            )


def model_report(ranker: LiveRanker) -> dict[str, Any]:
    """What /model says: which ranker is asked, its model, and how often it could not answer."""
    watch, guard = ranker.watch, ranker.guard
    report: dict[str, Any] = {"ranker": ranker.name, "loaded": False}
    if watch is None or guard is None:
        return report
    manifest = watch.manifest
    report |= {
        "loaded": manifest is not None,
        "place": str(watch.place),
        "reason": watch.reason,
        "detail": watch.detail,
        "by_model_count": guard.counts[""],
        "fallback_counts": {reason: count for reason, count in guard.counts.items() if reason},
    }
    if manifest is not None:
        report |= {
            "name": manifest.name,
            "version": manifest.version,
            "created_at_s": manifest.created_at_s,
            "feature_schema": manifest.feature_schema,
            "files": manifest.files,
            "card": manifest.card,
        }
    return report


def is_loopback(remote: str) -> bool:
    """Whether the IP literal is of this machine, also as IPv6 has it (::ffff:127.0.0.1)."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


@web.middleware
async def _say_errors(
    request: web.Request, handler: Callable[[web.Request], Any]
) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except OdonataError as error:
        return _json({"error": error.detail, "code": error.code}, status=error.http_status)
    return response


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )
