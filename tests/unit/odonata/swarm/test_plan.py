"""Who belongs to a local swarm: names, ports, files, and what a user can get wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from odonata.errors import CallerError, StorageError
from odonata.swarm.plan import IP, SwarmOptions, make_plan


def test_members_have_ports_of_their_own(tmp_path: Path) -> None:
    plan = make_plan(SwarmOptions(peers=3, seeds=2), tmp_path)
    assert [member.name for member in plan.daemons] == [
        "seed-1",
        "seed-2",
        "peer-1",
        "peer-2",
        "peer-3",
    ]
    assert [member.name for member in plan.peers] == ["peer-1", "peer-2", "peer-3"]
    ports: list[int] = [plan.scheduler.port]
    for member in plan.daemons:
        settings = json.loads(member.config.read_text())
        piece = settings["storage"]["server"]["tcpPort"]
        ports += [member.port, member.proxy_port, piece]
        assert settings["scheduler"]["addrs"] == [f"{IP}:{plan.scheduler.port}"]
        assert settings["seedPeer"]["enable"] is member.seed
    assert len(set(ports)) == len(ports)


def test_rates_are_those_of_each_daemon(tmp_path: Path) -> None:
    options = SwarmOptions(
        peers=1, upload_rate_bytes_per_s=16_000_000, download_rate_bytes_per_s=32_000_000
    )
    settings = json.loads(make_plan(options, tmp_path).peers[0].config.read_text())
    assert settings["upload"]["bandwidthLimit"] == "16000000"
    assert settings["download"]["bandwidthLimit"] == "32000000"


def test_a_slow_peer_says_what_the_others_say(tmp_path: Path) -> None:
    options = SwarmOptions(
        peers=2,
        upload_rate_bytes_per_s=16_000_000,
        seed_upload_rate_bytes_per_s=32_000_000,
        slow=("peer-2",),
        slow_rate_bytes_per_s=1_600_000,
    )
    plan = make_plan(options, tmp_path)
    seed, first, slow = (json.loads(member.config.read_text())["upload"] for member in plan.daemons)
    assert seed["bandwidthLimit"] == "32000000"
    assert first["bandwidthLimit"] == "16000000"
    assert (slow["bandwidthLimit"], slow["announcedBandwidth"]) == ("1600000", "16000000")


def test_telemetry_and_models_may_lie_elsewhere(tmp_path: Path) -> None:
    plan = make_plan(SwarmOptions(peers=1), tmp_path / "swarm", tmp_path / "kept")
    assert plan.telemetry == tmp_path / "kept" / "telemetry"
    settings = json.loads(plan.scheduler.config.read_text())
    assert settings["model"]["dir"] == str(plan.models) == str(tmp_path / "kept" / "models")
    for member in plan.members:
        assert json.loads(member.config.read_text())["telemetry"]["dir"] == str(plan.telemetry)


def test_a_taken_port_is_passed_over(tmp_path: Path) -> None:
    with socket.socket() as taken:
        first = make_plan(SwarmOptions(peers=1), tmp_path).scheduler.port
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((IP, first))
        taken.listen(1)
        assert make_plan(SwarmOptions(peers=1), tmp_path).scheduler.port != first


@pytest.mark.parametrize("peers", [0, -1, 65])
def test_number_of_peers_is_checked(tmp_path: Path, peers: int) -> None:
    with pytest.raises(CallerError, match=rf"--peers {peers}: choose a number from 1 to 64"):
        make_plan(SwarmOptions(peers=peers), tmp_path)


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="too long for a unix socket"):
        make_plan(SwarmOptions(peers=1), tmp_path / ("x" * 120))


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose a folder you may write to"):
        make_plan(SwarmOptions(peers=1), tmp_path / "file" / "below")
