"""Policies as settings of processes: what each host is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.swarm.ground import Loopback
from bench.swarm.member import member_words
from bench.swarm.policy import ABLATIONS, policy_named
from bench.swarm.rule_change import rules_of
from bench.swarm.scheduler_change import changed
from bench.swarm.world import SCHEDULER, Scale, WorldPlan, plan_world, scaled

from odonata.settings.loading import load
from peer.runtime.daemon_parts import limits_of
from peer.settings import DaemonSettings
from scheduler.core.limits import Limits
from scheduler.settings import SchedulerSettings
from simulator.scenario_file import load_scenario


@pytest.fixture
def world() -> WorldPlan:
    return plan_world("lognormal", scaled(load_scenario("lognormal"), Scale(peers=10)), 1)


def written(world: WorldPlan, host: str, policy: str, folder: Path) -> Any:
    words = member_words(world.host(host), world, policy_named(policy), Loopback(), folder)
    assert words[4] == ("stock" if policy == "dragonfly" else "own")
    return json.loads((folder / f"{host}.yaml").read_text())


@pytest.mark.parametrize("policy", ["rule", "dragonfly", "random", "learned"])
def test_every_settings_file_is_one(world: WorldPlan, policy: str, tmp_path: Path) -> None:
    written(world, SCHEDULER, policy, tmp_path)
    read = load(SchedulerSettings, file=tmp_path / f"{SCHEDULER}.yaml").settings
    assert (read.scheduler.algorithm, read.scheduler.exploration) == (policy, 0.0)
    assert (read.model.dir / "current" / "manifest.json").exists() == (policy == "learned")
    written(world, "seed1", policy, tmp_path)
    assert load(DaemonSettings, file=tmp_path / "seed1.yaml").settings.seed_peer.enable


def test_a_slow_host_says_what_it_would_have_and_keeps_what_it_has(
    world: WorldPlan, tmp_path: Path
) -> None:
    (slow,) = (host for host in world.peers if host.is_slow)
    upload = written(world, slow.name, "rule", tmp_path)["upload"]
    told, kept = int(upload["announcedBandwidth"]), int(upload["bandwidthLimit"])
    assert told == pytest.approx(10 * kept, rel=1e-3)
    upload = written(world, slow.name, "dragonfly", tmp_path)["upload"]
    assert int(upload["announcedBandwidth"]) == 1_250_000_000, "unless it is limited"


def test_stock_daemons_refuse_nobody_and_nobody_has_a_scheduler_without_a_swarm(
    world: WorldPlan, tmp_path: Path
) -> None:
    assert written(world, "peer1", "dragonfly", tmp_path)["upload"]["slots"] >= 1_000_000
    assert "slots" not in written(world, "peer1", "rule", tmp_path)["upload"]
    assert "slots" not in written(world, "seed1", "eight-slots", tmp_path)["upload"]
    assert written(world, "peer1", "direct", tmp_path)["scheduler"]["addrs"] == []


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_rule_of_one_core(
    world: WorldPlan, name: str, tmp_path: Path
) -> None:
    policy = ABLATIONS[name]
    changes = (policy.client_rules, policy.scheduler_rules, policy.peer_slots)
    assert sum(map(bool, changes)) == 1
    if policy.peer_slots:
        assert written(world, "peer1", name, tmp_path)["upload"]["slots"] == policy.peer_slots
        return
    host = "peer1" if policy.client_rules else SCHEDULER
    words = member_words(world.host(host), world, policy, Loopback(), tmp_path)
    rules = rules_of(words[5:])
    if policy.client_rules:
        own = limits_of(DaemonSettings())
        assert msgspec.structs.replace(own, **rules) != own
    else:
        limits = Limits()
        assert changed(limits, rules) != limits
