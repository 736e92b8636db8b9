"""Single values and their bounds; names derived from attributes; default folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from manager.settings import ManagerSettings
from odonata.settings.dialect import DAEMON, MANAGER, SCHEDULER, Dialect
from odonata.settings.place import runtime_dir, state_dir
from odonata.settings.schema import Shape, schema_of
from odonata.settings.section import Section, Settings, key_of
from odonata.settings.value import (
    WRITTEN,
    ByteCount,
    BytesPerS,
    HostPort,
    HttpUrl,
    Ip,
    ListenAddress,
    Pattern,
    Port,
    Seconds,
    split_listen_address,
)
from peer.settings import DaemonSettings, Dynconfig, StorageServerSettings, StorageSettings
from scheduler.settings import SchedulerSettings

MODELS: list[type[Settings]] = [DaemonSettings, Dynconfig, SchedulerSettings, ManagerSettings]


def read(kind: Any, value: object) -> Any:
    return TypeAdapter[Any](kind).validate_python(value, context=WRITTEN)


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (Seconds, "1m30s", 90.0),
        (Seconds, "0s", 0.0),
        (Seconds, 0, 0.0),
        (ByteCount, "4MiB", 4 << 20),
        (ByteCount, 17, 17),
        (BytesPerS, "100Mbit/s", 12_500_000),
        (BytesPerS, "1024Mi", 1 << 30),
        (Port, 0, 0),
        (Port, 65535, 65535),
        (Port, "8002", 8002),
        (HostPort, "scheduler.test:8002", "scheduler.test:8002"),
        (HostPort, "[::1]:8002", "[::1]:8002"),
        (ListenAddress, ":8000", ":8000"),
        (ListenAddress, "127.0.0.1:0", "127.0.0.1:0"),
        (ListenAddress, "[::1]:8000", "[::1]:8000"),
        (Ip, "::0001", "::1"),
        (Pattern, "blobs/sha256.*", "blobs/sha256.*"),
        (HttpUrl, "https://index.docker.io", "https://index.docker.io"),
    ],
)
def test_what_is_taken(kind: Any, written: object, value: object) -> None:
    assert read(kind, written) == value


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (Seconds, "5"),
        (Seconds, 5),
        (Seconds, 1.5),
        (Seconds, "-1s"),
        (ByteCount, "-1"),
        (ByteCount, -1),
        (BytesPerS, "0B"),
        (Port, 65536),
        (Port, -1),
        (HostPort, ":8002"),
        (HostPort, "host:"),
        (HostPort, "host:0"),
        (HostPort, "host:65536"),
        (HostPort, "::1:8002"),
        (HostPort, "http://host:8002"),
        (ListenAddress, "8000"),
        (ListenAddress, "127.0.0.1"),
        (ListenAddress, "127.0.0.1:"),
        (ListenAddress, "127.0.0.1:65536"),
        (ListenAddress, "127.0.0.1:-1"),
        (ListenAddress, "localhost:8000"),
        (ListenAddress, "::1:8000"),
        (ListenAddress, "[127.0.0.1:8000"),
        (Ip, "localhost"),
        (Ip, "10.0.0.300"),
        (Pattern, "("),
        (Pattern, "a" * 4097),
        (HttpUrl, "ftp://h.test"),
        (HttpUrl, "https://"),
    ],
)
def test_what_is_refused(kind: Any, written: object) -> None:
    with pytest.raises(ValidationError):
        read(kind, written)


@pytest.mark.parametrize(
    ("addr", "parts"),
    [
        (":8000", ("0.0.0.0", 8000)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8000", ("::1", 8000)),
    ],
)
def test_an_address_to_listen_on_has_two_parts(addr: str, parts: tuple[str, int]) -> None:
    assert split_listen_address(addr) == parts


@given(st.integers(-100_000, 100_000))
def test_ports_end_at_65535(number: int) -> None:
    if 0 <= number <= 65535:
        assert read(Port, number) == number
    else:
        with pytest.raises(ValidationError, match="is not a port"):
            read(Port, number)


def test_in_python_numbers_are_in_the_unit_of_the_name() -> None:
    assert DaemonSettings().download.piece_timeout_s == 30.0
    settings = StorageSettings(dir=Path("/x"), server=StorageServerSettings(tcp_port=0))
    assert settings.server.tcp_port == 0
    with pytest.raises(ValidationError, match="frozen"):
        settings.keep = False  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("attribute", "key"),
    [
        ("port", "port"),
        ("task_ttl_s", "taskTTL"),
        ("bandwidth_limit_bytes_per_s", "bandwidthLimit"),
        ("disk_threshold_bytes", "diskThreshold"),
        ("advertise_ip", "advertiseIP"),
        ("scheduler_cluster_id", "schedulerClusterID"),
        ("tcp_port", "tcpPort"),
        ("ca_cert", "caCert"),
        ("broker_db", "brokerDB"),
        ("peer_gc_interval_s", "peerGCInterval"),
        ("use_tls", "useTLS"),
        ("enable_task_id_based_blob_digest", "enableTaskIDBasedBlobDigest"),
        ("addrs", "addrs"),
    ],
)
def test_keys_follow_from_attributes(attribute: str, key: str) -> None:
    assert key_of(attribute) == key


@pytest.mark.parametrize("model", MODELS)
def test_each_setting_has_a_variable_of_its_own(model: type[Section]) -> None:
    schema = schema_of(model)
    single = [s for s in schema.settings.values() if "[]" not in s.path]
    variables = [s.variable for s in single if s.shape is not Shape.SECTION]
    assert len(set(variables)) == len(variables) > 0
    assert all(name.startswith("ODONATA_") and name.isupper() for name in variables)


def test_variables_by_name() -> None:
    schema = schema_of(DaemonSettings)
    assert schema.variables()["ODONATA_DOWNLOAD__SERVER__SOCKET_PATH"].path == (
        "download.server.socketPath"
    )
    assert schema.variables()["ODONATA_GC__POLICY__TASK_TTL"].path == "gc.policy.taskTTL"
    assert "ODONATA_PROXY__RULES__REGEX" not in schema.variables()


@pytest.mark.parametrize(
    ("dialect", "model"),
    [(DAEMON, DaemonSettings), (SCHEDULER, SchedulerSettings), (MANAGER, ManagerSettings)],
)
def test_the_tables_lead_to_keys_that_exist(dialect: Dialect, model: type[Settings]) -> None:
    """A renamed model field must not leave an old word behind that leads nowhere."""
    schema = schema_of(model)
    for rename in dialect.renames:
        assert not rename.new or schema.find(rename.new), rename
        assert not schema.find(rename.old), f"{rename.old} is a key of today"
    keys = [ignored.key for ignored in dialect.ignored]
    assert len(set(keys)) == len(keys), "said twice"


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "uid", "state", "runtime"),
    [
        ({}, 0, "/var/lib/odonata", "/run/odonata"),
        ({"HOME": "/root", "XDG_STATE_HOME": "/x"}, 0, "/var/lib/odonata", "/run/odonata"),
        (
            {"HOME": "/h/u"},
            1000,
            "/h/u/.local/state/odonata",
            "/h/u/.local/state/odonata",
        ),
        (
            {"HOME": "/h/u", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/1000"},
            1000,
            "/s/odonata",
            "/run/user/1000/odonata",
        ),
        (
            {"HOME": "/h/u", "XDG_STATE_HOME": "relative", "XDG_RUNTIME_DIR": ""},
            1000,
            "/h/u/.local/state/odonata",
            "/h/u/.local/state/odonata",
        ),
    ],
)
def test_default_folders(environ: dict[str, str], uid: int, state: str, runtime: str) -> None:
    assert state_dir(environ, uid) == Path(state)
    assert runtime_dir(environ, uid) == Path(runtime)
    defaults = DaemonSettings.computed_defaults(environ, uid)
    assert defaults["storage.dir"] == state
    assert defaults["download.server.socketPath"] == f"{runtime}/daemon.sock"


def test_a_user_without_a_home_gets_a_folder_of_its_own() -> None:
    assert state_dir({}, 1000) != state_dir({}, 1001)
    assert state_dir({}, 1000).is_absolute()
