"""Precedence, origins, the environment, flags, and the words of a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.settings_file import load_text, refusal

from odonata.block_list import BlockList
from odonata.errors import SettingsError
from odonata.settings import load
from odonata.wire.message import TaskType
from peer.settings import DaemonSettings, Dynconfig
from scheduler.settings import SchedulerSettings

PORT = "proxy.server.port"
PORT_VARIABLE = "ODONATA_PROXY__SERVER__PORT"


# --- precedence and origin ------------------------------------------------------------------------


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    file = "proxy: {server: {port: 3}}"
    environ = {PORT_VARIABLE: "2"}
    overrides = {PORT: 1}
    for text, variables, flags, port, origin in (
        (file, environ, overrides, 1, "command line"),
        (file, environ, {}, 2, PORT_VARIABLE),
        (file, {}, {}, 3, "test.yaml:1"),
        ("", {}, overrides, 1, "command line"),
        ("", {}, {}, 65001, None),
    ):
        loaded = load_text(DaemonSettings, text, tmp_path, environ=variables, overrides=flags)
        assert loaded.settings.proxy.server.port == port
        leaf = loaded.origins.get(PORT)
        assert (leaf.place.label if leaf else None) == origin


def test_sources_are_laid_over_each_other_key_by_key(tmp_path: Path) -> None:
    settings = load_text(
        DaemonSettings,
        "upload: {server: {ip: 10.0.0.1, port: 1}}",
        tmp_path,
        environ={"ODONATA_UPLOAD__SERVER__PORT": "2"},
        overrides={"upload.disableShared": True},
    ).settings
    assert settings.upload.server.ip == "10.0.0.1"
    assert settings.upload.server.port == 2
    assert settings.upload.disable_shared


def test_a_list_is_replaced_as_a_whole(tmp_path: Path) -> None:
    settings = load_text(
        DaemonSettings,
        "scheduler: {addrs: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1']}",
        tmp_path,
        environ={"ODONATA_SCHEDULER__ADDRS": "10.9.9.9:1, 10.9.9.8:1"},
    ).settings
    assert settings.scheduler.addrs == ("10.9.9.9:1", "10.9.9.8:1")


def test_a_key_without_a_value_says_nothing(tmp_path: Path) -> None:
    text = "proxy:\n  server:\n    port:\nstorage:\nupload: ~\n"
    assert load_text(DaemonSettings, text, tmp_path).settings == DaemonSettings()


def test_old_words_are_understood_in_flags_too() -> None:
    overrides = {
        "proxy.tcpListen.port": "7",
        "scheduler.netAddrs": '[{type: tcp, addr: "10.0.0.1:8002"}]',
    }
    loaded = load(DaemonSettings, overrides=overrides)
    assert loaded.settings.proxy.server.port == 7
    assert loaded.settings.scheduler.addrs == ("10.0.0.1:8002",)
    assert loaded.origins[PORT].path == "proxy.tcpListen.port"


def test_an_old_word_in_the_file_gives_way_to_a_new_one_in_the_environment(tmp_path: Path) -> None:
    loaded = load_text(
        DaemonSettings, "proxy: {tcpListen: {port: 1}}", tmp_path, environ={PORT_VARIABLE: "2"}
    )
    assert loaded.settings.proxy.server.port == 2


def test_structures_fit_into_a_variable() -> None:
    environ = {
        "ODONATA_PROXY__RULES": "[{regex: 'blobs/sha256.*', useTLS: true}]",
        "ODONATA_BACKEND__REQUEST_HEADER": "{X-Site: berlin}",
        "ODONATA_HOST__IDC": "1",
        "ODONATA_STORAGE__KEEP": "false",
        "ODONATA_GC__POLICY__TASK_TTL": "2h",
    }
    settings = load(DaemonSettings, environ=environ).settings
    assert settings.proxy.rules[0].use_tls
    assert settings.backend.header() == {"X-Site": "berlin"}
    assert settings.host.idc == "1"
    assert not settings.storage.keep
    assert settings.gc.policy.task_ttl_s == 7200.0


def test_one_header_can_be_set_by_its_name() -> None:
    settings = load(DaemonSettings, overrides={"backend.requestHeader.X-Site": "berlin"}).settings
    assert settings.backend.header() == {"X-Site": "berlin"}


def test_an_unknown_variable_is_a_warning_with_the_nearest_name() -> None:
    """Not an error: the scheduler on the same host sees the daemon's variables."""
    environ = {"ODONATA_PROXY__SERVER__PROT": "1", "ODONATA_XYZ": "1", "HOME": "/root"}
    assert load(DaemonSettings, environ=environ).warnings == (
        (
            "ODONATA_PROXY__SERVER__PROT is not a setting of the daemon; "
            f"did you mean {PORT_VARIABLE}?"
        ),
        "ODONATA_XYZ is not a setting of the daemon",
    )


