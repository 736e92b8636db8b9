"""Worlds that live through several files: what carries over, what is recorded, what clients do."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from support.ranker_bundle import tiny_bundle
from support.tiny_world import TINY, tiny

from odonata.piece import PIECE_LENGTH_MIN
from odonata.telemetry.record import (
    DecisionRecord,
    DownloadRecord,
    ListRecorder,
    PieceRecord,
    Record,
)
from simulator.campaign import Campaign
from simulator.client import OWN, STOCK, Client
from simulator.policy import Policy, policy_named
from simulator.report import SwarmReport
from simulator.scenario import Degrading, Joining, Scenario, Vanishing

RecordT = TypeVar("RecordT", DecisionRecord, PieceRecord, DownloadRecord)

RULE = policy_named("rule")
PIECES = 8


def run(
    scenario: Scenario = TINY, policy: Policy = RULE, client: Client = OWN, seed: int = 1
) -> tuple[Campaign, list[SwarmReport], list[Record]]:
    recorder = ListRecorder()
    campaign = Campaign(scenario, policy, client, seed, recorder)
    return campaign, campaign.run(), recorder.records


def of_kind(records: list[Record], kind: type[RecordT]) -> list[RecordT]:
    return [record for record in records if isinstance(record, kind)]


@pytest.mark.parametrize("client", [OWN, STOCK], ids=lambda client: client.name)
@pytest.mark.parametrize("name", ["dragonfly", "rule", "random", "learned"])
def test_every_policy_brings_every_file_to_everybody(
    name: str, client: Client, tmp_path: Path
) -> None:
    model = None
    if name == "learned":
        tiny_bundle(tmp_path)
        model = tmp_path
    policy = policy_named(name, model=model)
    _, reports, records = run(policy=policy, client=client)
    assert len(reports) == TINY.files
    for report in reports:
        assert report.failures == ()
        assert len(report.times_s) == TINY.peers
        assert report.source_copies == pytest.approx(1.0)
        assert report.stretch(report.times_s[0]) > 0.3
    decisions = of_kind(records, DecisionRecord)
    assert {decision.policy for decision in decisions} == {name}


def test_the_same_seed_gives_the_same_records_byte_for_byte_and_another_one_others() -> None:
    def bytes_of(seed: int) -> tuple[bytes, bytes]:
        _, reports, records = run(seed=seed)
        times = [[o.took_s for o in report.outcomes] for report in reports]
        return msgspec.json.encode(times), msgspec.msgpack.encode(records)

    assert bytes_of(4) == bytes_of(4)
    assert bytes_of(4) != bytes_of(5)


def test_a_world_is_the_same_under_every_policy_and_client() -> None:
    def rates(policy: Policy, client: Client) -> list[tuple[str, float]]:
        campaign, reports, _ = run(tiny(files=1, judged_from=1), policy, client)
        assert reports[0].bound_s > 0
        return [(host.name, host.link.up) for host in campaign.place.peers]

    assert rates(RULE, OWN) == rates(policy_named("random"), STOCK)


# --- what carries over ----------------------------------------------------------------------------


def test_hosts_are_known_by_the_second_file_and_contents_are_not() -> None:
    _, _, records = run()
    decisions = of_kind(records, DecisionRecord)
    first, second = dict.fromkeys(decision.task_id for decision in decisions)

    def known_share(task_id: str) -> float:
        rates = np.concatenate(
            [
                np.frombuffer(d.facts).reshape(-1, len(d.fact_names))[
                    :, d.fact_names.index("served_rate_bytes_per_s")
                ]
                for d in decisions
                if d.task_id == task_id and d.facts
            ]
        )
        return float(np.mean(~np.isnan(rates)))

    assert known_share(first) < 0.5
    assert known_share(second) > 0.5
    downloads = of_kind(records, DownloadRecord)
    assert {d.piece_count for d in downloads} == {PIECES}, "a cold start each time"


def test_finished_peers_of_the_first_file_stay_registered() -> None:
    campaign, _, _ = run()
    scheduler = campaign.place.scheduler
    assert scheduler is not None
    assert len(scheduler.state.tasks) == TINY.files
    assert len(scheduler.state.peers) == TINY.files * (TINY.peers + 1)


def test_who_vanishes_is_gone_for_good() -> None:
    scenario = tiny(vanishing=Vanishing(share=0.25, at_s=2.0))
    campaign, (first, second), _ = run(scenario)
    gone = [host.name for host in campaign.place.peers if not host.alive]
    assert len(gone) == 3
    assert sorted(o.name for o in first.outcomes if o.crashed) == sorted(gone)
    assert len(second.outcomes) == TINY.peers - 3
    assert first.failures == second.failures == ()


def test_uplinks_degrade_and_recover() -> None:
    degrading = Degrading(share=0.25, factor=4.0, at_s=1.0, lasts_s=3.0)
    campaign, _, _ = run(tiny(degrading=degrading, hidden_slow_share=0.0))
    assert all(host.link.up == pytest.approx(host.told_up) for host in campaign.place.peers)
    forever = msgspec.structs.replace(degrading, lasts_s=None)
    campaign, _, _ = run(tiny(degrading=forever, hidden_slow_share=0.0))
    slower = [h for h in campaign.place.peers if h.link.up < h.told_up * 0.9]
    assert len(slower) == 3
    assert all(host.link.up == pytest.approx(host.told_up / 4) for host in slower)


def test_a_thin_link_between_data_centres_bounds_the_swarm() -> None:
    _, (report,), _ = run(tiny(files=1, judged_from=1, idcs=2, between_idcs=1e6))
    assert report.bound_s == pytest.approx(PIECES * PIECE_LENGTH_MIN / 1e6)
    assert report.failures == ()
    assert report.p50_s > report.bound_s / 4


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("client", [OWN, STOCK], ids=lambda client: client.name)
def test_every_piece_is_the_outcome_of_a_decision_that_named_its_parent(client: Client) -> None:
    _, reports, records = run(client=client)
    named: dict[str, set[str]] = defaultdict(set)
    for decision in of_kind(records, DecisionRecord):
        slots = np.frombuffer(decision.slots, dtype="<i4")
        assert len(slots) == len(decision.peer_ids)
        named[decision.decision_id] |= {
            peer for peer, slot in zip(decision.peer_ids, slots, strict=True) if slot >= 0
        }
    pieces = of_kind(records, PieceRecord)
    from_parents = [piece for piece in pieces if piece.parent_id]
    for piece in from_parents:
        assert piece.parent_id in named[piece.decision_id], piece
        assert piece.child_id == piece.decision_id.partition("#")[0]
        assert piece.parent_host_id
        assert piece.concurrency >= 1
    good = [piece for piece in from_parents if piece.result == "ok"]
    assert len(good) == len(reports) * TINY.peers * PIECES
    assert all(piece.traffic == "back_to_source" for piece in pieces if not piece.parent_id)


def test_times_of_a_try_follow_each_other() -> None:
    _, _, records = run()
    for piece in of_kind(records, PieceRecord):
        moments = [t for t in (piece.queue_s, piece.first_byte_s, piece.total_s) if t is not None]
        assert moments == sorted(moments), piece
        assert piece.at_s >= piece.total_s
        if piece.result == "ok":
            assert len(moments) == 3


def test_downloads_add_up_with_their_pieces() -> None:
    _, _, records = run()
    bytes_of: dict[str, int] = defaultdict(int)
    for piece in of_kind(records, PieceRecord):
        bytes_of[piece.child_id] += piece.length if piece.result == "ok" else 0
    downloads = of_kind(records, DownloadRecord)
    assert len(downloads) == TINY.files * (TINY.peers + 1)
    for download in downloads:
        total = download.from_peers_bytes + download.from_seeds_bytes + download.from_source_bytes
        assert total == bytes_of[download.child_id] == download.content_length == TINY.size
        assert download.result == "ok"
        assert (download.from_source_bytes > 0) == download.is_seed


def test_tries_that_were_stopped_and_failed_are_recorded_too() -> None:
    scenario = tiny(
        size=24 * PIECE_LENGTH_MIN,
        hidden_slow_factor=50.0,
        vanishing=Vanishing(share=0.2, at_s=8.0),
    )
    _, _, records = run(scenario)
    results = {piece.result for piece in of_kind(records, PieceRecord)}
    assert results == {"ok", "failed", "cancelled"}
    assert all(p.reason for p in of_kind(records, PieceRecord) if p.result != "ok")


# --- clients --------------------------------------------------------------------------------------


def asked_in_order(client: Client) -> float:
    """Share of the pieces whose try began after that of every lower piece of the download."""
    _, _, records = run(tiny(files=1, judged_from=1, size=24 * PIECE_LENGTH_MIN), client=client)
    asked: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for piece in of_kind(records, PieceRecord):
        if piece.parent_id and piece.result == "ok":
            asked[piece.child_id].append((piece.at_s - piece.total_s, piece.number))
    ascending = total = 0
    for tries in asked.values():
        highest = -math.inf
        for _, number in sorted(tries):
            ascending += number > highest
            highest = max(highest, number)
            total += 1
    return ascending / total


def test_the_stock_client_ascends_and_ours_does_not() -> None:
    assert asked_in_order(STOCK) > 0.95
    assert asked_in_order(OWN) < 0.6


def test_the_stock_client_asks_one_parent_for_eight_at_once() -> None:
    _, _, records = run(client=STOCK)
    assert max(piece.concurrency for piece in of_kind(records, PieceRecord)) == 8
    assert {p.reason for p in of_kind(records, PieceRecord)} <= {"", "ended", "stopped"}


def test_contents_of_all_sizes_come_one_after_the_other() -> None:
    sizes = (3, 0, 2 * PIECE_LENGTH_MIN + 1)
    mixed = tiny(sizes=sizes, files=3, size=max(sizes), judged_from=1)
    _, reports, _ = run(mixed)
    assert [report.size for report in reports] == list(sizes)
    for report in reports:
        assert all(outcome.error is None for outcome in report.outcomes)
    assert reports[0].bound_s < reports[2].bound_s


def test_who_joins_late_is_fed_by_those_who_have_it() -> None:
    late = tiny(joining=Joining(share=0.25, at_s=60.0), files=1, judged_from=1)
    _, (report,), _ = run(late)
    joined = [outcome for outcome in report.outcomes if outcome.started_at_s > 0]
    assert len(joined) == round(0.25 * late.peers)
    for outcome in joined:
        assert 30.0 <= outcome.started_at_s <= 90.0
        assert outcome.error is None
    assert report.givers[0].sent == late.size, "the source gave one copy"


def test_a_far_source_is_heard_of_later() -> None:
    def first_byte(source_delay_s: float | None) -> float:
        far = tiny(files=1, judged_from=1, size=1, source_delay_s=source_delay_s)
        _, (report,), _ = run(far)
        return min(outcome.ended_at_s or math.inf for outcome in report.outcomes)

    near_s, far_s = first_byte(None), first_byte(0.5)
    assert far_s - near_s == pytest.approx(4 * (0.5 - TINY.delay_s), abs=0.1)
