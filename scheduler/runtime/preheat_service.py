"""PreheatImage, PreheatFile, StatImage, StatFile of scheduler.v2.

A preheat is checked, resolved and planned while its caller waits, so that a wrong URL, wrong
credentials or a swarm without a seed are its answer; the fetching goes on behind it
(`preheat_job`). A stat asks the hosts what they hold and waits for the answers; a host that gives
none holds nothing.

Image: the registry is asked for the blobs (`image_resolver`). File: one URL, or, if that ends in
"/", everything below it, as a seed lists it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dragonfly_api import scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from msgspec.structs import replace

from odonata.errors import CallerError, ForbiddenError, OdonataError, PreconditionError
from odonata.ids import task_id_of
from odonata.image.manifest import own_platform, parse_platform
from odonata.wire.dragonfly import LocalTask, duration_from_wire, shown_url
from odonata.wire.dragonfly.preheat import entries_request, preheat_download
from odonata.wire.dragonfly.rule import check_request
from odonata.wire.message import Download, Host
from scheduler.core.core import SchedulerCore
from scheduler.core.preheat import HostChoice, Scope, hosts_in_question, plan, seeds_in_turn
from scheduler.runtime.daemon_calls import DaemonCalls
from scheduler.runtime.image_resolver import (
    RESOLVE_TIMEOUT_S,
    ImageQuery,
    ResolvedImage,
    resolve_image,
)
from scheduler.runtime.preheat_job import Job, PreheatJobs
from scheduler.runtime.side_by_side import for_each

PREHEAT_TIMEOUT_S: Final = 3600.0
"""Of a preheat that names none. Dragonfly's default."""
TASK_LIMIT: Final = 8
"""Contents at a time, where the request names no number. Dragonfly's default."""
HOST_LIMIT: Final = 500
"""Hosts at a time for each content, likewise."""
STAT_TIMEOUT_S: Final = 10.0
"""For one host to say what it holds: what Dragonfly's clients allow for any answer."""
ENTRIES_MAX: Final = 10_000
"""Files below one folder; each becomes a task of its own (about 3 KiB here)."""
FOLDERS_MAX: Final = 1000
"""Folders that are listed for one preheat: one call after the other, milliseconds each."""
_AT_ONCE: Final[tuple[tuple[str, str], ...]] = ()
"""Stock clients wait 10 s for the head of an answer, and a registry may be slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreheatOptions:
    """`blob_digest_ids`: see `PreheatSettings`. `remote_ip`: what daemons are told who asks."""

    blob_digest_ids: bool = True
    remote_ip: str | None = None


class PreheatService:
    """The rpcs, by their names. Errors are raised; the server turns them into statuses."""

    def __init__(
        self, core: SchedulerCore, calls: DaemonCalls, jobs: PreheatJobs, options: PreheatOptions
    ) -> None:
        self._core = core
        self._calls = calls
        self._jobs = jobs
        self._options = options

    async def PreheatImage(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.PreheatImageRequest, context: Any
    ) -> Empty:
        await context.send_initial_metadata(_AT_ONCE)
        check_request(request)
        self._jobs.check_room()
        image = await self._resolve(request)
        await self._start("image", request, self._layers(request, image))
        return Empty()

    async def PreheatFile(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.PreheatFileRequest, context: Any
    ) -> Empty:
        await context.send_initial_metadata(_AT_ONCE)
        check_request(request)
        self._jobs.check_room()
        await self._start("file", request, await self._files(request))
        return Empty()

    async def StatImage(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatImageRequest, context: Any
    ) -> scheduler_pb2.StatImageResponse:
        await context.send_initial_metadata(_AT_ONCE)
        check_request(request)
        image = await self._resolve(request)
        held = await self._held(request, self._layers(request, image))
        return scheduler_pb2.StatImageResponse(
            image=scheduler_pb2.Image(layers=[scheduler_pb2.Layer(url=url) for url in image.urls]),
            peers=[
                scheduler_pb2.PeerImage(
                    ip=host.ip,
                    hostname=host.hostname,
                    cached_layers=[
                        scheduler_pb2.Layer(url=url, is_finished=_is_finished(task))
                        for url, task in tasks
                    ],
                )
                for host, tasks in held
            ],
        )

    async def StatFile(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.StatFileRequest, context: Any
    ) -> scheduler_pb2.StatFileResponse:
        await context.send_initial_metadata(_AT_ONCE)
        check_request(request)
        held = await self._held(request, await self._files(request))
        return scheduler_pb2.StatFileResponse(
            peers=[
                scheduler_pb2.PeerFile(
                    ip=host.ip,
                    hostname=host.hostname,
                    cached_files=[
                        scheduler_pb2.File(url=url, is_finished=_is_finished(task))
                        for url, task in tasks
                    ],
                )
                for host, tasks in held
            ]
        )

    # --- what it is about -------------------------------------------------------------------------

    async def _resolve(self, request: Any) -> ResolvedImage:
        platform = request.platform
        query = ImageQuery(
            url=request.url,
            platform=parse_platform(platform) if platform else own_platform(),
            header=dict(request.header),
            username=request.username,
            password=request.password,
            certificate_chain=tuple(request.certificate_chain),
            insecure_skip_verify=request.insecure_skip_verify,
        )
        return await resolve_image(query, min(RESOLVE_TIMEOUT_S, _timeout_s(request)))

    def _layers(self, request: Any, image: ResolvedImage) -> list[Download]:
        return [self._download(request, url, image.header) for url in image.urls]

    async def _files(self, request: Any) -> list[Download]:
        header = dict(request.header)
        whole = self._download(request, request.url, header)
        if not request.url.endswith("/"):
            return [whole]
        urls = await self._list(request, task_id_of(whole))
        # Ten thousand of them take a second, which others shall not wait.
        return await asyncio.to_thread(
            lambda: [self._download(request, url, header) for url in urls]
        )

    def _download(self, request: Any, url: str, header: Mapping[str, str]) -> Download:
        names = request.DESCRIPTOR.fields_by_name
        by_request = "enable_task_id_based_blob_digest" in names and (
            request.enable_task_id_based_blob_digest
        )
        output_path = None
        if "output_path" in names and request.output_path:
            output_path = request.output_path + url.removeprefix(request.url)
        return preheat_download(
            request,
            url,
            header=header,
            timeout_s=_timeout_s(request),
            by_blob_digest=by_request or self._options.blob_digest_ids,
            output_path=output_path,
            remote_ip=self._options.remote_ip,
        )

    # --- folders ----------------------------------------------------------------------------------

    async def _list(self, request: Any, task_id: str) -> list[str]:
        """All files below the folder that `request` names, as the task's seed lists them."""
        end_s = asyncio.get_running_loop().time() + min(RESOLVE_TIMEOUT_S, _timeout_s(request))
        folders, seen, files = [request.url], {request.url}, list[str]()
        while folders:
            folder = folders.pop()
            entries = list(await self._entries(request, folder, task_id, end_s))
            # A daemon mostly names all that lies below, at any depth: such folders are known.
            seen |= {f"{entry.url.rstrip('/').rpartition('/')[0]}/" for entry in entries}
            for entry in entries:
                if not entry.is_dir:
                    files.append(entry.url)
                elif (url := f"{entry.url.rstrip('/')}/") not in seen:
                    seen.add(url)
                    folders.append(url)
            if len(files) > ENTRIES_MAX or len(seen) > FOLDERS_MAX:
                raise CallerError(
                    f"url {shown_url(request.url)} has more than {ENTRIES_MAX} files or "
                    f"{FOLDERS_MAX} folders below it: preheat its folders one by one"
                )
        if not files:
            raise PreconditionError(f"url {shown_url(request.url)} has no files below it")
        return sorted(set(files))

    async def _entries(self, request: Any, url: str, task_id: str, end_s: float) -> Iterable[Any]:
        left_s = max(0.0, end_s - asyncio.get_running_loop().time())
        wanted = entries_request(
            request, url, task_id=task_id, timeout_s=left_s, remote_ip=self._options.remote_ip
        )
        error: OdonataError = PreconditionError(
            f"url {shown_url(url)} names a folder, and there is no seed peer to list it: start "
            "one (seedPeer.enable), or name a file"
        )
        for seed in seeds_in_turn(task_id, self._hosts(Scope.SINGLE_SEED_PEER)):
            try:
                return await self._calls.entries(seed, wanted, left_s)
            except CallerError:
                raise
            except OdonataError as failure:
                error = failure
        raise error

    # --- preheating -------------------------------------------------------------------------------

    async def _start(self, kind: str, request: Any, downloads: Sequence[Download]) -> None:
        choice = HostChoice(
            scope=Scope(request.scope or Scope.SINGLE_SEED_PEER),
            ips=tuple(request.ips),
            count=request.count if request.HasField("count") else None,
            percentage=request.percentage if request.HasField("percentage") else None,
        )
        hosts = self._hosts(choice.scope)
        assignments = await asyncio.to_thread(plan, downloads, hosts, choice)
        self._check_allowed(downloads, is_seed=choice.scope is not Scope.ALL_PEERS)
        self._jobs.start(
            Job(
                kind=kind,
                url=request.url,
                assignments=tuple(assignments),
                task_limit=request.concurrent_task_count or TASK_LIMIT,
                host_limit=request.concurrent_peer_count or HOST_LIMIT,
                timeout_s=_timeout_s(request),
            )
        )

    def _check_allowed(self, downloads: Iterable[Download], *, is_seed: bool) -> None:
        """Refuse what no daemon could register: better now than in the log of a job."""
        cluster = self._core.state.cluster
        for download in downloads:
            registered = replace(download, priority=cluster.priorities.of(download))
            what = cluster.why_blocked(registered, is_seed=is_seed)
            if what is not None:
                raise ForbiddenError(
                    f"url {shown_url(download.url)} is on the block list of this cluster: {what}"
                )

    # --- asking who holds what --------------------------------------------------------------------

    async def _held(
        self, request: Any, downloads: Sequence[Download]
    ) -> list[tuple[Host, list[tuple[str, LocalTask]]]]:
        """Hosts that hold something, with what, in the order of hosts and downloads."""
        names = request.DESCRIPTOR.fields_by_name
        scope = request.scope if "scope" in names else ""
        layer_limit = request.concurrent_layer_count if "concurrent_layer_count" in names else 0
        host_limit = request.concurrent_peer_count or HOST_LIMIT
        found: dict[tuple[str, str], LocalTask] = {}

        async def ask_all(download: Download) -> None:
            task_id = task_id_of(download)

            async def ask(host: Host) -> None:
                task = await self._held_by(host, task_id)
                if task is not None:
                    found[host.id, download.url] = task

            await for_each(self._asked(scope, task_id), host_limit, ask)

        try:
            async with asyncio.timeout(_timeout_s(request)):
                await for_each(downloads, layer_limit or TASK_LIMIT, ask_all)
        except TimeoutError:
            pass  # who has not answered by now holds nothing, as far as anybody can tell
        return [
            (host, tasks)
            for host in self._hosts()
            if (
                tasks := [
                    (one.url, found[host.id, one.url])
                    for one in downloads
                    if (host.id, one.url) in found
                ]
            )
        ]

    async def _held_by(self, host: Host, task_id: str) -> LocalTask | None:
        try:
            task = await self._calls.held(host, task_id, STAT_TIMEOUT_S)
        except OdonataError:
            return None
        # What a daemon remembers of a download that never began is no content.
        return task if task is None or task.content_length is not None else None

    def _asked(self, scope: str, task_id: str) -> list[Host]:
        if scope == Scope.SINGLE_SEED_PEER:
            return seeds_in_turn(task_id, self._hosts(Scope.SINGLE_SEED_PEER), tries=1)
        hosts = self._hosts()
        if scope == Scope.ALL_SEED_PEERS:
            return [host for host in hosts if host.is_seed]
        return hosts

    def _hosts(self, scope: Scope = Scope.ALL_PEERS) -> list[Host]:
        return hosts_in_question(self._core.state.hosts.values(), scope)


def _timeout_s(request: Any) -> float:
    """Seconds; unset or 0 is the default."""
    return duration_from_wire(request.timeout) or PREHEAT_TIMEOUT_S


def _is_finished(task: LocalTask) -> bool:
    return task.finished_at_s is not None
