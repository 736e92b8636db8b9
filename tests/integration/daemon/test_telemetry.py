"""Telemetry of real daemons under a real scheduler: what is recorded is what happened.

The records of both sides are read back from the files they were written to, and joined.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get, scheduler, watch
from support.origin import Manners, Origin

from odonata.telemetry.parquet import read_table
from odonata.telemetry.settings import TelemetrySettings
from peer.runtime.daemon import Daemon

Row = dict[str, Any]
PIECE = 4 * MIB
SLOW = 4_000_000
"""Bytes per second: a second for a piece, so that there is a middle of a download."""


class Swarm:
    """A scheduler, a seed and peers that all record into one folder; read it after the end."""

    def __init__(self, folder: Path, origin: Origin, addrs: list[str]) -> None:
        self.folder = folder
        self.origin = origin
        self.peers: dict[int, Daemon] = {}
        self._addrs = addrs
        self._stack = AsyncExitStack()

    async def add(self, number: int, **more: Any) -> Daemon:
        one = await self._stack.enter_async_context(
            daemon(
                self.folder, number, scheduler__addrs=self._addrs, telemetry__enable=True, **more
            )
        )
        self.peers[number] = one
        return one

    async def stop(self) -> None:
        await self._stack.aclose()

    def rows(self, kind: str) -> list[Row]:
        rows: list[Row] = read_table([self.folder / "telemetry"], kind).to_pylist()
        return rows

    def pieces_of(self, number: int) -> list[Row]:
        return [row for row in self.rows("piece") if row["child_host_id"] == host_id(number)]

    def downloads_of(self, number: int) -> list[Row]:
        return [row for row in self.rows("download") if row["child_host_id"] == host_id(number)]


@asynccontextmanager
async def swarm(folder: Path, **seed: Any) -> AsyncGenerator[Swarm]:
    """A scheduler and a seed (number 2) with these settings; everybody has stopped afterwards."""
    telemetry = TelemetrySettings(dir=folder / "telemetry")
    async with Origin() as origin, scheduler(telemetry) as app:
        one = Swarm(folder, origin, [app.address])
        try:
            await one.add(2, seedPeer__enable=True, **seed)
            yield one
        finally:
            await one.stop()


def host_id(number: int) -> str:
    return f"127.0.0.{number}-host{number}" + ("-seed" if number == 2 else "")


def ok(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["result"] == "ok"]


async def test_records_agree_with_what_was_downloaded_and_join_with_the_decisions(
    tmp_path: Path,
) -> None:
    content = make_content(30 * MIB + 7)
    async with swarm(tmp_path) as one:
        url = one.origin.add("/blob", content)
        peers = [await one.add(number) for number in (3, 4, 5)]
        await asyncio.gather(
            *(get(peer, url, tmp_path / f"out{n}") for n, peer in enumerate(peers))
        )
        sent = one.origin.sent_bytes("/blob")
    for number in (2, 3, 4, 5):
        _check_download(one, number, len(content))
    rows = one.rows("piece")
    from_source = [row for row in ok(rows) if row["traffic"] == "back_to_source"]
    assert sum(row["length"] for row in from_source) == sent == len(content)
    assert {row["child_host_id"] for row in from_source} == {host_id(2)}
    _check_join(one, rows)


async def test_a_short_content_is_asked_for_ahead_of_the_scheduler(tmp_path: Path) -> None:
    """Of a seed that was met before: what is longer, or not there, comes as ever."""
    contents = {name: make_content(size) for name, size in (("a", 9000), ("b", 20_000))}
    contents["long"] = make_content(200_000)
    async with swarm(tmp_path) as one:
        urls = {name: one.origin.add(f"/{name}", data) for name, data in contents.items()}
        meets, brings = await one.add(3), await one.add(4)
        for peer, name in ((meets, "a"), (brings, "b"), (brings, "long"), (meets, "b")):
            await get(peer, urls[name], tmp_path / f"{name}{id(peer)}")
        await get(meets, urls["long"], tmp_path / "long")
        assert (tmp_path / "long").read_bytes() == contents["long"]
        assert (tmp_path / f"b{id(meets)}").read_bytes() == contents["b"]
        assert [one.origin.copies(f"/{name}") for name in contents] == [1.0] * 3
    rows = {(row["length"], row["traffic"], row["reason"]) for row in ok(one.pieces_of(3))}
    assert (20_000, "seed_peer", "ahead") in rows
    assert {reason for length, _, reason in rows if length != 20_000} == {""}
    for row in ok(one.pieces_of(3)):
        assert row["decision_id"]
        assert 0 <= row["queue_s"] <= row["first_byte_s"] <= row["total_s"]


async def test_what_was_passed_on_while_it_came_is_told_apart(tmp_path: Path) -> None:
    """The seed is as thin as a peer, so that pieces take long, and none is had from it twice."""
    thin = {"upload__bandwidthLimit": "8MiB"}
    content = make_content(32 * MIB)
    async with swarm(tmp_path, **thin) as one:
        url = one.origin.add("/blob", content)
        peers = [await one.add(number, **thin) for number in (3, 4, 5)]
        outputs = [tmp_path / f"out{n}" for n in range(3)]
        await asyncio.gather(
            *(get(peer, url, out) for peer, out in zip(peers, outputs, strict=True))
        )
        assert all(out.read_bytes() == content for out in outputs)
    rows = one.rows("piece")
    passed_on = [row for row in ok(rows) if row["reason"] == "passed_on"]
    assert passed_on, "it was worth the while"
    assert {row["traffic"] for row in passed_on} == {"remote_peer"}
    _check_join(one, rows)


def _check_download(one: Swarm, number: int, length: int) -> None:
    """One record of the whole download, which agrees with those of its pieces."""
    (download,) = one.downloads_of(number)
    pieces = ok(one.pieces_of(number))
    assert sorted(row["number"] for row in pieces) == list(range(-(-length // PIECE)))
    assert sum(row["length"] for row in pieces) == length
    given: Counter[str] = Counter()
    for row in pieces:
        given[row["traffic"]] += row["length"]
    assert download["from_source_bytes"] == given["back_to_source"]
    assert download["from_seeds_bytes"] == given["seed_peer"]
    assert download["from_peers_bytes"] == given["remote_peer"]
    assert (download["result"], download["reason"]) == ("ok", "")
    assert download["content_length"] == length
    assert download["piece_count"] == len(pieces)
    assert download["is_seed"] is (number == 2)
    assert 0 < download["first_piece_s"] <= download["at_s"] - download["started_at_s"]
    assert {row["child_id"] for row in pieces} == {download["child_id"]}
    assert {row["written_by"] for row in pieces} == {"peer"}


def _check_join(one: Swarm, rows: list[Row]) -> None:
    """Every piece from a parent names a decision of the scheduler that named that parent."""
    decisions = {row["decision_id"]: row for row in one.rows("decision")}
    chosen = {
        (row["decision_id"], row["peer_id"], row["host_id"])
        for row in one.rows("candidate")
        if row["slot"] >= 0
    }
    from_parents = [row for row in rows if row["parent_id"]]
    assert len(from_parents) >= 3 * 8
    for row in from_parents:
        assert (row["decision_id"], row["parent_id"], row["parent_host_id"]) in chosen
        decision = decisions[row["decision_id"]]
        assert decision["child_id"] == row["child_id"]
        assert decision["at_s"] < row["at_s"]
        assert row["concurrency"] >= 1
    for row in ok(from_parents):
        assert 0 <= row["queue_s"] <= row["first_byte_s"] <= row["total_s"]
    for download in one.rows("download"):
        named = [
            row
            for row in decisions.values()
            if row["child_id"] == download["child_id"] and row["outcome"] == "parents"
        ]
        assert download["decision_count"] == len(named)


async def test_wrong_bytes_and_a_parent_that_stops_leave_failures(tmp_path: Path) -> None:
    content = make_content(10 * PIECE)
    async with swarm(tmp_path) as one:
        url = one.origin.add("/blob", content)
        rotten = await one.add(3)
        dying = await one.add(4, upload__bandwidthLimit=SLOW)
        await get(rotten, url, tmp_path / "out3")
        await get(dying, url, tmp_path / "out4")
        (stored,) = [path for path in (tmp_path / "data3" / "content").rglob("*") if path.is_file()]
        with stored.open("r+b") as file:
            for number in range(10):
                file.seek(number * PIECE + 7)
                file.write(b"rotten")
        await one.peers[2].stop()
        child = await one.add(5)
        async for piece in watch(child, url, tmp_path / "out5"):
            if piece.parent_id.startswith(host_id(4)):
                await dying.stop()
        assert (tmp_path / "out5").read_bytes() == content
    tries = one.pieces_of(5)
    failures = {
        (row["parent_host_id"], row["reason"]) for row in tries if row["result"] == "failed"
    }
    assert (host_id(3), "digest") in failures
    assert (host_id(4), "unreachable") in failures
    assert all(row["decision_id"] for row in tries if row["parent_id"])
    brought = ok(tries)
    assert sorted(row["number"] for row in brought) == list(range(10))
    assert sum(row["length"] for row in brought) == len(content)
    assert host_id(3) not in {row["parent_host_id"] for row in brought}


async def until_asked(holder: Daemon, child: Daemon) -> None:
    """The child has come to the holder for a piece."""
    url = f"http://{holder.facts.ip}:{holder.facts.tcp_port}/children"
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        while True:
            async with session.get(url) as response:
                told = (await response.json())["children"]
            if child.facts.id in {account["child"] for account in told}:
                return


async def test_a_caller_who_leaves_ends_the_download_and_what_was_on_its_way(
    tmp_path: Path,
) -> None:
    content = make_content(10 * PIECE)
    async with swarm(tmp_path) as one:
        url = one.origin.add("/blob", content)
        child = await one.add(3)
        # The seed's uplink is so thin that no piece comes before the caller leaves.
        await one.peers[2].stop()
        seed = await one.add(2, seedPeer__enable=True, upload__bandwidthLimit=100_000)
        leaving = asyncio.ensure_future(get(child, url, tmp_path / "out"))
        await until_asked(seed, child)
        leaving.cancel()
        await asyncio.wait([leaving])
    (download,) = one.downloads_of(3)
    assert (download["result"], download["reason"]) == ("cancelled", "unavailable")
    assert (download["piece_count"], download["first_piece_s"]) == (0, None)
    assert {(row["result"], row["reason"]) for row in one.pieces_of(3)} == {("cancelled", "ended")}


async def test_a_source_that_fails_leaves_a_failure(tmp_path: Path) -> None:
    content = make_content(3 * PIECE)
    async with Origin() as origin:
        url = origin.add("/blob", content, Manners(short_by=PIECE + 5))
        async with daemon(tmp_path, 3, telemetry__enable=True) as alone:
            outcome = (
                await asyncio.gather(get(alone, url, tmp_path / "out"), return_exceptions=True)
            )[0]
            assert isinstance(outcome, Exception)
    rows = read_table([tmp_path / "telemetry"], "piece").to_pylist()
    assert {(row["traffic"], row["decision_id"]) for row in rows} == {("back_to_source", "")}
    assert [row["number"] for row in ok(rows)] == [0]
    failed = [row for row in rows if row["result"] == "failed"]
    assert failed
    assert {(row["number"], row["reason"]) for row in failed} == {(1, "source")}
    (download,) = read_table([tmp_path / "telemetry"], "download").to_pylist()
    assert (download["result"], download["reason"]) == ("failed", "source")
    assert download["from_source_bytes"] == PIECE
