"""One request and its answer: find the route, follow it, turn failures into answers, log one line.

Before the head of an answer a failure becomes a status, and X-Dragonfly-Error-Type says whose it
is: `backend` (the origin's own status and headers), `dfdaemon` (the swarm's), `proxy` (the
request's or this hop's). After the head the connection breaks, so that nobody takes half a body
for a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from odonata.errors import DiskFullError, OdonataError, SourceError, StorageError, WrongContentError
from odonata.wire.message import Download
from peer.core.proxy_auth import LoginError, ProxyLogin, admit
from peer.core.proxy_header import HOP_BY_HOP, HeaderList
from peer.core.proxy_rule import (
    Address,
    Direct,
    Intercept,
    ProxyRouter,
    RequestHead,
    Route,
    Swarm,
    Tunnel,
    loggable_url,
)
from peer.runtime.proxy.conversation import Conversation
from peer.runtime.proxy.direct import OriginClient
from peer.runtime.proxy.interception import intercept
from peer.runtime.proxy.option import ProxyCounters, ProxyOptions
from peer.runtime.proxy.p2p import SwarmAnswer
from peer.runtime.proxy.tunnel import run_tunnel

if TYPE_CHECKING:  # cryptography is 7 MB, for daemons that intercept
    from peer.runtime.proxy.authority import Certificates

_ERROR_TYPE: Final = "X-Dragonfly-Error-Type"
# Describe a body of the origin's, which the client does not get along with its error.
_ABOUT_BODY: Final = frozenset(
    {"accept-ranges", "content-encoding", "content-length", "content-type", "etag", "set-cookie"}
)
# 304 would tell the client that its copy is right, which nobody has checked.
_PASSED_STATUS: Final = frozenset({*range(300, 304), *range(305, 600)})
_LOGGED_URL_LENGTH: Final = 1024

_log = structlog.get_logger("proxy")


class Outcome(NamedTuple):
    """How an exchange ended, as it is logged, and the conversation that goes on, if any."""

    state: str
    goes_on: Conversation | None = None


class Exchange:
    """Handles requests one at a time for each conversation; shared by all of them."""

    def __init__(
        self,
        router: ProxyRouter,
        swarm: SwarmAnswer,
        origin: OriginClient,
        options: ProxyOptions,
        counters: ProxyCounters,
        *,
        login: ProxyLogin | None = None,
        check: Callable[[Download], None] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._login = login
        self._check = check
        self._certificates = certificates
        self._router = router
        self._swarm = swarm
        self._origin = origin
        self._options = options
        self._counters = counters

    async def run(
        self, head: RequestHead, conversation: Conversation, own: Collection[Address]
    ) -> Conversation | None:
        """Answer `head`, and tell which conversation goes on, if any.

        This one, or after an intercepted CONNECT the one inside its tunnel.
        """
        started_s = asyncio.get_running_loop().time()
        facts: dict[str, object] = {"method": head.method, "url": _loggable(head.target)}
        outcome = None
        try:
            outcome = await self._answer(head, conversation, own, facts)
        except (ConnectionError, TimeoutError):
            outcome = Outcome("client_gone")
            conversation.wire.abort(reset=True)
        finally:
            state = "client_gone" if conversation.wire.ended else "cut_off"
            outcome = outcome or Outcome(state)
            taken_s = asyncio.get_running_loop().time() - started_s
            _log.info(
                "request_answered",
                **facts,
                status=conversation.status,
                bytes=conversation.body_bytes,
                cost_ms=round(taken_s * 1000, 1),
                state=outcome.state,
            )
        return outcome.goes_on

    async def _answer(
        self,
        head: RequestHead,
        conversation: Conversation,
        own: Collection[Address],
        facts: dict[str, object],
    ) -> Outcome:
        route: Route | None = None
        try:
            if not head.intercepted:
                head = admit(head, self._login)
            route = self._router.route(head, own)
            return await self._follow(route, head, conversation, facts)
        except OdonataError as error:
            facts.update(code=error.code, error=error.detail)
            if conversation.status:
                await conversation.cut()
                return Outcome("cut")
            self._counters.requests_refused += 1
            await refuse(conversation, error, _whose(route, error))
            return Outcome("refused", conversation)

    async def _follow(
        self,
        route: Route,
        head: RequestHead,
        conversation: Conversation,
        facts: dict[str, object],
    ) -> Outcome:
        match route:
            case Swarm():
                facts.update(kind="p2p", url=_loggable(route.download.url))
                self._counters.requests_p2p += 1
                await self._answer_from_swarm(route, head, conversation, facts)
            case Direct():
                facts.update(kind="direct", url=_loggable(route.url))
                self._counters.requests_direct += 1
                await self._origin.answer(route.url, head, conversation)
            case Intercept():
                facts["kind"] = "intercept"
                self._counters.requests_intercepted += 1
                return await self._intercept(route, conversation)
            case Tunnel():
                facts["kind"] = "tunnel"
                self._counters.requests_tunnel += 1
                await run_tunnel(route, conversation, self._options, self._counters)
                return Outcome("tunnel_closed")
        return Outcome("ok", conversation)

    async def _answer_from_swarm(
        self, route: Swarm, head: RequestHead, conversation: Conversation, facts: dict[str, object]
    ) -> None:
        """By the hub; if this host has no place for the content, straight from its origin."""
        download = route.download
        if self._check is not None:
            self._check(download)
        try:
            facts["task_id"] = await self._swarm_answer(route, head, conversation)
        except (DiskFullError, StorageError) as error:
            kept_here = download.disable_back_to_source or download.output_path is not None
            if conversation.status or kept_here:
                raise
            facts.update(kind="past_swarm", code=error.code, error=error.detail)
            self._counters.requests_past_swarm += 1
            await self._origin.answer(download.url, head, conversation)

    async def _swarm_answer(
        self, route: Swarm, head: RequestHead, conversation: Conversation
    ) -> str:
        """The task's id. Content that turned out to be wrong is asked for anew, once.

        Whoever brought it is not believed any more, and the client has not seen any of it.
        """
        try:
            return await self._swarm.answer(route, head, conversation)
        except WrongContentError:
            if conversation.status:
                raise
            return await self._swarm.answer(route, head, conversation)

    async def _intercept(self, route: Intercept, conversation: Conversation) -> Outcome:
        assert self._certificates is not None, "the daemon intercepts with an authority only"
        inner = await intercept(route, conversation, self._certificates, self._options)
        return Outcome("tunnel_closed" if inner is None else "intercepted", inner)


async def refuse(conversation: Conversation, error: OdonataError, whose: str) -> None:
    """Answer with the error: an origin's own status and headers as they were, else text of ours."""
    status = error.http_status
    headers: HeaderList = ((_ERROR_TYPE, whose),)
    if isinstance(error, LoginError):
        headers = (error.challenge, *headers)
    if isinstance(error, SourceError) and error.status_code in _PASSED_STATUS:
        status = error.status_code or status
        headers = (*_origin_headers(error), *headers)
    try:
        await conversation.answer(status, error.detail, headers)
    except SourceError:  # the origin's headers are none: peers and schedulers pass on anything
        await conversation.answer(status, error.detail, ((_ERROR_TYPE, whose),))


def _origin_headers(error: SourceError) -> HeaderList:
    dropped = HOP_BY_HOP | _ABOUT_BODY
    return tuple(
        (name, value) for name, value in error.header.items() if name.lower() not in dropped
    )


def _whose(route: Route | None, error: OdonataError) -> str:
    if not isinstance(route, Swarm):
        return "proxy"
    return "backend" if isinstance(error, SourceError) else "dfdaemon"


def _loggable(target: str) -> str:
    return loggable_url(target)[:_LOGGED_URL_LENGTH]