def test_variables_of_the_command_line_and_of_kubernetes_are_left_alone() -> None:
    environ = {
        "ODONATA_CONFIG": "/etc/odonata/daemon.yaml",
        "ODONATA_SCHEDULER_SERVICE_HOST": "10.96.0.1",
        "ODONATA_SCHEDULER_SERVICE_PORT_GRPC": "8002",
        "ODONATA_SCHEDULER_PORT": "tcp://10.96.0.1:8002",
        "ODONATA_SCHEDULER_PORT_8002_TCP_ADDR": "10.96.0.1",
    }
    loaded = load(DaemonSettings, environ=environ)
    assert loaded.warnings == ()
    assert loaded.settings == DaemonSettings(
        storage=loaded.settings.storage, download=loaded.settings.download
    )


def test_without_arguments_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT_VARIABLE, "9")
    assert load(DaemonSettings).settings.proxy.server.port == 65001


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "proxy: {server: {prot: 3}}",
            (
                "test.yaml:1: proxy.server.prot (3) is not a known key; "
                "did you mean proxy.server.port?"
            ),
        ),
        (
            "proxy:\n  tcpListen:\n    lisen: 0.0.0.0\n",
            (
                "test.yaml:3: proxy.tcpListen.lisen ('0.0.0.0') is not a known key; "
                "did you mean proxy.tcpListen.listen?"
            ),
        ),
        (
            "sheduler: {addrs: [a:1]}",
            (
                "test.yaml:1: sheduler.addrs[0] ('a:1') is not a known key; "
                "did you mean scheduler.addrs?"
            ),
        ),
        (
            "proxy: {rules: [{regex: a}, {regx: b}]}",
            (
                "test.yaml:1: proxy.rules[1].regx ('b') is not a known key; "
                "did you mean proxy.rules[].regex?"
            ),
        ),
        (
            "Proxy: {Server: {PORT: 1}}",
            (
                "test.yaml:1: Proxy.Server.PORT (1) is not a known key; "
                "did you mean proxy.server.port?"
            ),
        ),
        (
            "tcpPort: 1",
            "test.yaml:1: tcpPort (1) is not a known key; did you mean storage.server.tcpPort?",
        ),
        (
            "qqqqqq: 1",
            "test.yaml:1: qqqqqq (1) is not a known key; see `odonata config` for all keys",
        ),
        (
            "storage: {dir: {path: /data}}",
            (
                "test.yaml:1: storage.dir.path ('/data') is not a key: "
                "storage.dir holds a single value"
            ),
        ),
        (
            "qqqqqq: {}",
            "test.yaml:1: qqqqqq is not a known key; see `odonata config` for all keys",
        ),
        (
            "proxy: {server: {basicAuth: {username: u, pasword: 'p'}}}",
            (
                "test.yaml:1: proxy.server.basicAuth.pasword ('p') is not a known key; "
                "did you mean proxy.server.basicAuth.password?"
            ),
        ),
        (
            "proxy: {server: {basicAuth: {username: u, passwordd: 'p'}}}",
            (
                "test.yaml:1: proxy.server.basicAuth.passwordd (***) is not a known key; "
                "did you mean proxy.server.basicAuth.password?"
            ),
        ),
    ],
)
def test_an_unknown_key_names_place_key_value_and_the_nearest(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refusal(DaemonSettings, text, tmp_path) == message


def test_all_unknown_keys_are_named_at_once(tmp_path: Path) -> None:
    detail = refusal(DaemonSettings, "storage: {dri: /d}\nupload: {prot: 1}\n", tmp_path)
    assert [line.split(" ")[1] for line in detail.splitlines()] == ["storage.dri", "upload.prot"]


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load(SchedulerSettings, overrides={"server.prot": "1"})
    assert caught.value.detail == (
        "command line: server.prot ('1') is not a known key; did you mean server.port?"
    )


def test_the_same_thing_said_twice_with_two_values_is_refused(tmp_path: Path) -> None:
    text = "proxy:\n  server: {port: 1}\n  tcpListen: {port: 2}\n"
    assert refusal(DaemonSettings, text, tmp_path) == (
        "test.yaml:3: proxy.tcpListen.port says the same thing as proxy.server.port (test.yaml:2), "
        "but with another value: keep one of them"
    )
    same = text.replace("port: 2", "port: 1")
    assert load_text(DaemonSettings, same, tmp_path).settings.proxy.server.port == 1


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "proxy: {server: {port: 70000}}",
            (
                "test.yaml:1: proxy.server.port: 70000 is not a port: "
                "use 1 to 65535, or 0 to let the system choose"
            ),
        ),
        (
            "proxy: {tcpListen: {port: -1}}",
            (
                "test.yaml:1: proxy.tcpListen.port: -1 is not a port: "
                "use 1 to 65535, or 0 to let the system choose"
            ),
        ),
        (
            "proxy: {server: {port: http}}",
            "test.yaml:1: proxy.server.port: 'http' is not a whole number",
        ),
        (
            "proxy:\n  rules:\n    - regex: 'blobs/('\n",
            (
                "test.yaml:3: proxy.rules[0].regex: 'blobs/(' is not a regular expression: "
                "missing ), unterminated subpattern at position 6"
            ),
        ),
        (
            "proxy:\n  proxies:\n    - regx: '['\n",
            (
                "test.yaml:3: proxy.proxies[0].regx: '[' is not a regular expression: "
                "unterminated character set at position 0"
            ),
        ),
        (
            "download: {bandwidthLimit: fast}",
            (
                "test.yaml:1: download.bandwidthLimit: 'fast' is not a rate: write bytes or bits "
                "per second, such as 10MB/s, 512KiB/s, 100Mbit/s"
            ),
        ),
        (
            "gc: {policy: {diskThreshold: 5XB}}",
            (
                "test.yaml:1: gc.policy.diskThreshold: '5XB' is not a size: "
                "write a number and a unit, such as 512KiB, 4MiB, 50GB"
            ),
        ),
        (
            "upload: {bandwidthLimit: 0}",
            "test.yaml:1: upload.bandwidthLimit: 0 is too small: more than 0",
        ),
        (
            "download: {pieceTimeout: soon}",
            (
                "test.yaml:1: download.pieceTimeout: 'soon' is not a duration: "
                "write numbers with units, such as 500ms, 10s, 1m30s, 2h"
            ),
        ),
        (
            "download: {pieceTimeout: 30}",
            "test.yaml:1: download.pieceTimeout: 30 has no unit: write 30s, or 10s, 5m, 1h30m",
        ),
        (
            "scheduler: {addrs: ['nowhere']}",
            (
                "test.yaml:1: scheduler.addrs[0]: 'nowhere' is not an address: "
                "write host:port, such as 10.0.0.1:8002"
            ),
        ),
        (
            "scheduler: {addrs: 10.0.0.1:8002}",
            (
                "test.yaml:1: scheduler.addrs: '10.0.0.1:8002' is not a list: "
                "write [a, b], or one line with a dash for each"
            ),
        ),
        (
            "scheduler: {netAddrs: [{type: unix, addr: /run/x}]}",
            "test.yaml:1: scheduler.netAddrs: type 'unix' is not supported: only tcp",
        ),
        (
            "scheduler: {netAddrs: [{type: tcp}]}",
            "test.yaml:1: scheduler.netAddrs: an address needs addr: host:port",
        ),
        (
            "scheduler: {manager: {enable: true, netAddrs: [{addr: a:1}, {addr: b:1}]}}",
            "test.yaml:1: scheduler.manager.netAddrs: names 2 managers: name exactly one",
        ),
        (
            "host: {ip: node-7}",
            (
                "test.yaml:1: host.ip: 'node-7' is not an IP address: "
                "write it in digits, such as 10.0.0.1"
            ),
        ),
        (
            "storage: {keep: perhaps}",
            "test.yaml:1: storage.keep: 'perhaps' is not true or false",
        ),
        ("console: 3", "test.yaml:1: console: 3 is not true or false"),
        (
            "log: {level: loud}",
            "test.yaml:1: log.level: 'loud' is not one of 'debug', 'info', 'warning' or 'error'",
        ),
        (
            "gc: {policy: {diskHighThresholdPercent: 120}}",
            "test.yaml:1: gc.policy.diskHighThresholdPercent: 120 is too large: at most 100",
        ),
        (
            "gc: {policy: {diskHighThresholdPercent: 50, diskLowThresholdPercent: 60}}",
            (
                "test.yaml:1: gc.policy: diskLowThresholdPercent (60) must be below "
                "diskHighThresholdPercent (50)"
            ),
        ),
        (
            "download: {concurrentPieceCount: 1.5}",
            "test.yaml:1: download.concurrentPieceCount: 1.5 is not a whole number",
        ),
        (
            "download: {leastPieceLength: 3MiB}",
            (
                "test.yaml:1: download.leastPieceLength: 3MiB is no length of pieces: "
                "choose a power of two from 64KiB to 64MiB"
            ),
        ),
        (
            "download: {leastPieceLength: 32KiB}",
            (
                "test.yaml:1: download.leastPieceLength: 32KiB is no length of pieces: "
                "choose a power of two from 64KiB to 64MiB"
            ),
        ),
        ("proxy: 3", "test.yaml:1: proxy: 3 is not a mapping of keys to values"),
        (
            "proxy: {rules: [{useTLS: true}]}",
            "test.yaml:1: proxy.rules[0].regex: is missing: it has no default",
        ),
        (
            "proxy: {registryMirror: {addr: registry.test}}",
            (
                "test.yaml:1: proxy.registryMirror.addr: 'registry.test' is not a URL: "
                "write http://host or https://host"
            ),
        ),
        (
            "proxy: {server: {caCert: ca.crt}}",
            "test.yaml:1: proxy.server: caCert and caKey go together: set both or neither",
        ),
    ],
)
def test_a_wrong_value_names_place_key_value_and_fix(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refusal(DaemonSettings, text, tmp_path) == message


def test_a_socket_path_that_no_kernel_takes_is_refused(tmp_path: Path) -> None:
    path = f"/{'x' * 107}"
    detail = refusal(DaemonSettings, f"download: {{server: {{socketPath: {path}}}}}", tmp_path)
    assert detail.endswith(
        "has 108 bytes, too long for a unix socket: choose a path of at most 107 bytes"
    )
    load_text(DaemonSettings, f"download: {{server: {{socketPath: {path[:-1]}}}}}", tmp_path)


def test_all_wrong_values_are_named_at_once(tmp_path: Path) -> None:
    text = "proxy: {server: {port: 70000}}\nupload:\n  server: {port: 70001}\n"
    lines = refusal(DaemonSettings, text, tmp_path).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["test.yaml:3", "upload.server.port"],
        ["test.yaml:1", "proxy.server.port"],
    ]


