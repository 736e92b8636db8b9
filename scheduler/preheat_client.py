"""`odonata preheat`: asks a scheduler to have contents fetched ahead of time, or who holds them.

Commands in, calls of scheduler.v2 out; what they mean is the scheduler's. A preheat goes on behind
its call: with `wait` the hosts are asked again and again until one of them holds everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from dragonfly_api import scheduler_pb2
from rich import box
from rich.table import Table

from odonata.errors import UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_status import error_of
from odonata.grpc_stub import scheduler_stub
from odonata.wire.dragonfly import duration_to_wire

CALL_TIMEOUT_S: Final = 90.0
"""Above the minute that a scheduler gives a registry."""
POLL_S: Final = 1.0
"""Between two looks at who holds what: a call to each host."""

Holdings: TypeAlias = dict[str, dict[str, bool]]
"""By host ("name (ip)"), by URL: whether it is whole."""

# What both kinds of question take; the other wishes are a preheat's alone.
_NAMING: Final = (
    "tag", "application", "piece_length", "filtered_query_params", "header", "username",
    "password", "platform", "certificate_chain", "insecure_skip_verify",
    "enable_task_id_based_blob_digest",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`kind` is "image" or "file"; `fields` are those of the request, by the API's names."""

    kind: str
    url: str
    timeout_s: float
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def preheat(scheduler: str, wish: Wish) -> None:
    """Begin. Raises the scheduler's OdonataError."""
    request = _request(wish, "Preheat", dict(wish.fields))
    request.timeout.CopyFrom(duration_to_wire(wish.timeout_s))
    await _call(scheduler, f"Preheat{wish.kind.title()}", request)


async def holdings(scheduler: str, wish: Wish) -> tuple[list[str], Holdings]:
    """The URLs that there are, and who holds which. Raises the scheduler's OdonataError.

    Of a folder, the URLs are those that anybody holds.
    """
    named = {name: value for name, value in wish.fields.items() if name in _NAMING}
    request = _request(wish, "Stat", named)
    answer = await _call(scheduler, f"Stat{wish.kind.title()}", request)
    held: Holdings = {}
    for peer in answer.peers:
        cached = peer.cached_layers if wish.kind == "image" else peer.cached_files
        held[f"{peer.hostname} ({peer.ip})"] = {one.url: one.is_finished for one in cached}
    if wish.kind == "image":
        return [layer.url for layer in answer.image.layers], held
    return sorted({url for urls in held.values() for url in urls} or {wish.url}), held


async def wait(scheduler: str, wish: Wish) -> tuple[list[str], Holdings]:
    """Ask until some host holds everything. Raises UnavailableError when the time is over."""
    try:
        async with asyncio.timeout(wish.timeout_s):
            while True:
                urls, held = await holdings(scheduler, wish)
                if is_held(urls, held):
                    return urls, held
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise UnavailableError(
            f"no host holds everything after {wish.timeout_s:g} s: the scheduler's log tells why "
            "(preheat_failed)"
        ) from None


def is_held(urls: list[str], held: Holdings) -> bool:
    """Whether each URL is whole at some host."""
    whole = {url for of_host in held.values() for url, is_whole in of_host.items() if is_whole}
    return whole.issuperset(urls)


def table(urls: list[str], held: Holdings) -> Table:
    """Who holds how much."""
    shown = Table("host", "whole", "in part", box=box.SIMPLE_HEAD, pad_edge=False)
    for host, of_host in held.items():
        n_whole = sum(of_host.values())
        shown.add_row(host, f"{n_whole} of {len(urls)}", str(len(of_host) - n_whole))
    return shown


def report(wish: Wish, shown: tuple[list[str], Holdings] | None) -> dict[str, Any]:
    """The same for machines; `urls` and `hosts` are null where nobody looked."""
    urls, held = shown if shown is not None else (None, None)
    hosts = None if held is None else [{"host": name, "urls": of} for name, of in held.items()]
    whole = None if urls is None or held is None else is_held(urls, held)
    return {"kind": wish.kind, "url": wish.url, "is_held": whole, "urls": urls, "hosts": hosts}


def _request(wish: Wish, verb: str, fields: dict[str, Any]) -> Any:
    kind = getattr(scheduler_pb2, f"{verb}{wish.kind.title()}Request")
    return kind(url=wish.url, **{name: value for name, value in fields.items() if value})


async def _call(scheduler: str, rpc: str, request: Any) -> Any:
    async with open_channel(scheduler) as channel:
        try:
            return await getattr(scheduler_stub(channel), rpc)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, f"scheduler {scheduler}") from failure
