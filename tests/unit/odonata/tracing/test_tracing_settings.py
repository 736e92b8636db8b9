"""The tracing section in Dragonfly's words, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.settings_file import load_text

from odonata.errors import SettingsError
from peer.settings import DaemonSettings
from scheduler.settings import SchedulerSettings

DRAGONFLY = """tracing:
  protocol: http
  endpoint: "otel:4318"
  path: /v1/traces
  service-name: my-scheduler
  headers: {Authorization: Bearer abcdef123456}
"""


@pytest.mark.parametrize("model", [SchedulerSettings, DaemonSettings])
def test_dragonflys_keys_are_read_without_a_warning(
    model: type[SchedulerSettings | DaemonSettings], tmp_path: Path
) -> None:
    loaded = load_text(model, DRAGONFLY, tmp_path)
    tracing = loaded.settings.tracing
    assert loaded.warnings == ()
    assert tracing.is_on
    assert (tracing.protocol, tracing.endpoint) == ("http", "otel:4318")
    assert (tracing.path, tracing.service_name) == ("/v1/traces", "my-scheduler")
    assert tracing.header() == {"Authorization": "Bearer abcdef123456"}
    assert "abcdef" not in repr(loaded.settings)


@pytest.mark.parametrize(
    "text", ["", "tracing: {protocol: grpc}", 'tracing: {protocol: "", endpoint: ""}']
)
def test_without_an_endpoint_it_is_off(text: str, tmp_path: Path) -> None:
    assert not load_text(SchedulerSettings, text, tmp_path).settings.tracing.is_on


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('tracing: {endpoint: "otel:4317"}', "tracing.protocol is not set: say grpc"),
        ("tracing: {protocol: udp, endpoint: a:1}", "tracing.protocol"),
        ('tracing: {protocol: http, endpoint: "http://otel:4318"}', "write host:port"),
        ("tracing: {samplingRatio: 2}", "tracing.samplingRatio"),
        ("tracing: {path: traces}", "tracing.path"),
    ],
)
def test_what_can_not_be_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load_text(SchedulerSettings, text, tmp_path)
    assert words in refused.value.detail