def test_a_wrong_variable_is_named_by_its_name() -> None:
    with pytest.raises(SettingsError) as caught:
        load(DaemonSettings, environ={PORT_VARIABLE: "70000"})
    assert caught.value.detail.startswith(
        f"{PORT_VARIABLE}: proxy.server.port: 70000 is not a port"
    )


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    text = "backend: {requestHeader: {Authorization: [Bearer, hunter2hunter2]}}"
    detail = refusal(DaemonSettings, text, tmp_path)
    assert "hunter2" not in detail
    assert "backend.requestHeader" in detail


def test_the_scheduler_has_bounds_of_its_own(tmp_path: Path) -> None:
    assert refusal(SchedulerSettings, "scheduler: {candidateParentLimit: 21}", tmp_path) == (
        "test.yaml:1: scheduler.candidateParentLimit: 21 is too large: at most 20"
    )
    assert refusal(SchedulerSettings, "scheduler: {algorithm: magic}", tmp_path) == (
        "test.yaml:1: scheduler.algorithm: 'magic' is not one of "
        "'default', 'dragonfly', 'rule', 'random', 'round_robin' or 'learned'"
    )


# --- the file of schedulers -----------------------------------------------------------------------


def test_a_dynconfig_names_schedulers_sorted_and_once(tmp_path: Path) -> None:
    text = "scheduler: {addr: 'x:1', addrs: ['10.0.0.2:8002', '10.0.0.1:8002', '10.0.0.2:8002']}"
    settings = load_text(Dynconfig, text, tmp_path).settings
    assert settings.addresses() == ("10.0.0.1:8002", "10.0.0.2:8002")
    single = load_text(Dynconfig, "scheduler: {addr: 'x:1'}", tmp_path).settings
    assert single.addresses() == ("x:1",)
    assert load_text(Dynconfig, "", tmp_path).settings.addresses() == ()


def test_a_dynconfig_of_dragonfly_with_block_lists_loads(tmp_path: Path) -> None:
    text = """scheduler: {addr: 'x:1'}
clientConfig: {blockList: {task: {download: {tags: [a]}}, persistentTask: {upload: {tags: [b]}},
  persistentCacheTask: {upload: {tags: [c]}}}}
seedClientConfig: {blockList: {task: {download: {urls: [/private/], priorities: [6]}}}}
"""
    loaded = load_text(Dynconfig, text, tmp_path)
    assert loaded.settings.client_config.block_list.value() == BlockList(tags=("a",))
    imports = loaded.settings.client_config.block_list.imports()
    assert imports[TaskType.PERSISTENT] == BlockList()
    assert imports[TaskType.PERSISTENT_CACHE] == BlockList(tags=("c",))
    seeds = loaded.settings.seed_client_config.block_list.value()
    assert seeds == BlockList(urls=("/private/",), priorities=(6,))
    (warning,) = loaded.warnings
    assert warning == (
        "test.yaml:2: clientConfig.blockList.persistentTask.upload.tags[] has no effect: "
        "their requests don't say any"
    )


def test_a_block_list_with_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    text = "clientConfig:\n  blockList:\n    task: {download: {urls: ['a(']}}\n"
    said = refusal(Dynconfig, text, tmp_path)
    assert said.startswith("test.yaml:3: clientConfig.blockList.task.download.urls")
    assert "'a('" in said


def test_the_schedulers_metrics_are_dragonflys(tmp_path: Path) -> None:
    text = """metrics: {enable: true, addr: ":8000", enableHost: true}
scheduler: {algorithm: default}
"""
    loaded = load_text(SchedulerSettings, text, tmp_path)
    assert loaded.settings.metrics.enable
    assert loaded.settings.metrics.addr == ":8000"
    assert not loaded.settings.metrics.explain_remotely
    assert loaded.settings.metrics.enable_host
    assert not loaded.warnings


def test_a_learned_ranker_needs_a_model(tmp_path: Path) -> None:
    said = refusal(
        SchedulerSettings, "scheduler: {algorithm: learned}\nmodel: {enable: false}", tmp_path
    )
    assert "scheduler.algorithm is learned, but model.enable is false" in said
    settings = load_text(SchedulerSettings, "model: {enable: false}", tmp_path).settings
    assert not settings.model.enable


def test_the_model_is_looked_for_below_the_state_folder(tmp_path: Path) -> None:
    model = load_text(SchedulerSettings, "", tmp_path).settings.model
    assert model.dir == Path("/var/lib/odonata/models/parent-ranker")
    written = load_text(SchedulerSettings, "model: {budget: 2ms, checkInterval: 1s}", tmp_path)
    assert (written.settings.model.budget_s, written.settings.model.check_interval_s) == (0.002, 1)
    assert "too small" in refusal(SchedulerSettings, "model: {checkInterval: 1ms}", tmp_path)
